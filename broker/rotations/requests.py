"""Ask a customer to replace a key: a rotation and its link, opened together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis
from broker.base.errors import Invalid
from broker.credentials import rotation
from broker.credentials.rotation import Plan, RotationOpen
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import CredentialRow, RotationRow
from broker.credentials.versions import CredentialAddress, versions_of
from broker.formats import link_proof, link_secret
from broker.formats.ids import IntakeId
from broker.intake import links
from broker.intake.lifecycle import IntakeState
from broker.intake.links import Draw
from broker.intake.tables import IntakeRow
from broker.notifications.notices import notify
from broker.parts import Parts
from broker.rotations import next_key
from broker.rotations.next_key import Next

_log = structlog.get_logger()

_WEEK_MS = 7 * DAY_MS


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask, and how.

    ``contact`` empty takes the credential's own.  ``hours`` is how long the link lasts.
    """

    contact: str = ""
    purpose: str = ""
    hours: int = links.DEFAULT_HOURS


@dataclass(frozen=True, slots=True)
class Rotating:
    """Opens rotations that a customer answers; ``draw`` makes the secrets of their links."""

    parts: Parts
    draw: Draw = links.at_random

    async def ask(
        self,
        session: AsyncSession,
        actor: Actor,
        credential: CredentialRow,
        plan: Plan,
        asking: Asking,
        *,
        now: Millis,
        notified: bool = True,
    ) -> tuple[RotationRow, IntakeRow, str]:
        """Open a rotation and its link; the rows, and the link's secret part, shown this once.

        ``notified`` False leaves it to the caller to notify the customer.

        Raises:
            RotationOpen, UnlawfulMove: as :func:`~broker.credentials.rotation.begin`.
            Invalid: there is nobody to ask.
        """
        # rotation (2) the rotation and its link are opened together
        contact = asking.contact or credential.contact
        if not contact and plan.kind not in {"urgent", "automatic"}:
            raise Invalid("contact: name the Organization Admin's e-mail address; none is known for this key.")
        row = await rotation.begin(session, actor, credential, plan, now=now)
        address = CredentialAddress(
            credential.organization_id, self.parts.catalog.get(credential.provider), credential.label
        )
        wanted = links.Wanted(address, contact, asking.purpose, asking.hours, actor.name)
        intake, secret = await links.request(session, self.parts, actor, wanted, now=now, rotation=row, draw=self.draw)
        row.intake_id = intake.id
        if notified:
            await notify(
                session,
                "rotation_requested",
                organization=row.organization_id,
                provider=row.provider,
                credential=row.credential_id,
                version=row.from_version or 0,
                now=now,
                contact=contact,
                dedup=f"rotation_requested/{row.id}",
                facts={"rotation": row.id, "intake": intake.id, "label": credential.label},
            )
        await record(session, Event.about(row, "rotation.opened", actor, now, reason=plan.kind, note=plan.reason))
        return row, intake, secret

    async def mint(
        self, session: AsyncSession, actor: Actor, credential: CredentialRow, plan: Plan, *, now: Millis
    ) -> RotationRow:
        """Open a rotation whose key the broker makes by the provider's API; no customer is asked.

        Raises:
            RotationOpen, UnlawfulMove: as :func:`~broker.credentials.rotation.begin`.
        """
        row = await rotation.begin(session, actor, credential, replace(plan, kind="minted"), now=now)
        await record(session, Event.about(row, "rotation.opened", actor, now, reason="minted", note=plan.reason))
        return row

    def mints(self, credential: CredentialRow) -> bool:
        """Whether the provider's API makes this credential's keys."""
        return self.parts.catalog.get(credential.provider).rotate is not None

    async def link_again(
        self, session: AsyncSession, actor: Actor, row: RotationRow, *, now: Millis
    ) -> tuple[str, str] | None:
        """Replace the link of a rotation's request, if the present one doesn't work any more.

        Returns:
            The intake and the new link's secret; None if there is no new link.
        """
        if row.state != RotationState.REQUESTED or row.intake_id is None:
            return None
        asked = await links.get(session, row.intake_id, lock=True)
        if asked.state == IntakeState.OPEN and asked.expires_at > now:
            return None
        intake, secret = await self._replace(session, actor, asked.id, now)
        return intake.id, secret

    async def by_customer(
        self, session: AsyncSession, actor: Actor, credential: CredentialRow, status_key: bytes, *, now: Millis
    ) -> IntakeRow:
        """The customer wants to submit a new key now.

        They get a new link to the open request, or a request of their own.  The link's secret is made of the key of
        their status code, so that it need not be sent.  If the upstream refuses the present new key, that is given up.

        Raises:
            RotationOpen: a key was submitted already, or the broker makes it.
            UnlawfulMove: the credential was revoked.
        """

        def derived(intake: IntakeId, recipient: bytes) -> str:
            return link_secret.link(link_proof.next_secret(status_key, intake, recipient), recipient)

        drawing = replace(self, draw=derived)
        versions = await versions_of(session, credential.id)
        row = await rotation.open_of(session, credential.id)
        first = await next_key.first_request(session, credential.id, versions.values())
        step = next_key.following(credential, versions.values(), row, first)
        if step in next_key.REFUSALS:
            raise RotationOpen(next_key.REFUSALS[step])
        if step is Next.ANSWER:
            known = first.id if first is not None else None
            asked = row.intake_id if row is not None else known
            assert asked is not None
            return (await drawing._replace(session, actor, asked, now))[0]
        if row is not None:
            await next_key.give_up(session, actor, row, now=now)
        return (await drawing.ask(session, actor, credential, Plan("customer"), Asking(), now=now))[1]

    async def _replace(
        self, session: AsyncSession, actor: Actor, intake_id: IntakeId, now: Millis
    ) -> tuple[IntakeRow, str]:
        return await links.replace(session, self.parts, actor, intake_id, now=now, draw=self.draw)
