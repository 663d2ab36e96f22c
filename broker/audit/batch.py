"""A batch of events as plain data, and what became of it.

It is decided on and written in one transaction.  How that is done depends on the database:
:mod:`broker.audit.on_sqlite`, :mod:`broker.audit.on_postgresql`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple, Protocol

import msgspec

from broker.audit.events import Event
from broker.audit.quota import Exhausted, Quota
from broker.base.clock import Millis
from broker.formats.audit_event import Committed
from broker.formats.ids import AuditEventId, CredentialId, LeaseId, OrganizationId
from broker.formats.packed_core import pack
from broker.formats.personal_part import PartKey


class EventValues(NamedTuple):
    """The row of an event without index and month, in the order of the table's columns.

    Its core is packed, its personal part sealed.
    """

    id: AuditEventId
    time: Millis
    kind: str
    decision: str
    organization_id: OrganizationId | str
    actor_id: str
    credential_id: CredentialId | str
    lease_id: LeaseId | str
    core: bytes
    personal: bytes
    salt_core: bytes
    personal_commitment: bytes
    entry: bytes


def values_of(event: Event, made: Committed, key: PartKey) -> EventValues:
    """The event's row, of what was made of it; ``key`` seals its personal part."""
    return EventValues(
        event.id,
        event.time,
        event.kind,
        event.decision,
        event.organization,
        event.actor.id,
        event.credential,
        event.lease,
        pack(made.core),
        key.seal(made.personal, made.salt_personal, made.personal_commitment),
        made.salt_core,
        made.personal_commitment,
        made.entry,
    )


# A statement for one row, in the database's own words, and the row's values.
Written = tuple[str, tuple[Any, ...]]


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """An event with what belongs to it.

    That is: the guards that must hold, the quotas that it takes from, the rows that go with it.
    """

    values: EventValues
    guards: dict[str, int]
    quotas: tuple[Quota, ...]
    writes: tuple[Written, ...]


class Batch(msgspec.Struct, array_like=True):
    """What is committed together.

    The database must hold ``floor`` events at least.  ``repeated`` says that
    this batch was sent before and no answer came: what of it is on the record tells what became of it.  What raises an
    epoch is the last of a batch: so no piece before it relied on that.
    """

    floor: int
    repeated: bool
    pieces: tuple[Piece, ...]


class Decided(msgspec.Struct, frozen=True, array_like=True):
    """What became of a batch.

    ``size`` is how many events there were before.  ``accepted`` says for each piece whether it was written.
    ``exhausted`` has, by the piece's place, the quota that was used up and how long, for those that were refused for
    that and no guard.
    """

    size: int
    accepted: tuple[bool, ...]
    exhausted: dict[int, tuple[str, int | None]] = {}

    def why_not(self, place: int) -> Exhausted | None:
        """The quota for which the piece at this place was refused; None if a guard of it moved."""
        found = self.exhausted.get(place)
        return None if found is None else Exhausted(*found)


class Commits(Protocol):
    """The way of one process to the record."""

    async def commit(self, batch: Batch) -> Decided:
        """Decide on a batch and write what is accepted, in one transaction, which is durable then.

        Raises:
            DatabaseBehind: the database holds fewer events than it must.
            Exception: nothing is known of it; or the database refused a row (:mod:`broker.base.faults` tells).
        """
        ...

    async def close(self) -> None:
        """Give up what is held of the database."""
        ...


def accepted_of(batch: Batch, accepted: Sequence[bool]) -> Sequence[Piece]:
    """The pieces that were accepted."""
    return batch.pieces if all(accepted) else list(compress(batch.pieces, accepted))
