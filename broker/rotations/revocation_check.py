"""Make sure that a key which is out of use here is dead upstream too.

Upstream, a new key doesn't revoke the old one: the customer has to.  So the broker keeps asking the upstream with the
old key, ever less often, until it is refused.  Only then is the revocation confirmed and the key material destroyed.
Until then the customer is asked and reminded, and operators learn if it takes too long.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Scope
from broker.credentials import due
from broker.credentials.lifecycle import State
from broker.credentials.moves import destroy
from broker.credentials.notices import notify_of
from broker.credentials.probe import Answer, Probed
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.verification import Verification
from broker.credentials.versions import versions_of
from broker.notifications.notices import Kind as NoticeKind
from broker.parts import Parts
from broker.rotations.minting import Minting

_MINUTE_MS = 60_000
# Until the next probe, by how many there were.  A customer who is asked to revoke often does so within the hour.
_PROBE_MS = tuple(minutes * _MINUTE_MS for minutes in (1, 5, 15, 60, 180, 720, 1440))
# After so many days the customer is asked and reminded; from the fourth time on operators are called too.
_ASKED_AFTER_DAYS = (0, 3, 7, 14, 30, 60, 90)
_OVERDUE_FROM = 4
# While the upstream can't be asked, nobody is bothered for so long: most outages have ended by then.
_SILENT_DAYS = 1


@dataclass(frozen=True, slots=True)
class RevocationCheck:
    """Probes revoked versions; safe to run on several processes at once."""

    parts: Parts
    verification: Verification
    minting: Minting

    def waiting(self) -> list[due.Span[VersionRow]]:
        """Revoked versions whose probe is due: the upstream may still take their keys."""
        return due.spans(VersionRow, State.REVOKED, self.parts.clock(), DAY_MS)

    async def probe(self, row: VersionRow) -> bool:
        """Probe one version and act on the answer.

        Returns:
            False if the upstream gave no answer about the key.
        """
        scope = Scope.of(row.organization_id)
        async with self.parts.db.read(scope) as session:
            credential = await session.get(CredentialRow, row.credential_id)
        if credential is None or row.sealed is None:
            return True
        await self.minting.delete_retired(credential, row)
        probed = await self.verification.probe(row, credential)
        async with self.parts.db.write(scope) as session:
            present = (await versions_of(session, row.credential_id)).get(row.number)
            if present is None or present.state != State.REVOKED or present.sealed is None:
                return True
            await self._settle(session, credential, present, probed)
        return probed.answer is not Answer.UNREACHABLE

    async def _settle(self, session: AsyncSession, credential: CredentialRow, row: VersionRow, probed: Probed) -> None:
        now = self.parts.clock()
        events = [Event.about(row, "credential.probe.completed", BROKER, now, **probed.event_fields())]
        row.leak_fingerprint = row.leak_fingerprint or probed.leak_fingerprint
        # rotation (14) the old key is dead upstream and is destroyed, or the upstream is asked again later
        if probed.answer is Answer.BAD_KEY:
            row.confirmed_at = now
            destroy(row, now)
            events.append(Event.about(row, "credential.version.revocation_confirmed", BROKER, now))
            await self._notify(session, credential, row, "revocation_confirmed", now)
        else:
            wait = max(_PROBE_MS[min(row.probes, len(_PROBE_MS) - 1)], int(probed.cooldown * 1000))
            row.next_probe_at = later(now, wait)
            row.probes += 1
            await self._ask_the_customer(session, credential, row, probed.answer, now)
        await record(session, *events)

    async def _ask_the_customer(
        self, session: AsyncSession, credential: CredentialRow, row: VersionRow, answer: Answer, now: Millis
    ) -> None:
        """Ask or remind the customer when it is time to.

        An outage of a day is no reason to write to them; a longer one is.
        """
        assert row.revoked_at is not None
        days = (now - row.revoked_at) / DAY_MS
        stage = sum(days >= after for after in _ASKED_AFTER_DAYS)
        unchecked = answer is not Answer.GOOD
        if stage <= row.reminders or (unchecked and days < _SILENT_DAYS):
            return
        kind: NoticeKind = "revocation_reminder" if row.reminders else "revocation_wanted"
        await self._notify(session, credential, row, "revocation_unchecked" if unchecked else kind, now)
        if stage >= _OVERDUE_FROM:
            await self._notify(session, credential, row, "revocation_overdue", now)
        row.reminders = stage

    async def _notify(
        self, session: AsyncSession, credential: CredentialRow, row: VersionRow, kind: NoticeKind, now: Millis
    ) -> None:
        steps = self.parts.catalog.get(row.provider).admin.revoke
        await notify_of(
            session,
            kind,
            credential,
            version=row.number,
            now=now,
            dedup=f"{kind}/{row.credential_id}/{row.number}/{row.reminders}",
            facts={
                "last4": row.last4,
                "days": max(0, now - (row.revoked_at or now)) // DAY_MS,
                "revoke_steps": "\n".join(steps),
            },
        )
