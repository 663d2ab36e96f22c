"""What the worker does about keys in use, from time to time."""

from __future__ import annotations

from broker.base.duty import Duty
from broker.care.age import date_keys
from broker.care.health import HealthCheck
from broker.credentials.checks import Checks
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verification
from broker.parts import Parts

_CATCH_UP_MS = 600_000
# Providers' files change with a start; a broker that was just elected dates the keys first of all.
_DATE_MS = 600_000


def duties(parts: Parts, verification: Verification) -> tuple[Duty, ...]:
    """The duties about keys in use."""
    health = HealthCheck(parts, verification)

    async def check(row: VersionRow) -> bool:
        return await verification.or_later(row, health.probe(row))

    # A job's call made a key suspect.  These have a duty of their own: no backlog of others is before them.
    suspects, scheduled = Checks(parts, health.suspects, check), Checks(parts, health.scheduled, check)

    async def date() -> None:
        await date_keys(parts)

    return (
        Duty("date_keys", date, every=_DATE_MS),
        Duty("catch_up", health.catch_up, every=_CATCH_UP_MS),
        # As the upstream says; the next check may say otherwise.
        Duty("check_suspects", suspects.run),
        Duty("check_health", scheduled.run),
    )
