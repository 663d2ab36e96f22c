"""Every mapped table, for Alembic and the tests."""

import broker.audit.tables
import broker.credentials.tables
import broker.grants.tables
import broker.identity.oidc.tables
import broker.identity.tables
import broker.incidents.tables
import broker.intake.tables
import broker.keystore.internal
import broker.keystore.needed
import broker.keystore.orphans
import broker.leaks.tables
import broker.leases.tables
import broker.notifications.tables
import broker.organizations.tables
import broker.reviews.tables
import broker.web.tables  # noqa: F401 - each declares its tables
from broker.base.db import Table

METADATA = Table.metadata
