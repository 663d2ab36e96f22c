"""What is over is pruned from time to time."""

from __future__ import annotations

from broker.base.clock import Clock
from broker.base.db import Database
from broker.base.duty import Duty
from broker.base.pruning import Page, Walk
from broker.pruning import leases
from broker.pruning.keeping import Keeping
from broker.pruning.notices import Notices
from broker.pruning.requests import Requests
from broker.pruning.use_days import OrganizationDays, UseDays

_EVERY_MS = 60_000


def duties(db: Database, clock: Clock, keeping: Keeping) -> tuple[Duty, ...]:
    """The duties, one for each kind of rows; what is deleted doesn't come back."""
    notices, requests = Notices(keeping.notices), Requests(keeping.requests)
    pages: dict[str, Page] = {
        "leases": leases.Leases(keeping.leases).page,
        "use_days": UseDays(keeping.leases).page,
        "organization_days": OrganizationDays(keeping.leases).page,
        "guards": leases.guards,
        "quotas": leases.quotas,
        "intakes": requests.intakes,
        "rotations": requests.rotations,
        "evidence": requests.evidence,
        "deliveries": notices.deliveries,
        "notices": notices.notices,
    }
    return tuple(
        Duty(f"prune_{name}", Walk(db, clock, page).go_on, every=_EVERY_MS, final=True) for name, page in pages.items()
    )
