"""What everything above needs: one value, built once and handed on whole."""

from __future__ import annotations

from dataclasses import dataclass

from broker.audit.log import AuditLog
from broker.base.clock import Timepiece
from broker.base.db import Database
from broker.base.outbound import Outbound
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.providers.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Parts:
    """One process's own.  Whoever is handed them keeps them: nobody asks a colleague for theirs."""

    db: Database
    audit: AuditLog
    keystore: Keystore
    keys: InternalKeys
    catalog: Catalog
    outbound: Outbound
    clock: Timepiece
