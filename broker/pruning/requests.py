"""Requests for keys that are closed, changes of keys that have ended, and ids that destroyed keys showed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Delete, and_, delete, exists, or_, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from broker.base.clock import Millis
from broker.base.pruning import Key
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, KeyEvidenceRow, RotationRow, VersionRow
from broker.formats.ids import CredentialId, IntakeId, RotationId
from broker.incidents.tables import ExposureRow
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow
from broker.pruning.keeping import before, end_of, page_of

_CLOSED = (IntakeState.ACCEPTED, IntakeState.CANCELLED, IntakeState.EXPIRED)


@dataclass(frozen=True, slots=True)
class Requests:
    """Deletes what ended ``days`` ago and what nothing refers to."""

    days: int

    async def intakes(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Requests for keys, with what is sealed in them.

        One of a rotation that goes on stays.  So does one over which a key came, while its credential is in use and for
        ``days`` after it was revoked: its code opens the customer's status page.
        """
        past = before(now, self.days)
        key = (IntakeRow.settled_at, IntakeRow.id)
        rows = (await session.execute(page_of(key, after, IntakeRow.settled_at < past))).all()
        await session.execute(intakes_gone([row[1] for row in rows], past))
        return end_of(rows)

    async def rotations(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Rotations; those of a request that stays, or of a credential with an incident, stay too."""
        past = before(now, self.days)
        key = (RotationRow.ended_at, RotationRow.id)
        rows = (await session.execute(page_of(key, after, RotationRow.ended_at < past))).all()
        await session.execute(rotations_gone([row[1] for row in rows]))
        return end_of(rows)

    async def evidence(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Ids that a destroyed key showed, unless it is the last one that showed any: the next is compared with it."""
        key = (KeyEvidenceRow.credential_id, KeyEvidenceRow.version, KeyEvidenceRow.id_hash)
        rows = (await session.execute(page_of(key, after))).all()
        await session.execute(evidence_gone(sorted({(row[0], row[1]) for row in rows}), before(now, self.days)))
        return end_of(rows)


def intakes_gone(intakes: list[IntakeId], past: Millis) -> Delete:
    """Deletes those of these requests that don't count any more."""
    needed = exists().where(RotationRow.id == IntakeRow.rotation_id, RotationRow.ended_at.is_(None))
    in_use = or_(CredentialRow.state == Validity.ACTIVE, CredentialRow.revoked_at >= past)
    shown = and_(
        IntakeRow.submitted_at.is_not(None), exists().where(CredentialRow.id == IntakeRow.credential_id, in_use)
    )
    return delete(IntakeRow).where(IntakeRow.id.in_(intakes), IntakeRow.state.in_(_CLOSED), ~needed, ~shown)


def rotations_gone(rotations: list[RotationId]) -> Delete:
    """Deletes those of these rotations that nothing refers to."""
    requested = exists().where(IntakeRow.rotation_id == RotationRow.id)
    exposed = exists().where(ExposureRow.credential_id == RotationRow.credential_id)
    return delete(RotationRow).where(RotationRow.id.in_(rotations), ~requested, ~exposed)


def evidence_gone(keys: list[tuple[CredentialId, int]], past: Millis) -> Delete:
    """Deletes what those of these keys showed that were destroyed, if a later one showed ids as well."""
    later = aliased(KeyEvidenceRow)
    dead = exists().where(
        VersionRow.credential_id == KeyEvidenceRow.credential_id,
        VersionRow.number == KeyEvidenceRow.version,
        VersionRow.destroyed_at < past,
    )
    followed = exists().where(
        later.credential_id == KeyEvidenceRow.credential_id, later.version > KeyEvidenceRow.version
    )
    place = tuple_(KeyEvidenceRow.credential_id, KeyEvidenceRow.version)
    return delete(KeyEvidenceRow).where(place.in_(keys), dead, followed)
