"""A batch of one of several processes on SQLite.

A worker hands it to its parent, which writes for all of them.  The parent decides as one process does
(:mod:`broker.audit.on_sqlite`).  Batches that come together share a transaction, in which the later one sees what the
earlier one has changed.
"""

from __future__ import annotations

import msgspec

from broker.audit import on_sqlite
from broker.audit.batch import Batch, Decided
from broker.audit.unavailable import DatabaseBehind
from broker.base.parent import Parent
from broker.base.statements import Transaction

_encoder = msgspec.msgpack.Encoder()
_batch = msgspec.msgpack.Decoder(Batch)
_decided: msgspec.msgpack.Decoder[Decided | None] = msgspec.msgpack.Decoder(Decided | None)


class ThroughParent:
    """Batches of one of several processes."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent

    async def commit(self, batch: Batch) -> Decided:
        decided = _decided.decode(await self._parent.write(_encoder.encode(batch)))
        if decided is None:
            raise DatabaseBehind
        return decided

    async def close(self) -> None:
        """Nothing of its own is held."""


def written(transaction: Transaction, batch: bytes) -> bytes:
    """The parent's side: decide on a batch and write what is accepted.

    The answer is for :class:`ThroughParent`.
    """
    try:
        decided = on_sqlite.write(_batch.decode(batch), transaction)
    except DatabaseBehind:  # it has written nothing
        return _encoder.encode(None)
    return _encoder.encode(decided)
