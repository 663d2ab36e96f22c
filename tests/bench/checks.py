"""Checks of keys: how fast a backlog of one provider is through, at an upstream that answers in 50 ms.

A broker in this process does one duty over keys that are all due; the upstream is a process of its own.  They share the
machine with the database.  Figures, on SQLite and on PostgreSQL whose commits wait for the disk:
``checks_DATABASE_per_s``; ``checks_DATABASE_50000_minutes``, which is 50,000 over that rate: each page is read by an
index, so the rate does not fall with what waits behind it; and ``checks_DATABASE_cpu_ms``, the broker's for each check.
The keys' ids upstream are known, as they are from the moment that a key came into use.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import func, insert, select

from broker import app as composition
from broker import database
from broker.base.db import EVERY_TENANT
from broker.base.secret import Secret
from broker.cli.sandbox_folder import sandbox_provider
from broker.config import Settings
from broker.credentials.tables import CredentialRow, KeyEvidenceRow, VersionRow, binding_of
from broker.formats import ids
from broker.keystore.local import MasterKeys
from broker.organizations.tables import OrganizationRow
from tests.bench import upstream
from tests.bench.databases import databases

KEYS = 5_000
BACKLOG = 50_000
ANSWERS_IN_MS = 50
_PROVIDER = "raptor-comply"
_AT_ONCE = 500


def measure(directory: Path, keys: int = KEYS) -> dict[str, float]:
    """The named figures."""
    with ExitStack() as stack:
        port = stack.enter_context(upstream.running(directory / "upstream", answers_in_ms=ANSWERS_IN_MS))
        (url,) = stack.enter_context(databases(directory / "postgres", ["checks"]))
        found: dict[str, float] = {}
        for name, address in (("sqlite", None), ("postgres", url)):
            found |= asyncio.run(
                checked(directory / f"on-{name}", address, f"http://127.0.0.1:{port}", keys, f"checks_{name}")
            )
    return found


async def checked(home: Path, url: str | None, upstream_url: str, keys: int, name: str) -> dict[str, float]:
    """The figures of one database, None for the embedded one."""
    home.mkdir()
    sandbox_provider(home / "providers", upstream_url)
    MasterKeys({}, "").with_new_key().write_file(home / "master-keys.toml")
    settings = Settings(
        state_dir=home,
        database_url=url and SecretStr(url),
        master_key_file=home / "master-keys.toml",
        providers_dir=home / "providers",
    )
    await database.migrate(settings)
    async with composition.running(settings) as broker:
        for first in range(0, keys, _AT_ONCE):
            await _fill(broker, range(first, min(keys, first + _AT_ONCE)))
        began, cpu = time.perf_counter(), time.process_time()
        while left := await _waiting(broker):
            await broker.worker.duties["check_health"].run()
            print(f"checks: {left:,} were due, {await _waiting(broker):,} are …", flush=True)
        rate, cpu = keys / (time.perf_counter() - began), time.process_time() - cpu
        return {
            f"{name}_per_s": rate,
            f"{name}_50000_minutes": BACKLOG / rate / 60,
            f"{name}_cpu_ms": cpu / keys * 1000,
        }


async def _fill(broker: composition.Broker, numbers: range) -> None:
    """Customers with a key each, that is due since a while."""
    parts = broker.services.parts
    now = parts.clock()
    hashed = [parts.keys.evidence(_PROVIDER, facility["id"]) for facility in upstream.FACILITIES]
    versions, shown = [], []
    async with parts.db.write(EVERY_TENANT) as session:
        for number in numbers:
            organization, credential = ids.new(ids.OrganizationId), ids.new(ids.CredentialId)
            session.add(OrganizationRow(id=organization, slug=f"n{number}", name="N", state="active", created_at=now))
            session.add(
                CredentialRow(
                    id=credential,
                    organization_id=organization,
                    provider=_PROVIDER,
                    label="default",
                    state="active",
                    variables={},
                    created_at=now,
                )
            )
            place = {"organization_id": organization, "credential_id": credential, "version": 1}
            shown += [{**place, "id_hash": each} for each in hashed]
            binding = binding_of(organization, credential, 1, _PROVIDER)
            versions.append(
                {
                    "organization_id": organization,
                    "credential_id": credential,
                    "number": 1,
                    "provider": _PROVIDER,
                    "state": "active",
                    "sealed": await parts.keystore.seal(Secret(b"rc_live_" + b"k" * 64), binding),
                    "fingerprint": str(number),
                    "last4": "kkkk",
                    "verdict": "active",
                    "probes": 0,
                    "next_probe_at": now - numbers.stop + number,
                    "staged_at": now,
                    "activated_at": now,
                }
            )
        await session.flush()
        await session.execute(insert(VersionRow), versions)
        await session.execute(insert(KeyEvidenceRow), shown)


async def _waiting(broker: composition.Broker) -> int:
    parts = broker.services.parts
    async with parts.db.read(EVERY_TENANT) as session:
        due = select(func.count()).where(VersionRow.state == "active", VersionRow.next_probe_at <= parts.clock())
        return await session.scalar(due) or 0
