"""Refuse to serve a database whose log is behind what a witness cosigned."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from broker.audit import integrating
from broker.audit.tables import CheckpointRow
from broker.audit.unavailable import DatabaseBehind
from broker.base.db import EVERY_TENANT, Database
from broker.base.outbound import Outbound
from broker.witness.asking import Shown, Silent, size_at
from broker.witness.listed import Listed

_log = structlog.get_logger()

# A start waits so long for witnesses: those that don't answer say nothing.
_PATIENCE_S = 3.0


async def check(db: Database, outbound: Outbound, listed: Sequence[Listed]) -> None:
    """Compare the log with what its witnesses have.

    Raises:
        DatabaseBehind: one of them has more; names the fix.
    """
    if not listed or (newest := await _newest(db)) is None:
        return
    shown = Shown(newest.size, newest.note, _nothing)
    sizes = await asyncio.gather(*(_size(outbound, witness, shown) for witness in listed))
    # The log may have grown meanwhile, in another process.
    present = await _newest(db)
    if present is None or present.origin != newest.origin:
        return
    for witness, size in zip(listed, sizes, strict=True):
        if size > present.size:
            raise DatabaseBehind(
                f"The witness {witness.key.name} cosigned the log at {size} events, and the database's log has "
                f"{present.size}: it was restored from a backup, and what was revoked since is in it as it was before. "
                "Run `broker restored --since TIME` on the server, with the time of that backup."
            )


async def _newest(db: Database) -> CheckpointRow | None:
    async with db.read(EVERY_TENANT) as session:
        return await integrating.newest(session)


async def _size(outbound: Outbound, witness: Listed, shown: Shown) -> int:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await size_at(outbound, witness, shown)
    except (Silent, TimeoutError) as error:
        _log.warning("witness.silent", witness=witness.key.name, why=str(error) or "it took too long")
        return 0


async def _nothing(_old: int) -> Sequence[bytes]:
    return ()
