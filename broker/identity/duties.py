"""What is to be done about who calls, from time to time."""

from __future__ import annotations

from broker.base.clock import DAY_MS, Clock
from broker.base.db import EVERY_TENANT, Database
from broker.base.duty import Duty
from broker.base.pruning import forget as forget_rows
from broker.formats.ids import NoId, OperatorId
from broker.identity import challenges, operators
from broker.identity.tables import AssertionRow, DeviceSignInRow, LinkRow, SessionRow

_HOUR_MS = 3_600_000


def duties(db: Database, clock: Clock) -> tuple[Duty, ...]:
    """The duties about accounts and workloads."""

    async def forget() -> None:
        """A day late, so that no clock makes an assertion fresh again."""
        await forget_rows(db, AssertionRow, AssertionRow.expires_at < clock() - DAY_MS, AssertionRow.expires_at)

    async def forget_ceremonies() -> None:
        await challenges.forget_used(db, clock())

    async def forget_sessions() -> None:
        """A day late, as well: until then they show where somebody was."""
        await forget_rows(db, SessionRow, SessionRow.ends_at < clock() - DAY_MS, SessionRow.ends_at)

    async def forget_links() -> None:
        await forget_rows(db, LinkRow, LinkRow.expires_at < clock() - DAY_MS, LinkRow.expires_at)

    async def forget_devices() -> None:
        """A day late, as well: until then whoever is late is told why."""
        past = DeviceSignInRow.expires_at < clock() - DAY_MS
        await forget_rows(db, DeviceSignInRow, past, DeviceSignInRow.expires_at)

    async def remind() -> None:
        after: OperatorId | NoId | None = ""
        while after is not None:
            async with db.write(EVERY_TENANT) as session:
                after = await operators.remind(session, clock(), after)

    return (
        Duty("forget_assertions", forget, final=True),  # what was used once could be used again
        Duty("forget_ceremonies", forget_ceremonies, final=True),  # likewise
        Duty("forget_sessions", forget_sessions, final=True),  # whoever was in one would have to sign in again
        Duty("forget_links", forget_links, final=True),  # an admin would have to make another one
        Duty("forget_device_sign_ins", forget_devices, final=True),  # whoever began one would have to begin again
        Duty("remind_of_accounts", remind, every=_HOUR_MS, final=True),  # operators are told once
    )
