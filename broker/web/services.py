"""What routes work with: every service, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from broker.audit.log import AuditLog
from broker.audit.timekeeping import Timekeeping
from broker.base.clock import Timepiece
from broker.base.db import Database
from broker.credentials.verification import Verification
from broker.identity.access_tokens import AccessTokens
from broker.identity.jobs import Jobs
from broker.identity.signing import SigningKeys
from broker.identity.token_endpoint import TokenEndpoint
from broker.intake.proving import Links
from broker.intake.submission import Submissions
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.leaks.reports import Reports
from broker.leases.leasing import Leasing
from broker.notifications.outbox import Outbox
from broker.providers.catalog import Catalog
from broker.proxy.call import Proxy
from broker.proxy.in_flight import InFlightCalls
from broker.rotations.requests import Rotating
from broker.web.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes call, wired once in ``broker.app``."""

    db: Database
    audit: AuditLog
    keystore: Keystore
    keys: InternalKeys
    catalog: Catalog
    signing: SigningKeys
    access_tokens: AccessTokens
    jobs: Jobs
    token_endpoint: TokenEndpoint
    verification: Verification
    leasing: Leasing
    links: Links
    submissions: Submissions
    in_flight: InFlightCalls
    proxy: Proxy
    rotating: Rotating
    outbox: Outbox
    reports: Reports
    metrics: Metrics
    clock: Timepiece
    timekeeping: Timekeeping
    public_url: str
    vendor_name: str
    vendor_contact: str
    rotation_ahead_days: int
    allow_client_secrets: bool
    approval: bool
    refusals: float
    one_time_token_file: Path


async def services(request: Request) -> Services:
    """The wired services of this application (a coroutine, as FastAPI runs plain functions in a thread)."""
    wired = request.app.state.services
    assert isinstance(wired, Services)
    return wired


Wired = Annotated[Services, Depends(services)]
