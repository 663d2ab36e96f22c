"""What the worker does about keys in use, from time to time."""

from __future__ import annotations

from broker.base.duty import Duty, in_turn
from broker.care.health import HealthCheck
from broker.credentials.verification import Verification
from broker.parts import Parts

_CATCH_UP_MS = 600_000


def duties(parts: Parts, verification: Verification) -> tuple[Duty, ...]:
    """The duties about keys in use."""
    health = HealthCheck(parts, verification)

    async def check_health() -> None:
        """Ask upstreams about suspects, and about all keys on a schedule.

        A job's call made a key suspect.
        """
        await in_turn(
            await health.due(), lambda row: row.provider, lambda row: verification.or_later(row, health.probe(row))
        )

    return (
        Duty("catch_up", health.catch_up, every=_CATCH_UP_MS),
        Duty("check_health", check_health),  # as the upstream says; the next check may say otherwise
    )
