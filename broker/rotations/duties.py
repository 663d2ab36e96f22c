"""What the worker does about rotations, from time to time."""

from __future__ import annotations

from broker.base.duty import Duty, in_turn, together
from broker.credentials.verification import Verification
from broker.intake.submission import Submissions
from broker.parts import Parts
from broker.rotations.minting import Minting
from broker.rotations.requests import Rotating
from broker.rotations.retirement import retirable, retire
from broker.rotations.revocation_check import RevocationCheck
from broker.rotations.schedule import ask_for_due, notify_overdue

# Looking for keys whose time has come reads every key in use.
_AGES_MS = 600_000


def duties(
    parts: Parts, verification: Verification, submissions: Submissions, rotating: Rotating, *, ahead_days: int
) -> tuple[Duty, ...]:
    """The duties about rotations.

    ``ahead_days`` is how long before the present keys are due new ones are asked for.
    """
    minting = Minting(parts, verification)
    revocations = RevocationCheck(parts, verification, minting)

    async def confirm_revocations() -> None:
        """Ask upstreams whether keys that are out of use here are dead there too."""
        await in_turn(
            await revocations.due(),
            lambda row: row.provider,
            lambda row: verification.or_later(row, revocations.probe(row)),
        )

    async def make_keys() -> None:
        await together(*(minting.carry_on(row, submissions.settle) for row in await minting.due()))

    async def retire_due() -> None:
        await together(*(retire(parts.db, parts.clock, row) for row in await retirable(parts.db, parts.clock)))

    async def ask() -> None:
        await ask_for_due(parts, rotating, ahead_days=ahead_days)
        await notify_overdue(parts)

    return (
        # Customers are asked to revoke, by how long it took.
        Duty("confirm_revocations", confirm_revocations, final=True),
        Duty("make_keys", make_keys, final=True),  # keys are made and revoked upstream
        Duty("retire_due", retire_due, final=True),  # a key is revoked, and destroyed
        # Customers are asked for keys, operators notified of late ones.
        Duty("ask_for_due", ask, every=_AGES_MS, final=True),
    )
