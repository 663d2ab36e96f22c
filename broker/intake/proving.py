"""Check the proofs that pages send of a link's secret or a status code.

A proof answers a challenge that works once (:mod:`broker.formats.link_proof`), so somebody who sees all traffic learns
nothing that they could use.  A link of version 1 has a constant proof.  The key of a status link that is older than
codes is derived by the broker; its proofs are like all others.
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
    """What a call shows: where it went, with which body, and its answer to which nonce.

    ``page`` and ``route`` are the page and its route.  ``constant`` is the proof of a link of version 1.
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
        # Every caller has to be looked up, but hundreds at once must not take the process, or every connection.
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
        """Drop counts of wrong proofs, and used nonces, that matter no more."""
        await self._throttle.forget()
        await self._challenges.forget()

    async def proved(self, intake_id: str, proof: Proof) -> IntakeRow:
        """The intake whose link's secret the caller proved to know.

        Raises:
            LinkInvalid: the link is unknown or the proof wrong.
            TooMany: likewise, after too many others.
            ChallengeOver: the proof answers a nonce that has expired or was used.
            LinkExpired, LinkCancelled, KeyGiven: the link has ended. Only its holder is told so.
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
        if not ids.is_id(intake_id, ids.IntakeId):
            return None
        await self.pace.turn()
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(IntakeRow).where(IntakeRow.id == intake_id))
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return None
        return row

    async def _opened(self, sealed: bytes | None, binding: Binding) -> bytes | None:
        """Open a sealed key; None if there is none.

        A stand-in is opened then, so that both take the same time.
        """
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
            return  # whatever was tried before: somebody who guesses can't keep the holder out
        await self._throttle.spend(proof.address, intake_id)
        if row is not None:  # not waited for: a later answer would tell that there is such a link
            actor = Actor("stranger", "unverified", address=proof.address)
            self._audit.post(
                Event.about(row, "intake.proof_refused", actor, self._clock(), decision="denied", reason="wrong_proof")
            )
        raise LinkInvalid

    async def _is_withdrawn(self, row: IntakeRow) -> bool:
        """Whether what the link is for has ended.

        Its organization or credential was cut off, or its rotation has ended.
        """
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
