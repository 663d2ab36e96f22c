"""Ask a customer to replace a key: a rotation and its one-time link, opened and given up together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog
from sqlalchemy import String, and_, case, cast, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor
from broker.audit.record import record
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import Invalid
from broker.credentials import age, rotation
from broker.credentials.rotation import Plan, RotationOpen
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.credentials.telling import tell_of
from broker.credentials.turns import declared
from broker.credentials.versions import Place, UnlawfulMove, versions_of
from broker.formats import linkproof, linksecret
from broker.intake import links, submitting
from broker.intake.links import Making
from broker.intake.submitting import Next
from broker.intake.tables import IntakeRow
from broker.notifications.notices import tell
from broker.notifications.tables import NoticeRow
from broker.providers.catalog import Catalog

_log = structlog.get_logger()

_WEEK_MS = 7 * age.DAY_MS


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask, and how: ``contact`` empty takes the credential's own; ``hours`` is how long the link lasts."""

    contact: str = ""
    purpose: str = ""
    hours: int = links.DEFAULT_HOURS


@dataclass(frozen=True, slots=True)
class Rotating:
    """Opens rotations that a customer answers."""

    making: Making
    catalog: Catalog

    async def ask(
        self,
        session: AsyncSession,
        actor: Actor,
        credential: CredentialRow,
        plan: Plan,
        asking: Asking,
        *,
        now: int,
        told: bool = True,
    ) -> tuple[RotationRow, IntakeRow, str]:
        """Open a rotation and its link; the rows, and the link's secret part, shown this once.

        ``told`` False leaves it to the caller to tell the customer.

        Raises:
            RotationOpen, UnlawfulMove: as :func:`~broker.credentials.rotation.begin`. Invalid: nobody to ask.
        """
        contact = asking.contact or credential.contact
        if not contact and plan.kind not in {"urgent", "automatic"}:
            raise Invalid("contact: name the Organization Admin's e-mail address; none is known for this key.")
        row = await rotation.begin(session, actor, credential, plan, now=now)
        place = Place(credential.organization_id, self.catalog.get(credential.provider), credential.label)
        wanted = links.Wanted(place, contact, asking.purpose, asking.hours, actor.name)
        intake, secret = await links.request(session, self.making, actor, wanted, now=now, rotation=row)
        row.intake_id = intake.id
        if told:
            await tell(
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
        await record(session, rotation.event_of(row, "rotation.opened", actor, now, reason=plan.kind, note=plan.reason))
        return row, intake, secret

    async def mint(
        self, session: AsyncSession, actor: Actor, credential: CredentialRow, plan: Plan, *, now: int
    ) -> RotationRow:
        """Open a rotation whose key the broker makes by the provider's API; nobody is asked.

        Raises:
            RotationOpen, UnlawfulMove: as :func:`~broker.credentials.rotation.begin`.
        """
        row = await rotation.begin(session, actor, credential, replace(plan, kind="minted"), now=now)
        await record(session, rotation.event_of(row, "rotation.opened", actor, now, reason="minted", note=plan.reason))
        return row

    def mints(self, credential: CredentialRow) -> bool:
        """Whether the provider's API makes this credential's keys."""
        return self.catalog.get(credential.provider).rotate is not None

    async def link_again(
        self, session: AsyncSession, actor: Actor, row: RotationRow, *, now: int
    ) -> tuple[str, str] | None:
        """The intake and secret of a new link to a rotation's request whose own doesn't work any more; else None."""
        if row.state != "requested" or row.intake_id is None:
            return None
        asked = await links.get(session, row.intake_id, lock=True)
        if asked.state == "open" and asked.expires_at > now:
            return None
        intake, secret = await self._replace(session, actor, asked.id, now)
        return intake.id, secret

    async def by_customer(
        self, session: AsyncSession, actor: Actor, credential: CredentialRow, status_key: bytes, *, now: int
    ) -> IntakeRow:
        """The customer wants to submit a new key now: a fresh link to the open request, or a request of their own.

        The link's secret is made of the key of their status code, so that it need not be sent.  A new key that upstream
        refuses is given up for the next one.

        Raises:
            RotationOpen: a key was submitted already, or the broker makes it. UnlawfulMove: the credential was revoked.
        """

        def derived(intake: str, recipient: bytes) -> str:
            return linksecret.link(linkproof.next_secret(status_key, intake, recipient), recipient)

        drawing = replace(self, making=replace(self.making, draw=derived))
        versions = await versions_of(session, credential.id)
        row = await rotation.open_of(session, credential.id)
        first = await submitting.first_request(session, credential.id, versions.values())
        step = submitting.following(credential, versions.values(), row, first)
        if step in submitting.REFUSALS:
            raise RotationOpen(submitting.REFUSALS[step])
        if step is Next.ANSWER:
            known = first.id if first is not None else None
            asked = row.intake_id if row is not None else known
            assert asked is not None
            return (await drawing._replace(session, actor, asked, now))[0]
        if row is not None:
            await submitting.give_up(session, actor, row, now=now)
        return (await drawing.ask(session, actor, credential, Plan("customer"), Asking(), now=now))[1]

    async def _replace(self, session: AsyncSession, actor: Actor, intake_id: str, now: int) -> tuple[IntakeRow, str]:
        return await links.replace(session, self.making, actor, intake_id, links.DEFAULT_HOURS, now=now)


async def cancel(session: AsyncSession, actor: Actor, rotation_id: str, *, reason: str, now: int) -> RotationRow:
    """Give a rotation up, with its link.

    Raises:
        RotationRefused: its key is in use already (``cancel_from_…``).
    """
    await rotation.find(session, rotation_id)
    # Locked before the record is, as a submission does.
    intake = await session.scalar(select(IntakeRow).where(IntakeRow.rotation_id == rotation_id).with_for_update())
    row = await rotation.cancel(session, actor, rotation_id, reason=reason, now=now)
    if intake is not None and intake.state in {"open", "verifying", "held"}:
        intake.state, intake.private_sealed, intake.settled_at = "cancelled", None, now
        await record(session, links.event(intake, "intake.cancelled", actor, now))
    return row


async def ask_for_due(db: Database, rotating: Rotating, clock: Clock, *, ahead_days: int, limit: int = 50) -> int:
    """Ask customers for new keys ``ahead_days`` before the present ones are due, or make them; how many rotations.

    One that was given up is not asked for again within a week.
    """
    now = clock()
    lately = (
        select(RotationRow.id)
        .where(RotationRow.credential_id == CredentialRow.id, RotationRow.ended_at > now - _WEEK_MS)
        .exists()
    )
    due = age.due_at(rotating.catalog) <= now + ahead_days * age.DAY_MS
    known = declared(CredentialRow.provider, rotating.catalog)
    async with db.read(EVERY_TENANT) as session:
        query = age.with_active_keys().where(due, known, age.without_open_rotation(), ~lately)
        found = list(await session.scalars(query.limit(limit)))
    asked = 0
    for credential in found:
        try:
            await _ask_for(db, rotating, credential, now)
        except (RotationOpen, UnlawfulMove):  # somebody was faster
            continue
        except Exception:  # noqa: BLE001 - the others' time has come too
            _log.exception("rotation.not_asked_for", credential=credential.id)
            continue
        asked += 1
    return asked


async def _ask_for(db: Database, rotating: Rotating, known: CredentialRow, now: int) -> None:
    async with db.write(Scope.of(known.organization_id)) as session:
        credential = await session.get_one(CredentialRow, known.id)
        plan = Plan("automatic", "the key's time has come")
        if rotating.mints(credential):
            await rotating.mint(session, BROKER, credential, plan, now=now)
        else:
            await rotating.ask(session, BROKER, credential, plan, Asking(hours=links.LONGEST_HOURS), now=now)


async def tell_overdue(db: Database, catalog: Catalog, clock: Clock, limit: int = 500) -> None:
    """Tell about keys in use whose time is over: once when it is, and once more when their maximum age is reached."""
    now = clock()
    due, too_old = age.due_at(catalog) <= now, age.too_old_at() <= now
    refused = and_(too_old, CredentialRow.on_max_age == "refuse")
    kind = case((refused, "key_too_old"), else_="key_overdue")
    name = kind + "/" + CredentialRow.id + "/" + cast(VersionRow.number, String) + case((too_old, "/max"), else_="")
    told = select(NoticeRow.id).where(
        NoticeRow.organization_id == CredentialRow.organization_id, NoticeRow.dedup == name
    )
    async with db.read(EVERY_TENANT) as session:
        query = age.with_active_keys().where(due, ~told.exists())
        rows = await session.execute(query.with_only_columns(CredentialRow, VersionRow, refused, name).limit(limit))
        found = [(row[0], row[1], row[2], row[3]) for row in rows]
    for credential, version, is_refused, dedup in found:
        async with db.write(Scope.of(credential.organization_id)) as session:
            await tell_of(
                session,
                "key_too_old" if is_refused else "key_overdue",
                credential,
                version=version.number,
                now=now,
                dedup=dedup,
                facts={"last4": version.last4, "days": (now - version.staged_at) // age.DAY_MS},
            )
