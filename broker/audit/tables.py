"""The rows of the record: its head, events, archived months, quotas, and the guards' epochs.

The head hands out dense indices.  Guards compare their epochs.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Dialect, Index, Integer, LargeBinary, TypeDecorator, text
from sqlalchemy.orm import Mapped, mapped_column

from broker.audit.events import Fields
from broker.base.clock import Millis
from broker.base.db import Table, TenantOwned, partial
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, OrganizationId
from broker.formats.packed_core import pack, unpack


class PackedCore(TypeDecorator[bytes]):
    """The core of an event: its own bytes in Python, packed in the database.

    The format is :mod:`broker.formats.packed_core`'s.
    """

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - declared so
        return None if value is None else pack(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 - declared so
        return None if value is None else unpack(value)


class HeadRow(Table):
    """The one hot row: how many events there are, and the latest time of one.

    Its lock is the order of the record.  ``tried`` counts writes that showed that one succeeds
    (:mod:`broker.audit.durability`).  ``month`` is that of the next event (:mod:`broker.audit.months`).
    ``believed`` is the last time that a process showed while it was believed (:mod:`broker.audit.timekeeping`).
    """

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    size: Mapped[int]
    tried: Mapped[int] = mapped_column(server_default=text("0"))
    month: Mapped[int] = mapped_column(server_default=text("0"))
    latest: Mapped[Millis] = mapped_column(server_default=text("0"))
    believed: Mapped[Millis] = mapped_column(server_default=text("0"))


class EventRow(Table):
    """An event: its core's canonical bytes, its sealed personal part, and columns to search by.

    These have no index, as each would be written with every event; what finds events is :class:`PlacesRow`.  That of
    their ids tells what became of a commit whose answer was lost.

    ``organization_id`` is empty for events of no tenant.  The row is no ``TenantOwned``, because the record is written
    in batches over tenants.  Its fences are the search (which always names a scope) and row-level security.  On
    PostgreSQL a ``month`` is a partition.
    """

    __tablename__ = "audit_events"
    __table_args__ = (Index("ix_audit_events_id", "id"),)

    # On SQLite the number of the row itself, which has no index beside it.
    idx: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    )
    month: Mapped[int]
    id: Mapped[AuditEventId]
    time: Mapped[Millis]
    kind: Mapped[str]
    decision: Mapped[str]
    organization_id: Mapped[OrganizationId]
    actor_id: Mapped[str]
    credential_id: Mapped[CredentialId]
    lease_id: Mapped[LeaseId]
    core: Mapped[bytes] = mapped_column(PackedCore)
    personal: Mapped[bytes]
    salt_core: Mapped[bytes]
    personal_commitment: Mapped[bytes]
    entry: Mapped[bytes]


class SubjectRow(Table):
    """A data subject of events: a person, job, customer or other actor, or an organization.

    ``wrapped`` is the key without which nobody reads the personal parts that it has a share in
    (:mod:`broker.formats.personal_part`).  It is None once the subject was erased.
    """

    __tablename__ = "audit_subjects"

    id: Mapped[str] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes | None]
    erased_at: Mapped[Millis | None]


class HoldRow(Table):
    """A legal hold: nothing of the organization is erased or pruned.

    ``whose`` is its id, empty for all.
    """

    __tablename__ = "audit_holds"

    whose: Mapped[OrganizationId] = mapped_column(primary_key=True)
    placed_at: Mapped[Millis]
    placed_by: Mapped[str]

    def event_fields(self) -> Fields:
        return {"organization": self.whose}


class BlockRow(Table):
    """A block of events that is in the search's index, with its earliest and latest time."""

    __tablename__ = "audit_blocks"

    block: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    earliest: Mapped[Millis]
    latest: Mapped[Millis]


class PlacesRow(Table):
    """Which events of a block have a value, packed (:mod:`broker.audit.places`).

    The span comes first in the key: so what is written lies together, and what is archived goes together.
    """

    __tablename__ = "audit_places"
    __table_args__ = ({"sqlite_with_rowid": False},)

    span: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    term: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    block: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    places: Mapped[bytes]


class PrunedRow(Table):
    """Which events of a block were pruned by policy, packed (:mod:`broker.audit.places`)."""

    __tablename__ = "audit_pruned"

    block: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    places: Mapped[bytes]


class ArchiveRow(Table):
    """A month of the record that is in a file, and about to be here no more.

    Its events may still be here (:mod:`broker.audit.archives`).  ``root`` is the tree hash over its entries.
    ``earliest`` and ``latest`` are the times of events in it.
    """

    __tablename__ = "audit_archives"

    month: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first: Mapped[int]
    count: Mapped[int]
    root: Mapped[bytes]
    earliest: Mapped[Millis]
    latest: Mapped[Millis]
    archived_at: Mapped[Millis]


