"""Check the proofs that pages send of a link's secret or a status code.

A proof answers a challenge that works once (:mod:`broker.formats.link_proof`), so whoever sees all traffic learns
nothing that serves them.  Of links of version 1 a constant proof is accepted; status links from before have the key of
their secret like all others, as the broker derives it.
"""

from __future__ import annotations

import asyncio
import hmac
from dataclasses import dataclass

from sqlalchemy import select

from broker.audit.events import Actor, Event
from broker.base.db import EVERY_TENANT, Scope
from broker.base.secret import Secret
from broker.base.strangers import Pace
from broker.base.validity import Validity
from broker.credentials.versions import holds_key
from broker.formats import ids, link_proof
from broker.formats.envelope import Binding
from broker.intake.challenges import Challenges
from broker.intake.lifecycle import IntakeState
from broker.intake.links import is_superseded, rotation_has_ended
from broker.intake.refusals import KeyGiven, LinkCancelled, LinkExpired, LinkInvalid
from broker.intake.status_codes import status_secret
from broker.intake.tables import IntakeRow
from broker.intake.throttle import Throttle
from broker.notifications.altered import report
from broker.organizations.tables import OrganizationRow
from broker.parts import Parts

_NOBODYS = Binding("intake-link")


@dataclass(frozen=True, slots=True)
class Proof:
    """What a call shows: to which route of a page it went with which body, and the answer to which nonce it holds.

    ``constant`` is the proof of a link of version 1.
    """

    page: str
    route: str
    body: bytes
    address: str
    nonce: str = ""
    answer: bytes = b""
    constant: str = ""


def proof_hash(link_key: bytes, constant: str) -> bytes:
    """What is stored of the constant proof of a link of version 1."""
    return hmac.digest(link_key, b"proof\0" + constant.encode(), "sha256")


class Links:
    """Checks proofs."""

    def __init__(self, parts: Parts) -> None:
        self._db, self._audit, self._keys, self._clock = parts.db, parts.audit, parts.keys, parts.clock
        self._throttle = Throttle(parts.db, parts.keys.throttle, parts.clock)
        self._challenges = Challenges(parts.db, parts.keys.challenge, parts.clock)
        self._own = parts.keys.keystore()
        self._nobodys: bytes | None = None
        # Whoever comes has to be looked up, but hundreds at once are not to take the process, or every connection.
        self.pace = Pace(per_second=50, burst=10, longest_s=5)
        self._looking = asyncio.Semaphore(2)

    @property
    def refused(self) -> int:
        """Wrong proofs that were refused from memory, or by a limit that was met elsewhere."""
        return self._throttle.refused

    def challenge(self, page: str, intake_id: str) -> str:
        """A nonce for a proof, whether there is such a link or not."""
        return self._challenges.new(page, intake_id)

    async def forget(self) -> None:
        """Drop what was noted of wrong proofs, and of nonces that were used, once it matters no more."""
        await self._throttle.forget()
        await self._challenges.forget()

    async def proved(self, intake_id: str, proof: Proof) -> IntakeRow:
        """The intake whose link's secret the caller proved to know.

        Raises:
            LinkInvalid: unknown or wrong. TooMany: likewise, and too many before it. ChallengeOver: the proof answers
                a nonce that has expired or was used. LinkExpired, LinkCancelled, KeyGiven: ended, told only to who
                holds the secret.
        """
        row = await self._looked_up(intake_id, proof)
        key = await self._opened(row.link_key, row.link_binding) if row else await self._opened(None, _NOBODYS)
        constant = row is not None and row.link_key is None and self._is_constant(row.proof_hash, proof.constant)
        await self._match(row, intake_id, proof, key, constant=constant)
        assert row is not None
        if row.state == IntakeState.CANCELLED or await self._is_withdrawn(row):
            raise LinkCancelled
        if row.state == IntakeState.EXPIRED or (row.state == IntakeState.OPEN and row.expires_at <= self._clock()):
            raise LinkExpired
        if row.state == IntakeState.OPEN and row.rotation_id is None and await self._is_given(row):
            raise KeyGiven
        return row

    async def status_proved(self, intake_id: str, proof: Proof) -> tuple[IntakeRow, bytes]:
        """The intake whose status code (or link) the caller proved to know, and the code's key.

        Raises:
            LinkInvalid, TooMany, ChallengeOver: as :meth:`proved`.
        """
        row = await self._looked_up(intake_id, proof)
        key = await self._opened(row.status_key, row.status_binding) if row else await self._opened(None, _NOBODYS)
        if row is not None and key is None:
            key = link_proof.key_of(status_secret(self._keys.status, row))
        known = row if row and row.submitted_at else None
        await self._match(known, intake_id, proof, key, constant=False)
        assert known is not None
        assert key is not None
        return known, key

    async def _looked_up(self, intake_id: str, proof: Proof) -> IntakeRow | None:
        if proof.nonce:
            self._challenges.check(proof.nonce, page=proof.page, link_id=intake_id)
        if not ids.is_id(intake_id, "int"):
            return None
        await self.pace.turn()
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(IntakeRow).where(IntakeRow.id == intake_id))
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return None
        return row

    async def _opened(self, sealed: bytes | None, binding: Binding) -> bytes | None:
        """A sealed key.  Where there is none, nobody's is opened for None, so that both take the same time."""
        if sealed is not None:
            return (await self._own.open(sealed, binding)).reveal()
        if self._nobodys is None:
            self._nobodys = await self._own.seal(Secret(bytes(link_proof.KEY_BYTES)), _NOBODYS)
        await self._own.open(self._nobodys, _NOBODYS)
        return None

    def _is_constant(self, expected: bytes, constant: str) -> bool:
        return hmac.compare_digest(expected, proof_hash(self._keys.proof, constant))

    async def _match(
        self, row: IntakeRow | None, intake_id: str, proof: Proof, key: bytes | None, *, constant: bool
    ) -> None:
        # submission (3) the proof is compared: computed also if there is no row, so that both take the same time
        answer = link_proof.proof(key or bytes(link_proof.KEY_BYTES), proof.nonce, proof.route, proof.body)
        right = hmac.compare_digest(answer, proof.answer) and key is not None and proof.nonce != ""
        if row is not None and right:
            await self._challenges.claim(proof.nonce)
        if row is not None and (right or constant):
            return  # whatever was tried before: nobody who guesses can keep its holder out
        await self._throttle.spend(proof.address, intake_id)
        if row is not None:  # not waited for, as who is answered later would know that there is such a link
            actor = Actor("stranger", "unverified", address=proof.address)
            self._audit.post(
                Event.about(row, "intake.proof_refused", actor, self._clock(), decision="denied", reason="wrong_proof")
            )
        raise LinkInvalid

    async def _is_withdrawn(self, row: IntakeRow) -> bool:
        """Whether what the link is for has ended: organization or credential were cut off, or the rotation is done."""
        async with self._db.read(Scope.of(row.organization_id)) as session:
            query = select(OrganizationRow.state).where(OrganizationRow.id == row.organization_id)
            if await session.scalar(query) != Validity.ACTIVE:
                return True
            if row.state != IntakeState.OPEN:
                return False
            return await rotation_has_ended(session, row) or await is_superseded(session, row)

    async def _is_given(self, row: IntakeRow) -> bool:
        async with self._db.read(Scope.of(row.organization_id)) as session:
            return await holds_key(session, organization=row.organization_id, provider=row.provider, label=row.label)
