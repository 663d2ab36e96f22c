"""What the worker does about rotations, from time to time."""

from __future__ import annotations

from broker.base.duty import Duty, few_at_once
from broker.credentials.checks import Checks
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.verification import Verification
from broker.intake.submission import Submissions
from broker.parts import Parts
from broker.rotations.minting import Minting
from broker.rotations.requests import Rotating
from broker.rotations.retirement import retirable, retire
from broker.rotations.revocation_check import RevocationCheck
from broker.rotations.schedule import ask_for_due, notify_overdue

_AGES_MS = 600_000


def duties(
    parts: Parts, verification: Verification, submissions: Submissions, rotating: Rotating, *, ahead_days: int
) -> tuple[Duty, ...]:
    """The duties about rotations.

    ``ahead_days`` is how long before the present keys are due new ones are asked for.
    """
    minting = Minting(parts, verification)
    revocations = RevocationCheck(parts, verification, minting)

    async def confirm(row: VersionRow) -> bool:
        """Ask an upstream whether a key that is out of use here is dead there too."""
        return await verification.or_later(row, revocations.probe(row))

    async def make(row: RotationRow) -> bool:
        await minting.carry_on(row, submissions.settle)
        return True

    confirming = Checks(parts, revocations.waiting, confirm)
    making = Checks(parts, minting.waiting, make)

    async def retire_due() -> None:
        await few_at_once(await retirable(parts.db, parts.clock), lambda row: retire(parts.db, parts.clock, row))

    async def ask() -> None:
        await ask_for_due(parts, rotating, ahead_days=ahead_days)
        await notify_overdue(parts)

    return (
        # Customers are asked to revoke, by how long it took.
        Duty("confirm_revocations", confirming.run, final=True),
        Duty("make_keys", making.run, final=True),  # keys are made and revoked upstream
        Duty("retire_due", retire_due, final=True),  # a key is revoked, and destroyed
        # Customers are asked for keys, operators notified of late ones.
        Duty("ask_for_due", ask, every=_AGES_MS, final=True),
    )
