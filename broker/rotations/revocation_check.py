"""Make sure that a key which is out of use here is dead upstream too, and stays dead.

Upstream, a new key doesn't revoke the old one: the customer has to.  So the broker keeps asking the upstream with the
old key, ever less often, until it is refused.  Only then is the revocation confirmed, which is certified.  Until then
the customer is asked and reminded, and operators learn if it takes too long.

A dead key is kept for a month more, for these probes alone: the upstream is asked again after a day, a week and a
month, and then it is destroyed.  If it takes the key again, that is certified as well, people are told, and all begins
once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Scope
from broker.credentials import certificates, due
from broker.credentials.certificates import again_at
from broker.credentials.lifecycle import State
from broker.credentials.moves import destroy
from broker.credentials.notices import notify_of
from broker.credentials.probe import Answer, Probed
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.traces import Traces, traces_of
from broker.credentials.verification import Verification
from broker.credentials.versions import versions_of
from broker.formats.certificate import Answered, Certificate, Moment
from broker.notifications.notices import Kind as NoticeKind
from broker.parts import Parts
from broker.rotations.minting import Minting

_MINUTE_MS = 60_000
# Until the next probe, by how many there were.  A customer who is asked to revoke often does so within the hour.
_PROBE_MS = tuple(minutes * _MINUTE_MS for minutes in (1, 5, 15, 60, 180, 720, 1440))
# After so many days the customer is asked and reminded; from the fourth time on operators are called too.
_ASKED_AFTER_DAYS = (0, 3, 7, 14, 30, 60, 90)
_OVERDUE_FROM = 4
# A dead key about which the upstream doesn't answer is destroyed after so many days: a week after the last time to ask.
_GIVEN_UP_DAYS = 37
# While the upstream can't be asked, nobody is bothered for so long: most outages have ended by then.
_SILENT_DAYS = 1


@dataclass(frozen=True, slots=True)
class _Probe:
    """A probe of a version, whose row is locked, and what the upstream answered.

    ``first`` is what its first certificate needs of the record.  ``stale`` says that another probe, or a person, came
    before.
    """

    credential: CredentialRow
    row: VersionRow
    probed: Probed
    first: Traces | None
    stale: bool
    completed: Event

    @property
    def answered(self) -> Answered:
        """The upstream's answer, for a certificate."""
        assert self.probed.outcome.status is not None
        return Answered(self.probed.outcome.status, self.completed.time, self.completed.id)


