"""Whether the upstream still takes the keys in use.

It is asked on a schedule, and when a job's call met a bad-key answer.

An endpoint may answer 401 for its own reasons, so a job's answer only makes the key suspect.  The declared verification
decides.  Once it says "bad key" the version is failing, and nothing is leased or used under it until a probe succeeds.
The previous key serves meanwhile if it is still retiring.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, String, bindparam, func, literal_column, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis, later
from broker.base.db import EVERY_TENANT, Scope, table
from broker.base.validity import Validity
from broker.care.outages import notify_outage
from broker.credentials import due, evidence, rotation
from broker.credentials.cooldown import cool_down, not_before
from broker.credentials.lifecycle import USABLE, Health, State
from broker.credentials.notices import notify_of
from broker.credentials.probe import Answer, Probed
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.verification import Verification, retry_ms
from broker.credentials.versions import FIRST_CHECK_MS, share_of, versions_of
from broker.formats.ids import CredentialId
from broker.notifications.notices import Kind as NoticeKind
from broker.organizations.tables import OrganizationRow
from broker.parts import Parts

# One bad-key answer in so long makes a key suspect, so that no job can make the broker hammer the upstream.
QUIET_MS = 30_000
# When a suspect's check is due: before every scheduled one, however many are late.
_AT_ONCE = Millis(0)
# So often the upstream may say that it is asked too fast before that counts as an outage.
_PATIENCE = 3

# Commands that move versions hold their rows and then wait for the record's head, which a batch with this in it holds
# already.  So it passes over what is locked.  If a key that is being moved stays in use, the next bad-key answer makes
# it suspect.
_SUSPECTED = (
    select(VersionRow.credential_id, VersionRow.number)
    .where(
        VersionRow.credential_id == bindparam("suspect"),
        VersionRow.number == bindparam("suspect_number"),
        or_(VersionRow.state == bindparam("active"), VersionRow.state == bindparam("retiring")),
        or_(VersionRow.next_probe_at.is_(None), VersionRow.next_probe_at > bindparam("at_once")),
        or_(
            VersionRow.health_at.is_(None),
            VersionRow.health_at < bindparam("quiet_since"),
            VersionRow.health_at > bindparam("quiet_until"),  # the clock stepped back since
        ),
    )
    .with_for_update(skip_locked=True)
)
SUSPECT = (
    update(table(VersionRow))
    .where(tuple_(VersionRow.credential_id, VersionRow.number).in_(_SUSPECTED))
    .values(next_probe_at=bindparam("at_once"))
)


# A good answer about a key that was healthy is written with its event, in the record's batch: of these there are most.
# It counts if the version is due as it was when the upstream was asked, and passes over what is locked, likewise.
_UNCHANGED = (
    select(VersionRow.credential_id, VersionRow.number)
    .where(
        VersionRow.credential_id == bindparam("checked"),
        VersionRow.number == bindparam("checked_number"),
        VersionRow.state == bindparam("checked_state"),
        VersionRow.health == bindparam("healthy"),
        VersionRow.next_probe_at == bindparam("was_due"),
    )
    .with_for_update(skip_locked=True)
)
CHECKED = (
    update(table(VersionRow))
    .where(tuple_(VersionRow.credential_id, VersionRow.number).in_(_UNCHANGED))
    .values(
        probes=literal_column("0"),
        health_at=bindparam("now"),
        next_probe_at=bindparam("next"),
        leak_mark=func.coalesce(VersionRow.leak_fingerprint, bindparam("mark", type_=String)),
    )
)


def suspicion(credential: CredentialId, number: int, now: Millis) -> dict[str, object]:
    """The parameters of :data:`SUSPECT`, which belongs to the event of the bad-key answer."""
    return {
        "suspect": credential,
        "suspect_number": number,
        "active": str(State.ACTIVE),
        "retiring": str(State.RETIRING),
        "quiet_since": now - QUIET_MS,
        "quiet_until": now + QUIET_MS,
        "at_once": _AT_ONCE,
    }


def spread(credential: CredentialId, hours: int) -> int:
    """Milliseconds between two checks of a key: ``hours`` give or take a fifth.

    Each credential has its own share, so keys that came into use together drift apart.
    """
    return int(hours * 3_600_000 * (0.8 + 0.4 * share_of(credential)))


_COMPLETED: Final = "credential.probe.completed"
# Rows that are made due in one statement.
PAGE = 100


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Probes keys in use; safe to run on several processes at once."""

    parts: Parts
    verification: Verification

    def suspects(self) -> list[due.Span[VersionRow]]:
        """Versions in use that a job's call made suspect."""
        return [due.Span(VersionRow, state, None, _AT_ONCE) for state in sorted(USABLE)]

    def scheduled(self) -> list[due.Span[VersionRow]]:
        """Versions in use whose time has come."""
        now = self.parts.clock()
        return [due.Span(VersionRow, state, _AT_ONCE, now) for state in sorted(USABLE)]

    async def catch_up(self) -> None:
        """Make due what was set before the clock stepped back.

        It would wait until the old time comes again.
        """
        now = self.parts.clock()
        never = VersionRow.health_at.is_(None)
        while await self._make_due(VersionRow.health_at > now + QUIET_MS, VersionRow.next_probe_at > now, now=now):
            pass
        while await self._make_due(never, VersionRow.next_probe_at > now + FIRST_CHECK_MS, now=now):
            pass

    async def _make_due(self, *late: ColumnElement[bool], now: Millis) -> bool:
        """Make a page of versions due; whether there may be more."""
        key = tuple_(VersionRow.credential_id, VersionRow.number)
        page = select(VersionRow.credential_id, VersionRow.number).where(
            *late,
            # Looked at, not looked for: nearly all keys are in such a state, few were checked at such a time.
            func.coalesce(VersionRow.state, "").in_(sorted(USABLE)),
            VersionRow.next_probe_at.is_not(None),
        )
        async with self.parts.db.write(EVERY_TENANT) as session:
            made = await session.execute(
                update(VersionRow)
                .where(key.in_(page.limit(PAGE)))
                .values(next_probe_at=now)
                .returning(VersionRow.number)
            )
            return len(made.all()) == PAGE

    async def probe(self, row: VersionRow) -> bool:
        """Probe one version and act on the answer.

        Returns:
            False if the upstream gave no answer about the key.
        """
        scope = Scope.of(row.organization_id)
        async with self.parts.db.read(scope) as session:
            credential, until = await self._as_it_is(session, row)
            known = await evidence.shown_by(session, row.credential_id, row.number)
        if until is not None:
            await self._put_off(row, until)
            return True
        probed = await self.verification.probe(row, credential)
        if self._is_as_expected(row, probed, known):
            await self.parts.audit.append(
                Event.about(row, _COMPLETED, BROKER, self.parts.clock(), **probed.event_fields()),
                writes=[(CHECKED, self._checked(row, probed))],
            )
            return True
        # Whether people were notified of an outage already is seen across tenants only.
        wide = probed.answer is Answer.UNREACHABLE
        async with self.parts.db.write(EVERY_TENANT if wide else scope) as session:
            present = (await versions_of(session, row.credential_id)).get(row.number)
            # What was answered is about the key as it was asked about.  If somebody else was answered meanwhile, or a
            # job's call made it suspect, then theirs is newer, and so is what they decided about the next check.
            if present is not None and present.state in USABLE and present.next_probe_at == row.next_probe_at:
                await self._settle(session, credential, present, probed)
            else:
                await record(session, Event.about(row, _COMPLETED, BROKER, self.parts.clock(), **probed.event_fields()))
        return probed.answer is not Answer.UNREACHABLE

    async def _as_it_is(self, session: AsyncSession, row: VersionRow) -> tuple[CredentialRow, Millis | None]:
        """A version's credential, and when to look again if its key may not be used now."""
        now = self.parts.clock()
        query = (
            select(CredentialRow, OrganizationRow.state)
            .join(OrganizationRow, OrganizationRow.id == CredentialRow.organization_id)
            .where(CredentialRow.id == row.credential_id)
        )
        credential, state = (await session.execute(query)).one()
        if Validity.REVOKED in {credential.state, state} or row.sealed is None:
            return credential, later(now, due.HOUR_MS)
        return credential, await not_before(session, credential, self.parts.catalog, now)

    async def _put_off(self, row: VersionRow, until: Millis) -> None:
        same = VersionRow.credential_id == row.credential_id, VersionRow.number == row.number
        still = VersionRow.state.in_(sorted(USABLE)), VersionRow.next_probe_at == row.next_probe_at
        async with self.parts.db.write(Scope.of(row.organization_id)) as session:
            await session.execute(update(VersionRow).where(*same, *still).values(next_probe_at=until))

    def _is_as_expected(self, row: VersionRow, probed: Probed, known: Set[str]) -> bool:
        """Whether there is nothing to decide, to tell people or to learn."""
        good = probed.answer is Answer.GOOD and row.health == Health.HEALTHY and not probed.cooldown
        return good and self.verification.hashed(row, probed) <= known

    def _checked(self, row: VersionRow, probed: Probed) -> dict[str, object]:
        """The parameters of :data:`CHECKED`."""
        now = self.parts.clock()
        return {
            "checked": row.credential_id,
            "checked_number": row.number,
            "checked_state": row.state,
            "healthy": str(Health.HEALTHY),
            "was_due": row.next_probe_at,
            "now": now,
            "next": self._next(row, now),
            "mark": probed.leak_fingerprint,
        }

    def _next(self, row: VersionRow, now: Millis) -> Millis | None:
        """When a key that was found good is asked about again."""
        hours = self.parts.catalog.get(row.provider).verify.every_hours
        return later(now, spread(row.credential_id, hours)) if row.state == State.ACTIVE else None

    async def _settle(self, session: AsyncSession, credential: CredentialRow, row: VersionRow, probed: Probed) -> None:
        now = self.parts.clock()
        changed = self._note(row, probed, now)
        row.leak_fingerprint = row.leak_fingerprint or probed.leak_fingerprint
        events = [Event.about(row, _COMPLETED, BROKER, self.parts.clock(), **probed.event_fields())]
        await cool_down(session, row.credential_id, probed.cooldown, now)
        if probed.answer is Answer.GOOD:
            await evidence.learn(session, row, self.verification.hashed(row, probed))
        if changed is not None:
            if Health.FAILING in changed:  # an outage changes no decision, unless a refusal lies behind it
                await raise_epoch(session, row.credential_id)
            events.append(Event.about(row, f"credential.version.{_EVENTS[changed[1]]}", BROKER, now))
            failing = changed[1] is Health.FAILING
            # rotation (10) the upstream refuses the new key, or takes it again
            about = await rotation.judged_by_upstream(session, BROKER, row, failing=failing, now=now)
            events += about
            if not about:
                await self._notify(session, credential, row, changed, now)
        await record(session, *events)

    def _note(self, row: VersionRow, probed: Probed, now: Millis) -> tuple[Health, Health] | None:
        """Note what the upstream said, and when to ask again.

        Returns:
            The health before and now; None if it is the same.
        """
        before = Health(row.health)
        limited = probed.too_fast and row.probes < _PATIENCE
        found = {
            Answer.GOOD: Health.HEALTHY,
            Answer.BAD_KEY: Health.FAILING,
            # Refused once and unreachable now: still refused, as far as anybody knows.
            Answer.UNREACHABLE: before if limited or before is Health.FAILING else Health.UNREACHABLE,
        }[probed.answer]
        if probed.answer is Answer.GOOD:
            row.probes, row.next_probe_at = 0, self._next(row, now)
        else:
            row.next_probe_at = later(now, max(retry_ms(row.probes), int(probed.cooldown * 1000)))
            row.probes += 1
        row.health, row.health_at = found, now
        return (before, found) if found is not before else None

    async def _notify(
        self,
        session: AsyncSession,
        credential: CredentialRow,
        row: VersionRow,
        changed: tuple[Health, Health],
        now: Millis,
    ) -> None:
        before, found = changed
        if found is Health.UNREACHABLE:
            await notify_outage(session, row, now=now)
        elif before is not Health.UNREACHABLE or found is Health.FAILING:  # an outage that ended is no news
            kind: NoticeKind = "key_failing" if found is Health.FAILING else "key_recovered"
            await notify_of(session, kind, credential, version=row.number, now=now, facts={"last4": row.last4})


_EVENTS = {Health.FAILING: "failing", Health.HEALTHY: "recovered", Health.UNREACHABLE: "unreachable"}
