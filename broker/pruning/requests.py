"""Closed requests for keys, rotations that have ended, and ids that destroyed keys showed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Select, bindparam, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis
from broker.base.db import table
from broker.base.pruning import Key
from broker.base.validity import Validity
from broker.credentials.tables import CredentialRow, KeyEvidenceRow, RotationRow, VersionRow
from broker.formats.ids import CredentialId, IntakeId, RotationId
from broker.incidents.tables import ExposureRow
from broker.intake.lifecycle import IntakeState
from broker.intake.tables import IntakeRow
from broker.pruning.keeping import before, end_of, page_of, rest_of

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
        page = [row[1] for row in rows]
        gone = await rest_of(session, page, of_open_rotation(page), with_status_page(page, past))
        await session.execute(delete(IntakeRow).where(IntakeRow.id.in_(gone), IntakeRow.state.in_(_CLOSED)))
        return end_of(rows)

    async def rotations(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Rotations; those of a request that stays, or of a credential with an incident, stay too."""
        past = before(now, self.days)
        key = (RotationRow.ended_at, RotationRow.id)
        rows = (await session.execute(page_of(key, after, RotationRow.ended_at < past))).all()
        page = [row[1] for row in rows]
        gone = await rest_of(session, page, with_request(page), with_incident(page))
        await session.execute(delete(RotationRow).where(RotationRow.id.in_(gone)))
        return end_of(rows)

    async def evidence(self, session: AsyncSession, after: Key | None, now: Millis) -> Key | None:
        """Ids that a destroyed key showed, unless it is the last one that showed any.

        The next key is compared with these.
        """
        key = (KeyEvidenceRow.credential_id, KeyEvidenceRow.version, KeyEvidenceRow.id_hash)
        rows = (await session.execute(page_of(key, after))).all()
        credentials = {row[0] for row in rows}
        last = {row[0]: row[1] for row in await session.execute(last_shown(credentials))}
        destroyed = {tuple(row) for row in await session.execute(destroyed_by(credentials, before(now, self.days)))}
        gone = {(row[0], row[1]) for row in rows if row[1] < last[row[0]]} & destroyed
        if gone:
            its = [{"of": credential, "key": number} for credential, number in sorted(gone)]
            await (await session.connection()).execute(_SHOWN_BY, its)
        return end_of(rows)


def of_open_rotation(page: list[IntakeId]) -> Select[IntakeId]:
    """Requests of rotations that go on."""
    its = RotationRow.id == IntakeRow.rotation_id
    return select(IntakeRow.id).join(RotationRow, its).where(IntakeRow.id.in_(page), RotationRow.ended_at.is_(None))


def with_status_page(page: list[IntakeId], past: Millis) -> Select[IntakeId]:
    """Requests over which a key came, of credentials that were in use then."""
    in_use = or_(CredentialRow.state == Validity.ACTIVE, CredentialRow.revoked_at >= past)
    its = CredentialRow.id == IntakeRow.credential_id
    came = IntakeRow.submitted_at.is_not(None)
    return select(IntakeRow.id).join(CredentialRow, its).where(IntakeRow.id.in_(page), came, in_use)


def with_request(page: list[RotationId]) -> Select[RotationId | None]:
    """Rotations that a request is of."""
    return select(IntakeRow.rotation_id).where(IntakeRow.rotation_id.in_(page))


def with_incident(page: list[RotationId]) -> Select[RotationId]:
    """Rotations of credentials of which a key was exposed."""
    its = ExposureRow.credential_id == RotationRow.credential_id
    return select(RotationRow.id).join(ExposureRow, its).where(RotationRow.id.in_(page))


def last_shown(credentials: Collection[CredentialId]) -> Select[CredentialId, int]:
    """The last key of each credential that showed ids."""
    of, key = KeyEvidenceRow.credential_id, KeyEvidenceRow.version
    return select(of, func.max(key)).where(of.in_(credentials)).group_by(of)


def destroyed_by(credentials: Collection[CredentialId], past: Millis) -> Select[CredentialId, int]:
    """Keys of these credentials that were destroyed by then."""
    of = VersionRow.credential_id
    return select(of, VersionRow.number).where(of.in_(credentials), VersionRow.destroyed_at < past)


_SHOWN_BY = delete(table(KeyEvidenceRow)).where(
    KeyEvidenceRow.credential_id == bindparam("of"), KeyEvidenceRow.version == bindparam("key")
)
