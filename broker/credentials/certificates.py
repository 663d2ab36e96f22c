"""Signed statements about keys that are out of use here: made, kept, and given to people.

Each is stored in the transaction of what it states, and its event has its digest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Database, Scope
from broker.base.errors import Conflict, NotFound
from broker.credentials.lifecycle import State
from broker.credentials.tables import CertificateRow, VersionRow
from broker.credentials.traces import Traces
from broker.credentials.versions import get_credential
from broker.formats import ids
from broker.formats.certificate import Answered, Certificate, Moment, NoCertificate
from broker.formats.certificate_file import CertificateFile
from broker.formats.ids import AuditEventId, CredentialId
from broker.formats.signed_note import NoteRefused, opened
from broker.keystore.internal import InternalKeys
from broker.parts import Parts

# A dead key is asked about again so many days after it was found dead; then it is destroyed.
_AGAIN_DAYS = (1, 7, 30)


class CertificateAltered(Conflict):
    """A stored certificate is not as the broker signed it."""

    code = "certificate_altered"


class Receipt(Protocol):
    """Gives the receipt of an event, a C2SP tlog-proof.

    Raises:
        NotFound: the event is not here any more.
        Unavailable: no checkpoint covers it yet.
    """

    async def __call__(self, db: Database, scope: Scope, event_id: AuditEventId, /, *, personal: bool) -> bytes: ...


def again_at(confirmed_at: Millis, answered_at: Millis) -> Millis | None:
    """When a dead key is asked about next; None once the last time is over."""
    times = (later(confirmed_at, days * DAY_MS) for days in _AGAIN_DAYS)
    return next((time for time in times if time > answered_at), None)


def first(row: VersionRow, traces: Traces, commitment: bytes, refused: Answered) -> Certificate:
    """The first statement about a version: its upstream refuses its key."""
    return Certificate(
        statement="dead",
        serial=1,
        supersedes="",
        issued=Moment(refused.time, ids.new(AuditEventId)),
        organization=row.organization_id,
        credential=row.credential_id,
        provider=row.provider,
        version=row.number,
        fingerprint=row.fingerprint,
        commitment=commitment,
        ended=traces.ended,
        last_use=traces.last_use,
        last_shown=traces.last_shown,
        refused=refused,
        answered=refused,
    )


def refused_again(previous: Certificate, answered: Answered, destroyed: Moment | None) -> Certificate:
    """The next statement about a key that its upstream refuses.

    Either it still does, or it had taken the key again meanwhile.
    """
    refused = previous.refused if previous.statement == "dead" else answered
    issued = Moment(answered.time, ids.new(AuditEventId))
    return previous.following(issued, statement="dead", refused=refused, answered=answered, destroyed=destroyed)


def accepted_again(previous: Certificate, answered: Answered) -> Certificate:
    """The next statement about a key that its upstream takes, although it had refused it."""
    issued = Moment(answered.time, ids.new(AuditEventId))
    return previous.following(issued, statement="accepted-again", answered=answered)


def issue(session: AsyncSession, keys: InternalKeys, row: VersionRow, made: Certificate) -> Event:
    """Sign a statement and keep it; the caller holds its version locked.

    Returns:
        Its event, for the caller to record in this transaction.
    """
    session.add(
        CertificateRow(
            credential_id=made.credential,
            version=made.version,
            serial=made.serial,
            organization_id=made.organization,
            note=keys.certifying.sign(made.text()),
        )
    )
    event = Event.about(
        row,
        "credential.version.certified",
        BROKER,
        Millis(made.issued.time),
        subject=made.digest(),
        reason=made.statement,
    )
    return msgspec.structs.replace(event, id=made.issued.event)


async def destroyed(session: AsyncSession, keys: InternalKeys, row: VersionRow, gone: Event) -> list[Event]:
    """State that a key can't be asked about any more, if anything was stated about it.

    Returns:
        The statement's event, for the caller to record behind ``gone``.
    """
    previous = await newest(session, keys, row.credential_id, row.number)
    if previous is None or previous.destroyed is not None:
        return []
    issued = Moment(gone.time, ids.new(AuditEventId))
    return [issue(session, keys, row, previous.following(issued, destroyed=Moment(gone.time, gone.id)))]


async def newest(
    session: AsyncSession, keys: InternalKeys, credential_id: CredentialId, number: int
) -> Certificate | None:
    """The newest statement about a version, if there is one; raises CertificateAltered."""
    row = await _row(session, credential_id, number, None)
    return None if row is None else _read(keys, row)


async def newest_of_all(
    session: AsyncSession, keys: InternalKeys, credential_id: CredentialId
) -> dict[int, Certificate]:
    """The newest statement about each version of a credential; raises CertificateAltered."""
    order = CertificateRow.version, CertificateRow.serial
    rows = await session.scalars(
        select(CertificateRow).where(CertificateRow.credential_id == credential_id).order_by(*order)
    )
    newest = {row.version: row for row in rows}
    return {number: _read(keys, row) for number, row in newest.items()}


def _read(keys: InternalKeys, row: CertificateRow) -> Certificate:
    try:
        return Certificate.read(opened(row.note, keys.certifying.verifier()))
    except (NoteRefused, NoCertificate):
        raise CertificateAltered(
            "This certificate is not as the broker signed it: its row was changed. Find out who did it, and restore "
            "the row of `certificates` from a backup."
        ) from None


async def _row(
    session: AsyncSession, credential_id: CredentialId, number: int, serial: int | None
) -> CertificateRow | None:
    query = select(CertificateRow).where(
        CertificateRow.credential_id == credential_id, CertificateRow.version == number
    )
    if serial is not None:
        query = query.where(CertificateRow.serial == serial)
    return await session.scalar(query.order_by(CertificateRow.serial.desc()).limit(1))


@dataclass(frozen=True, slots=True)
class Certificates:
    """Gives people the certificates of their keys; one for the process."""

    parts: Parts
    receipt: Receipt

    async def file(
        self, scope: Scope, credential_id: CredentialId, number: int, serial: int | None = None
    ) -> CertificateFile:
        """A version's certificate with the receipts of its events, the newest if no serial is given.

        Raises:
            NotFound: there is none, and why.
            Unavailable: no checkpoint covers its events yet.
            CertificateAltered: it is not as it was signed.
        """
        async with self.parts.db.read(scope) as session:
            await get_credential(session, credential_id)
            version = await session.get(VersionRow, (credential_id, number))
            row = await _row(session, credential_id, number, serial)
        if row is None:
            raise NotFound(_why_none(version, serial))
        receipts = {}
        for event in _read(self.parts.keys, row).events():
            try:
                receipts[event] = await self.receipt(self.parts.db, scope, event, personal=False)
            except NotFound:  # archived: its archive proves it
                continue
        return CertificateFile(row.note, receipts)


def _why_none(version: VersionRow | None, serial: int | None) -> str:
    if version is None:
        return "This credential has no such version; `broker key list` shows those it has."
    if version.confirmed_at is not None and serial is None:
        return "The upstream refused this key before this broker made certificates, and it is destroyed: there is none."
    if version.confirmed_at is not None:
        return "There is no certificate with this serial; leave the serial out, and you get the newest."
    if version.state == State.DESTROYED:
        return "This key was destroyed before the upstream was known to refuse it, so nobody can ask: there is none."
    if version.state == State.REVOKED:
        return (
            "There is no certificate yet, as the upstream is not known to refuse this key. Ask the customer to revoke "
            "it there; the broker asks the upstream again."
        )
    return "There is no certificate, as this key is not out of use here; `broker key list` shows its state."
