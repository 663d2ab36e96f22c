"""Verify a staged version with its upstream and act on what comes back.

The probe uses the key, so ``credential.probe.authorized`` is durable before the key is opened.  A crash at any point
leaves the version staged, with a time at which the worker tries again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base.clock import Millis, later
from broker.base.db import Scope
from broker.credentials import due, evidence, rotation
from broker.credentials.cooldown import cool_down
from broker.credentials.evidence import Assessment, TenantEvidence
from broker.credentials.lifecycle import Move, State
from broker.credentials.missing import note_missing
from broker.credentials.moves import apply_move, purge
from broker.credentials.probe import Answer, Probed, probe, target, verifying
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.credentials.versions import versions_of
from broker.formats.certificate import committed
from broker.formats.ids import CredentialId, OrganizationId
from broker.keystore.keystore import KeyGone
from broker.notifications.altered import insist
from broker.parts import Parts

# How long until the upstream is asked again, by how often it was.
_RETRY_MS = (15_000, 60_000, 300_000, 900_000, 3_600_000)


def retry_ms(probes: int) -> int:
    """How long until the upstream is asked again after ``probes`` tries, in milliseconds."""
    return _RETRY_MS[min(probes, len(_RETRY_MS) - 1)]


class Verdict(StrEnum):
    """What verification came to."""

    ACTIVE = "active"
    PENDING_REVIEW = "held"  # the key works, its organization is unproven: an operator decides
    BAD_KEY = "bad_key"
    OTHER_ORGANIZATION = "other_organization"
    UNREACHABLE = "unreachable"  # asked again later
    SETTLED = "settled"  # somebody else came first


T = TypeVar("T")
# Brings what the key answers in line with the verdict, at the end of the transaction that decides.
Also = Callable[[AsyncSession, VersionRow, Verdict], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Verification:
    """Verifies keys, and probes them for others; one for the process."""

    parts: Parts

    async def run(
        self, *, organization: OrganizationId, credential_id: CredentialId, number: int, also: Also
    ) -> Verdict:
        """Probe a staged version and settle it; ``also`` runs last in that transaction."""
        scope = Scope.of(organization)
        async with self.parts.db.read(scope) as session:
            row = await session.get(VersionRow, (credential_id, number))
            credential = await session.get(CredentialRow, credential_id)
        if row is None or credential is None or row.state != State.STAGED or row.sealed is None:
            return Verdict.SETTLED
        probed = await self.probe(row, credential)
        seen = self.hashed(row, probed)
        async with self.parts.db.write(scope) as session:
            return await self._settle(session, row, probed, seen, also)

    async def or_later(self, row: VersionRow, work: Awaitable[T]) -> T:
        """Do what is due for a version; if that fails, it is due again later.

        Until then it holds nobody up.

        Raises:
            Exception: whatever ``work`` raises.
        """
        try:
            return await work
        except Exception as error:
            async with self.parts.db.write(Scope.of(row.organization_id)) as session:
                if isinstance(error, KeyGone):
                    await note_missing(session, row.credential_id, row.number, now=self.parts.clock())
                same = VersionRow.credential_id == row.credential_id, VersionRow.number == row.number
                await session.execute(
                    update(VersionRow)
                    .where(*same, VersionRow.next_probe_at == row.next_probe_at)
                    .values(next_probe_at=self.parts.clock() + retry_ms(row.probes), probes=row.probes + 1)
                )
            raise

    def hashed(self, row: VersionRow, probed: Probed) -> frozenset[str]:
        """The ids that the upstream returned, hashed as they are remembered."""
        return frozenset(self.parts.keys.evidence(row.provider, found) for found in probed.ids)

    async def probe(self, row: VersionRow, credential: CredentialRow, *, committing: bool = False) -> Probed:
        """Send the verification request with a version's key.

        That it will be sent is on the record first.  With ``committing`` there is a commitment to the key if the
        upstream refuses it.
        """
        assert row.sealed is not None
        await insist(self.parts.db, credential, self.parts.clock())
        definition = self.parts.catalog.get(row.provider)
        # submission (11) that the key will be used is on the record before it is opened
        asked = target(definition, credential.host_parts, verifying(definition))
        await self.parts.audit.append(
            Event.about(row, "credential.probe.authorized", BROKER, self.parts.clock(), target=asked)
        )
        try:
            key = await self.parts.keystore.open(row.sealed, row.binding)
            probed = await probe(self.parts.outbound, definition, credential.host_parts, key, self.parts.clock())
            if committing and probed.answer is Answer.BAD_KEY:
                probed = replace(probed, commitment=await asyncio.to_thread(committed, key.reveal()))
        except Exception:
            await self.parts.audit.append(
                Event.about(row, "credential.probe.completed", BROKER, self.parts.clock(), reason="unavailable")
            )
            raise
        return replace(
            probed, leak_fingerprint=self.parts.keys.leak_fingerprint(hashlib.sha256(key.reveal()).hexdigest())
        )

    async def _settle(
        self, session: AsyncSession, before: VersionRow, probed: Probed, seen: frozenset[str], also: Also
    ) -> Verdict:
        versions = await versions_of(session, before.credential_id)
        row = versions.get(before.number)
        if row is None or row.state != State.STAGED:
            return Verdict.SETTLED
        in_use = any(each.state == State.ACTIVE for each in versions.values())
        changing = await rotation.open_of(session, row.credential_id)
        if changing is not None and changing.to_version != row.number:
            changing = None
        assessment = await evidence.assessment_of(session, row, seen, whole=probed.whole)
        verdict = self._verdict(row, probed, assessment, changing, in_use=in_use)
        # submission (14) the verdict is carried out
        now = self.parts.clock()
        row.verdict = verdict
        await cool_down(session, row.credential_id, probed.cooldown, now)
        if verdict is Verdict.UNREACHABLE:
            row.next_probe_at = later(now, max(retry_ms(row.probes), int(probed.cooldown * 1000)))
            row.probes += 1
        elif verdict in {Verdict.ACTIVE, Verdict.PENDING_REVIEW}:
            row.next_probe_at = None
            apply_move(versions, row.number, Move.VERIFY, now)
            if verdict is Verdict.ACTIVE:  # ids of a held key are nobody's until an operator has decided
                await evidence.remember(session, row, seen)
                apply_move(versions, row.number, Move.ACTIVATE, now)
                await raise_epoch(session, row.credential_id)
        else:
            await purge(session, versions, row.number, now=now)
        completed = Event.about(row, "credential.probe.completed", BROKER, now, **probed.event_fields())
        events = [completed, *_outcomes(row, verdict, now)]
        if changing is not None:
            events += await _rotate(session, changing, versions, verdict, assessment, now)
        await record(session, *events)
        await also(session, row, verdict)
        return verdict

    def _verdict(
        self, row: VersionRow, probed: Probed, assessment: Assessment, changing: RotationRow | None, *, in_use: bool
    ) -> Verdict:
        if probed.answer is Answer.UNREACHABLE:
            return Verdict.UNREACHABLE
        if probed.answer is Answer.BAD_KEY:
            return Verdict.BAD_KEY
        if assessment.evidence is TenantEvidence.OTHER:
            return Verdict.OTHER_ORGANIZATION
        if changing is not None and changing.kind == "minted":  # made with the previous key: the same organization's
            return Verdict.ACTIVE
        # rotation (7) the two keys' ids are compared
        if changing is not None:  # a new key has to prove itself against the previous one; silence proves nothing
            return Verdict.ACTIVE if assessment.shared else Verdict.PENDING_REVIEW
        identified = self.parts.catalog.get(row.provider).identity is not None
        unproven = identified and assessment.evidence is TenantEvidence.UNPROVEN
        return Verdict.PENDING_REVIEW if unproven or in_use else Verdict.ACTIVE  # only a rotation replaces a key in use

    def waiting(self) -> list[due.Span[VersionRow]]:
        """Staged versions whose next probe is due."""
        return due.spans(VersionRow, State.STAGED, self.parts.clock(), due.HOUR_MS)


def _outcomes(row: VersionRow, verdict: Verdict, now: Millis) -> list[Event]:
    kinds = {
        Verdict.ACTIVE: ("credential.version.verified", "credential.version.activated"),
        Verdict.PENDING_REVIEW: ("credential.version.verified", "credential.version.held"),
        Verdict.BAD_KEY: ("credential.version.refused",),
        Verdict.OTHER_ORGANIZATION: ("credential.version.refused",),
    }
    return [Event.about(row, kind, BROKER, now, reason=verdict) for kind in kinds.get(verdict, ())]


async def _rotate(
    session: AsyncSession,
    row: RotationRow,
    versions: dict[int, VersionRow],
    verdict: Verdict,
    assessment: Assessment,
    now: Millis,
) -> list[Event]:
    """What the verdict on a rotation's new key means for the rotation."""
    if verdict is Verdict.ACTIVE:
        rotation.note_facts(row, assessment)
        return await rotation.activated(session, BROKER, row, versions, now=now)
    if verdict is Verdict.PENDING_REVIEW:
        await rotation.held(session, row, assessment, now=now)
    elif verdict is not Verdict.UNREACHABLE:
        rotation.refused(row)
    return []