@dataclass(frozen=True, slots=True)
class RevocationCheck:
    """Probes revoked versions; safe to run on several processes at once."""

    parts: Parts
    verification: Verification
    minting: Minting

    def waiting(self) -> list[due.Span[VersionRow]]:
        """Revoked versions whose probe is due.

        The upstream may still take their keys, or take them again.
        """
        return due.spans(VersionRow, State.REVOKED, self.parts.clock(), DAY_MS)

    async def probe(self, row: VersionRow) -> bool:
        """Probe one version and act on the answer.

        Returns:
            False if the upstream gave no answer about the key.
        """
        scope = Scope.of(row.organization_id)
        async with self.parts.db.read(scope) as session:
            credential = await session.get(CredentialRow, row.credential_id)
            known = await certificates.newest(session, self.parts.keys, row.credential_id, row.number)
        if credential is None or row.sealed is None:
            return True
        if row.confirmed_at is None:
            await self.minting.delete_retired(credential, row)
        elif known is not None and await self._rests(row, row.confirmed_at, known):
            return True
        probed = await self.verification.probe(row, credential, committing=known is None)
        needed = known is None and probed.answer is Answer.BAD_KEY
        traces = await traces_of(self.parts.db, row) if needed else None
        async with self.parts.db.write(scope) as session:
            present = (await versions_of(session, row.credential_id)).get(row.number)
            if present is None or present.state != State.REVOKED or present.sealed is None:
                return True
            stale = present.next_probe_at != row.next_probe_at
            fields = probed.event_fields()
            completed = Event.about(present, "credential.probe.completed", BROKER, self.parts.clock(), **fields)
            await self._settle(session, _Probe(credential, present, probed, traces, stale, completed))
        return probed.answer is not Answer.UNREACHABLE

    async def _rests(self, row: VersionRow, confirmed_at: Millis, known: Certificate) -> bool:
        """Whether the time hasn't come yet to ask about a dead key again, or is over."""
        now = self.parts.clock()
        if row.probes and now >= later(confirmed_at, _GIVEN_UP_DAYS * DAY_MS):
            await self._give_up(row)
            return True
        again = again_at(confirmed_at, Millis(known.answered.time))
        if again is None or again <= now:
            return False
        same = VersionRow.credential_id == row.credential_id, VersionRow.number == row.number
        async with self.parts.db.write(Scope.of(row.organization_id)) as session:
            await session.execute(
                update(VersionRow)
                .where(*same, VersionRow.next_probe_at == row.next_probe_at)
                .values(next_probe_at=_within_a_day(again, now))
            )
        return True

    async def _give_up(self, row: VersionRow) -> None:
        """Destroy a dead key that the upstream doesn't answer about any more."""
        async with self.parts.db.write(Scope.of(row.organization_id)) as session:
            present = (await versions_of(session, row.credential_id)).get(row.number)
            if present is None or present.state != State.REVOKED or present.sealed is None:
                return
            now = self.parts.clock()
            destroy(present, now)
            gone = Event.about(present, "credential.version.destroyed", BROKER, now, reason="unanswered")
            await record(session, gone, *await certificates.destroyed(session, self.parts.keys, present, gone))

    async def _settle(self, session: AsyncSession, probe: _Probe) -> None:
        row, answer, events = probe.row, probe.probed.answer, [probe.completed]
        row.leak_fingerprint = row.leak_fingerprint or probe.probed.leak_fingerprint
        # rotation (14) the old key is dead upstream, which is certified; or the upstream is asked again later
        if answer is Answer.GOOD and row.confirmed_at is not None:
            events += await self._accepted_again(session, probe)
        elif probe.stale:
            pass
        elif answer is Answer.BAD_KEY:
            events += await self._refused(session, probe)
        else:
            now = probe.completed.time
            wait = max(_PROBE_MS[min(row.probes, len(_PROBE_MS) - 1)], int(probe.probed.cooldown * 1000))
            row.next_probe_at = later(now, wait)
            row.probes += 1
            if row.confirmed_at is None:
                await self._ask_the_customer(session, probe.credential, row, answer, now)
        await record(session, *events)

    async def _refused(self, session: AsyncSession, probe: _Probe) -> list[Event]:
        """The key is dead: certify that.

        The upstream is asked again later; if this was the last time, the key is destroyed.
        """
        row, now, events = probe.row, probe.completed.time, list[Event]()
        newly = row.confirmed_at is None
        if newly:
            events.append(Event.about(row, "credential.version.revocation_confirmed", BROKER, now))
        row.confirmed_at, row.probes = row.confirmed_at or now, 0
        again, destroyed = again_at(row.confirmed_at, now), None
        if again is None:
            destroy(row, now)
            gone = Event.about(row, "credential.version.destroyed", BROKER, now, reason="confirmed")
            events.append(gone)
            destroyed = Moment(now, gone.id)
        else:
            row.next_probe_at = _within_a_day(again, now)
        previous = await certificates.newest(session, self.parts.keys, row.credential_id, row.number)
        if previous is not None:
            made = certificates.refused_again(previous, probe.answered, destroyed)
        else:
            assert probe.first is not None
            made = certificates.first(row, probe.first, probe.probed.commitment, probe.answered)
        if newly:
            await self._notify(session, probe.credential, row, "revocation_confirmed", now, made.serial)
        return [*events, certificates.issue(session, self.parts.keys, row, made)]

    async def _accepted_again(self, session: AsyncSession, probe: _Probe) -> list[Event]:
        """The key works again: take back what was stated, and tell everybody.

        The upstream is asked until it refuses the key.
        """
        row, now = probe.row, probe.completed.time
        previous = await certificates.newest(session, self.parts.keys, row.credential_id, row.number)
        assert previous is not None
        made = certificates.accepted_again(previous, probe.answered)
        row.confirmed_at, row.probes, row.next_probe_at = None, 0, later(now, _PROBE_MS[0])
        row.reminders = max(row.reminders, _stage(row, now))  # this notice asks them to revoke it
        await self._notify(session, probe.credential, row, "key_accepted_again", now, made.serial)
        accepted = Event.about(row, "credential.version.accepted_again", BROKER, now)
        return [accepted, certificates.issue(session, self.parts.keys, row, made)]

    async def _ask_the_customer(
        self, session: AsyncSession, credential: CredentialRow, row: VersionRow, answer: Answer, now: Millis
    ) -> None:
        """Ask or remind the customer when it is time to.

        An outage of a day is no reason to write to them; a longer one is.
        """
        stage = _stage(row, now)
        unchecked = answer is not Answer.GOOD
        if stage <= row.reminders or (unchecked and _days(row, now) < _SILENT_DAYS):
            return
        kind: NoticeKind = "revocation_reminder" if row.reminders else "revocation_wanted"
        await self._notify(session, credential, row, "revocation_unchecked" if unchecked else kind, now, row.reminders)
        if stage >= _OVERDUE_FROM:
            await self._notify(session, credential, row, "revocation_overdue", now, row.reminders)
        row.reminders = stage

    async def _notify(
        self, session: AsyncSession, credential: CredentialRow, row: VersionRow, kind: NoticeKind, now: Millis, nth: int
    ) -> None:
        """Tell people; for the ``nth`` time, if it is told more than once."""
        steps = self.parts.catalog.get(row.provider).admin.revoke
        await notify_of(
            session,
            kind,
            credential,
            version=row.number,
            now=now,
            dedup=f"{kind}/{row.credential_id}/{row.number}/{nth}",
            facts={
                "last4": row.last4,
                "days": int(_days(row, now)),
                "revoke_steps": "\n".join(steps),
            },
        )


def _days(row: VersionRow, now: Millis) -> float:
    """For how many days a version has been out of use."""
    return max(0, now - (row.revoked_at or now)) / DAY_MS


def _stage(row: VersionRow, now: Millis) -> int:
    """How often the customer was to be asked by now."""
    return sum(_days(row, now) >= after for after in _ASKED_AFTER_DAYS)


def _within_a_day(at: Millis, now: Millis) -> Millis:
    """A time to look again.

    One further ahead than a day passes for set by a clock that was wrong.
    """
    return min(at, later(now, DAY_MS))