class TileRow(Table):
    """A tile of the log (:mod:`broker.formats.tile`).

    ``level`` -1 has the entries, 32 bytes each, of which the tiles of level 0 are made.  A tile grows until it is full.
    """

    __tablename__ = "audit_tiles"

    level: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hashes: Mapped[bytes]


class CheckpointRow(Table):
    """The one newest checkpoint of the log: its size, root, and the signed note.

    A log goes from one to a larger one only, and whoever changes this row is the only one who signed that size.
    """

    __tablename__ = "audit_checkpoint"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    origin: Mapped[str]
    size: Mapped[int]
    root: Mapped[bytes]
    note: Mapped[bytes]


class OrganizationTreeRow(TenantOwned, Table):
    """The tree over one organization's events, as far as the log has come.

    ``edge`` has what it keeps at this size.  ``headed`` is the size that its newest head had, made at ``headed_at``.
    """

    __tablename__ = "audit_organizations"
    __table_args__ = (partial("ix_audit_organizations_grown", "size > headed", "headed_at"),)

    organization_id: Mapped[OrganizationId] = mapped_column(primary_key=True)
    size: Mapped[int]
    edge: Mapped[bytes]
    headed: Mapped[int] = mapped_column(server_default=text("0"))
    headed_at: Mapped[Millis] = mapped_column(server_default=text("0"))

    def event_fields(self) -> Fields:
        """What a head's event says; it is no tenant's, so that the tree doesn't grow by it."""
        return {"subject": self.organization_id}


class OrganizationHeadRow(TenantOwned, Table):
    """A head of an organization's tree (:mod:`broker.formats.export`), which an event tells.

    ``idx`` is that event's, and ``time`` its time.  The tree had ``size`` of the first ``extent`` events of the log.
    """

    __tablename__ = "audit_organization_heads"

    organization_id: Mapped[OrganizationId] = mapped_column(primary_key=True)
    idx: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    time: Mapped[Millis]
    extent: Mapped[int]
    size: Mapped[int]
    edge: Mapped[bytes]


class LogKeyRow(Table):
    """A signing key of a log by its number; a log whose key was never changed has none here.

    ``begun_at`` is when it began to sign.  ``good_to`` is the size of the last checkpoint that it signed, None while it
    signs.
    """

    __tablename__ = "audit_log_keys"

    origin: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    begun_at: Mapped[Millis]
    good_to: Mapped[int | None]


class WitnessRow(Table):
    """A witness by its key's line, and what it has of the log as far as is known.

    ``origin`` and ``size`` are those of what it cosigned last.  ``cosigned_at`` says when.  ``failing_since`` is None
    while it answers.  ``contradicts`` is the size at which it has something else than the log, None if it hasn't.
    """

    __tablename__ = "audit_witnesses"

    key: Mapped[str] = mapped_column(primary_key=True)
    origin: Mapped[str]
    size: Mapped[int]
    cosigned_at: Mapped[Millis | None]
    failing_since: Mapped[Millis | None]
    contradicts: Mapped[int | None]


class CosignedRow(Table):
    """A checkpoint with cosignatures of so many witnesses.

    There are the newest ones, and the last one that had enough.
    """

    __tablename__ = "audit_cosigned"

    origin: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    note: Mapped[bytes]
    count: Mapped[int] = mapped_column(Integer)


class GuardRow(Table):
    """The epoch of something that decisions rely on; no row means epoch 0.

    It is a new number each time.  It is raised in the transaction of the event that changes what may be decided: a
    revocation, a new grant.
    """

    __tablename__ = "guards"

    id: Mapped[str] = mapped_column(primary_key=True)
    epoch: Mapped[int]


class QuotaRow(Table):
    """A number that events take from (:mod:`broker.audit.quota`); no row means 0."""

    __tablename__ = "allowances"

    id: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class CursorRow(Table):
    """How far somebody who follows the record has come.

    ``next`` is the index of the first event not seen.
    """

    __tablename__ = "audit_cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    next: Mapped[int]


class SeriesRow(Table):
    """A series after the first, which has no row.

    ``began_at`` (milliseconds) is its name.  ``base`` is the index of its first event.  ``lost_to`` is the number of
    events that there had been, None if nothing told.  ``since`` is when the backup was made, as an operator said.
    ``confirmed_at`` is when an operator had looked through what the backup brought back.
    """

    __tablename__ = "audit_series"

    began_at: Mapped[Millis] = mapped_column(primary_key=True, autoincrement=False)
    base: Mapped[int]
    lost_to: Mapped[int | None]
    since: Mapped[Millis]
    confirmed_at: Mapped[Millis | None]
