"""What the worker does about links, and keys that came over them, from time to time."""

from __future__ import annotations

from broker.base.duty import Duty
from broker.credentials.checks import Checks
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verdict, Verification
from broker.formats.ids import IntakeId
from broker.intake.links import expire_due, expire_over
from broker.intake.proving import Links
from broker.intake.submission import Submissions
from broker.parts import Parts


def duties(parts: Parts, verification: Verification, submissions: Submissions, links: Links) -> tuple[Duty, ...]:
    """The duties about links."""

    async def verify(row: VersionRow) -> bool:
        """Ask an upstream again about a key that it could not answer for."""
        verdict = await verification.or_later(
            row,
            verification.run(
                organization=row.organization_id,
                credential_id=row.credential_id,
                number=row.number,
                also=submissions.settle,
            ),
        )
        return verdict is not Verdict.UNREACHABLE

    verifying = Checks(parts, verification.waiting, verify)

    looked_through: IntakeId | None = None

    async def expire_links() -> None:
        nonlocal looked_through
        await expire_due(parts.db, parts.clock)
        looked_through = await expire_over(parts.db, parts.clock, looked_through)

    return (
        Duty("verify_due", verifying.run),  # the upstream decides; until it does, it is asked again
        Duty("expire_links", expire_links, final=True),  # private keys are destroyed; until then a link is refused
        Duty("forget_proofs", links.forget, final=True),  # what was used once could be used again
    )
