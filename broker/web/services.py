"""What routes work with: every service, wired once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from broker.audit.timekeeping import Timekeeping
from broker.credentials.certificates import Certificates
from broker.credentials.verification import Verification
from broker.identity.access_tokens import AccessTokens
from broker.identity.device_sign_in import DeviceSignIns
from broker.identity.dpop.proof import Proofs
from broker.identity.federation.exchange import Federation
from broker.identity.jobs import Jobs
from broker.identity.oidc.logout import Logout
from broker.identity.oidc.sign_in import SignIn
from broker.identity.passkeys import Passkeys
from broker.identity.signing import SigningKeys
from broker.identity.token_endpoint import TokenEndpoint
from broker.intake.proving import Links
from broker.intake.submission import Submissions
from broker.keystore.census import Census
from broker.leaks.reports import Reports
from broker.leases.leasing import Leasing
from broker.leases.snapshot import SnapshotCache
from broker.notifications.outbox import Outbox
from broker.parts import Parts
from broker.proxy.call import Proxy
from broker.proxy.in_flight import InFlightCalls
from broker.rotations.requests import Rotating
from broker.siem.export import Exporter
from broker.web.logo import Logo
from broker.web.metrics import Metrics
from broker.web.texts import Texts


@dataclass(frozen=True, slots=True)
class Options:
    """What whoever runs the broker chose, as far as routes go by it."""

    public_url: str
    vendor_name: str
    vendor_contact: str
    vendor_logo: Logo | None
    vendor_privacy: str
    texts: Texts
    rotation_ahead_days: int
    allow_client_secrets: bool
    approval: bool
    review_days: int
    refusals: float
    private_webhooks: bool
    one_time_token_file: Path
    witness_quorum: int
    log_ml_dsa: bool


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that routes call, wired once in ``broker.app``."""

    parts: Parts
    options: Options
    signing: SigningKeys
    access_tokens: AccessTokens
    proofs: Proofs
    jobs: Jobs
    token_endpoint: TokenEndpoint
    federation: Federation
    passkeys: Passkeys
    sign_in: SignIn
    device_sign_ins: DeviceSignIns
    logout: Logout
    verification: Verification
    certificates: Certificates
    snapshots: SnapshotCache
    leasing: Leasing
    links: Links
    submissions: Submissions
    in_flight: InFlightCalls
    proxy: Proxy
    rotating: Rotating
    outbox: Outbox
    reports: Reports
    metrics: Metrics
    timekeeping: Timekeeping
    exporter: Exporter
    census: Census


async def services(request: Request) -> Services:
    """The wired services of this application.

    It is a coroutine because FastAPI runs plain functions in a thread.
    """
    wired = request.app.state.services
    assert isinstance(wired, Services)
    return wired


Wired = Annotated[Services, Depends(services)]
