"""Many organizations beside acme, each with a key and a grant to the same job, put straight into the database."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from pydantic import SecretStr
from sqlalchemy import Table, select, text

from broker import keystore_setup
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database, table
from broker.config import Settings
from broker.credentials.tables import CredentialRow, VersionRow
from broker.grants.tables import GrantRow
from broker.keystore import internal
from broker.organizations.tables import OrganizationRow
from tests.bench import broker
from tests.bench.load import http

_STRETCH = 5_000
AT_ONCE = 20_000  # a broker that serves meanwhile waits for its turn to write no longer than these take

_ID = {"postgresql": "lpad(to_hex(n), 32, '0')::uuid", "sqlite": "'{}_' || printf('%032x', n)"}
_HASH = {"postgresql": "md5(n::text)", "sqlite": "printf('%032x', n)"}
_COPIES = {
    table(OrganizationRow): {"id": "{org}", "slug": "'n' || n", "name": "'N' || n"},
    table(CredentialRow): {"id": "{crd}", "organization_id": "{org}"},
    table(VersionRow): {
        "credential_id": "{crd}",
        "organization_id": "{org}",
        "fingerprint": "{hash}",
        "leak_mark": "{hash}",
        "next_probe_at": "CAST(NULL AS bigint)",
    },
    table(GrantRow): {"id": "{grt}", "organization_id": "{org}"},
}


async def populate(home: Path, url: str | None, size: int) -> None:
    """Copy acme's rows for so many organizations more, ``n1`` and so on, beside the broker whose state is in ``home``.

    ``url`` is of its database, None of the file that is in ``home``, too.
    Their keys' bytes are acme's, which nothing here opens, and their rights are not the broker's own, until
    :func:`authenticate` makes them so.
    """
    address = _settings(home, url).database()
    db = Database(address)
    try:
        for first in range(1, size + 1, AT_ONCE):
            numbers = f"WITH RECURSIVE numbers(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM numbers \
WHERE n < {min(size, first + AT_ONCE - 1)})"
            async with db.write(EVERY_TENANT) as session:
                for rows, replaced in _COPIES.items():
                    await session.execute(text(_copying(rows, replaced, numbers, db.dialect)))
    finally:
        await db.close()
    if db.dialect == "postgresql":
        await _vacuum(address)


def _copying(rows: Table, replaced: dict[str, str], numbers: str, dialect: str) -> str:
    columns = [column.name for column in rows.columns]
    made = {prefix: _ID[dialect].format(prefix) for prefix in ("org", "crd", "grt")}
    values = [replaced.get(name, f"{rows.name}.{name}").format(hash=_HASH[dialect], **made) for name in columns]
    whose = "id" if rows.name == OrganizationRow.__tablename__ else "organization_id"
    return (
        f"INSERT INTO {rows.name} ({', '.join(columns)}) {numbers} SELECT {', '.join(values)} "
        f"FROM {rows.name}, numbers WHERE {whose} = (SELECT id FROM organizations WHERE slug = 'acme')"
    )


async def _vacuum(url: str) -> None:
    """What PostgreSQL would do by itself a little later, in the midst of what is measured."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""), command_timeout=1200)
    try:
        for rows in _COPIES:
            await connection.execute(f"VACUUM ANALYZE {rows.name}")
    finally:
        await connection.close()


def drawn(size: int, most: int) -> list[str]:
    """The names of at most so many of ``size``, at random, the same ones each time."""
    return [f"n{number}" for number in random.Random(size).sample(range(1, size + 1), min(size, most))]


async def authenticate(home: Path, url: str | None, slugs: Sequence[str]) -> None:
    """Make the copied rights of these organizations the broker's own, with the keys that are in ``home``."""
    settings = _settings(home, url)
    db = Database(settings.database())
    try:
        async with keystore_setup.opened(settings, db, now_ms, may_create=False) as opened:
            await internal.load(db, keystore_setup.in_force(settings, opened), now_ms())
        for stretch in stretches(slugs):
            organizations = [f"org_{int(slug[1:]):032x}" for slug in stretch]
            async with db.write(EVERY_TENANT) as session:
                for query in (
                    select(OrganizationRow).where(OrganizationRow.id.in_(organizations)),
                    select(CredentialRow).where(CredentialRow.organization_id.in_(organizations)),
                    select(GrantRow).where(GrantRow.organization_id.in_(organizations)),
                ):
                    for row in await session.scalars(query):
                        row.authenticate(db.row_key)
    finally:
        await db.close()


def _settings(home: Path, url: str | None) -> Settings:
    return Settings(state_dir=home, database_url=None if url is None else SecretStr(url))


def stretches(slugs: Sequence[str]) -> list[Sequence[str]]:
    """Few enough at a time for one transaction, and for one access token to outlast their leases."""
    return [slugs[first : first + _STRETCH] for first in range(0, len(slugs), _STRETCH)]


def leases(served: broker.Served, slugs: Sequence[str]) -> list[bytes]:
    """A request for a lease of each, with a token of now: populating may outlast the one of the set-up."""
    job = {"Authorization": f"Bearer {served.fresh_access_token()}"}
    bodies = [json.dumps({"organization": slug, "provider": "raptor-comply"}).encode() for slug in slugs]
    return [http("POST", "/v1/leases", job, body) for body in bodies]
