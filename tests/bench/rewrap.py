"""Moving sealed values to a new master key while jobs use keys, on both databases.

Figures, for ``sqlite`` and ``postgres``, with so many versions of keys, each sealed for real (:data:`VALUES`):

- ``rewrap_values``: how many those are;
- ``rewrap_NAME_status_s``: until it is counted which master keys hold them;
- ``rewrap_NAME_per_s``: values moved each second, with the counts before and after, while eight callers use a key;
- ``rewrap_NAME_again_s``: the same command again, when there is nothing left to move;
- ``rewrap_NAME_use_p99_ms``, ``…_use_p99_before_ms``: of these callers, meanwhile and before; ``…_use_p99_ratio``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import insert

from broker import app as composition
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.base.secret import Secret
from broker.config import Settings
from broker.credentials.tables import VersionRow, binding_of
from broker.formats import ids
from broker.formats.ids import CredentialId, OrganizationId
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.local import LocalKeyWrapper, MasterKeys
from broker.rewrap import held_by, rewrap_all
from tests.bench import broker, upstream
from tests.bench.databases import databases
from tests.bench.load import Measured, http, run

VALUES = 20_000
CONNECTIONS = 8
SECONDS = 3.0
_STRETCH = 1_000


def measure(directory: Path, *, values: int = VALUES) -> dict[str, float]:
    """The named figures."""
    figures: dict[str, float] = {"rewrap_values": values}
    with upstream.running(directory / "upstream") as port, databases(directory / "pg", ["rewrap"]) as (url,):
        for name, address in (("sqlite", None), ("postgres", url)):
            home = directory / name
            home.mkdir()
            with broker.running(home, f"http://127.0.0.1:{port}", database_url=address) as served:
                settings = Settings(state_dir=home, database_url=None if address is None else SecretStr(address))
                found = asyncio.run(_moved(settings, served, values))
                figures |= {f"rewrap_{name}_{figure}": value for figure, value in found.items()}
    return figures


async def _moved(settings: Settings, served: broker.Served, values: int) -> dict[str, float]:
    await _fill(settings, values)
    before = await asyncio.to_thread(_used, served)
    async with composition.running(settings) as moving:
        db = moving.services.parts.db
        MasterKeys.from_file(settings.key_file()).with_new_key().write_file(settings.key_file())
        began = time.perf_counter()
        assert sum((await held_by(db)).values()) >= values
        counted = time.perf_counter()
        meanwhile = asyncio.create_task(asyncio.to_thread(_used, served))
        move_began = time.perf_counter()
        done = await rewrap_all(moving.services, to=moving.keystores.moving_to(settings.keystore))
        moved = time.perf_counter()
        assert not done.stuck
        assert done.moved.total() >= values
        await rewrap_all(moving.services, to=moving.keystores.moving_to(settings.keystore))
        again = time.perf_counter()
    during = await meanwhile
    return {
        "status_s": counted - began,
        "per_s": done.moved.total() / (moved - move_began),
        "again_s": again - moved,
        "use_p99_before_ms": before.p99,
        "use_p99_ms": during.p99,
        "use_p99_ratio": during.p99 / before.p99,
    }


def _used(served: broker.Served) -> Measured:
    call = http("GET", "/proxy/acme/raptor-comply/facilities", {"Authorization": f"Bearer {served.lease_token}"})
    found = run(served.port, call, connections=CONNECTIONS, seconds=SECONDS)
    if found.failed:
        raise RuntimeError(f"{found.failed} of {found.answers} uses failed")
    return found


async def _fill(settings: Settings, values: int) -> None:
    """Versions whose time is over, so that no duty of the broker that serves touches them."""
    keystore = EnvelopeKeystore(LocalKeyWrapper(MasterKeys.from_file(settings.key_file())))
    db = Database(settings.database())
    try:
        for first in range(0, values, _STRETCH):
            rows = [await _version(keystore, number) for number in range(first, min(values, first + _STRETCH))]
            await _insert(db, rows)
    finally:
        await db.close()


async def _version(keystore: EnvelopeKeystore, number: int) -> dict[str, object]:
    organization, credential = ids.new(OrganizationId), ids.new(CredentialId)
    now = now_ms()
    binding = binding_of(organization, credential, 1, "raptor-comply")
    return {
        "organization_id": organization,
        "credential_id": credential,
        "number": 1,
        "provider": "raptor-comply",
        "state": "revoked",
        "sealed": await keystore.seal(Secret(f"rc_live_{number:064d}".encode()), binding),
        "fingerprint": f"{number:032x}",
        "last4": "0000",
        "verdict": "",
        "probes": 0,
        "staged_at": now,
        "revoked_at": now,
        "confirmed_at": now,
    }


async def _insert(db: Database, rows: Sequence[dict[str, object]]) -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.execute(insert(VersionRow), rows)
