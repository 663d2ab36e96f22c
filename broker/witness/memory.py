"""What a witness keeps: of each log the largest checkpoint that it let pass.

It is in one file of SQLite, and on the disk before anything is signed.  So however a witness ends, it goes on from
there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

from broker.base.sqlite import SqliteThread, keep_private
from broker.base.statements import Transaction
from broker.formats.checkpoint import Checkpoint
from broker.formats.merkle import Tree

Result = TypeVar("Result")

_TABLE = "CREATE TABLE IF NOT EXISTS seen (origin TEXT PRIMARY KEY, size INTEGER, root BLOB, note BLOB) STRICT"
_FIND = "SELECT size, root, note FROM seen WHERE origin = ?"
_KEEP = (
    "INSERT INTO seen VALUES (?, ?, ?, ?) "
    "ON CONFLICT (origin) DO UPDATE SET size = excluded.size, root = excluded.root, note = excluded.note"
)


class Seen(NamedTuple):
    """The largest checkpoint of a log, and its note; size 0 and no note at first."""

    size: int
    root: bytes
    note: bytes


class Memory:
    """The file; one process has it at a time."""

    def __init__(self, file: Path) -> None:
        keep_private(file)
        self._thread = SqliteThread(file)
        self._thread.executor.submit(self._thread.run, lambda transaction: transaction.rows(_TABLE)).result()

    async def let_pass(self, checkpoint: Checkpoint, note: bytes, passes: Callable[[Seen], None]) -> None:
        """Keep a checkpoint in the place of the log's last one, if ``passes`` doesn't raise.

        ``passes`` is asked with the last one, in the transaction that replaces it.  Once this returns, it is durable.
        """

        def work(transaction: Transaction) -> None:
            rows = transaction.rows(_FIND, (checkpoint.origin,))
            passes(Seen(*rows[0]) if rows else Seen(0, Tree().root(), b""))
            transaction.rows(_KEEP, (checkpoint.origin, checkpoint.size, checkpoint.root, note))

        await asyncio.get_running_loop().run_in_executor(self._thread.executor, self._thread.run, work)

    def close(self) -> None:
        """Close the file."""
        self._thread.close()
