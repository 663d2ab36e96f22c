"""Addresses of databases are taken as hosts print them, with what libpq reads in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from broker.base.address import usable
from broker.base.db import Database
from broker.config import SettingsUnusable, load

SSL_REQUEST = bytes.fromhex("0000000804d2162f")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_postgresqls_schemes_are_one(scheme: str) -> None:
    rest = "://u:p%40ss@db.example:5432/kb?sslmode=require&prepared_statement_cache_size=0"
    assert usable(scheme + rest) == "postgresql+asyncpg" + rest


def test_settings_hand_the_drivers_scheme_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_DATABASE_URL", "postgres://u:p@db.example/kb")
    assert load().database() == "postgresql+asyncpg://u:p@db.example/kb"


@pytest.mark.parametrize(
    ("address", "fix"),
    [
        ("mysql://u:s3cret@h/x", "mysql is not a database that the broker works with; write postgresql://"),
        ("postgresql+psycopg2://u:s3cret@h/x", r"postgresql\+psycopg2 is not .* write postgresql://"),
        ("sqlite:///s3cret.db", r"sqlite is not .* sqlite\+aiosqlite:///PATH"),
        ("s3cret", "what is given is not"),
        ("", "what is given is not"),
        ("sqlite+aiosqlite://", r"must name a file, .*: sqlite\+aiosqlite:///PATH"),
        ("sqlite+aiosqlite:///:memory:", "must name a file"),
        ("sqlite+aiosqlite:////s3cret?mode=ro", "must name a file, and nothing after it"),
        ("postgres://", "names no host or no database; write postgresql://"),
        ("postgres://u:s3cret@/x", "names no host or no database"),
        ("postgres://u:s3cret@h", "names no host or no database"),
        ("postgres://u:s3cret@h:99999/x", "can't be read"),
        ("postgres://u:s3cret@h/x?port=s3cret", "can't be read"),
        ("postgres://u:s3cret@/x?host=a&host=b", "can't be read"),
        ("postgres://u:s3cret@h/x?prepared_statement_cache_size=s3cret", "can't be read"),
        ("postgres://u:s3cret@h/x?sslmode=s3cret", "sslmode: write disable, .* or verify-full"),
        ("postgres://u:s3cret@h/x?ssl=true", "ssl: write disable, .* or verify-full"),
        ("postgres://u:s3cret@h/x?target_session_attrs=s3cret", "target_session_attrs: write any, "),
        ("postgres://u:s3cret@h/x?sslmode=verify-full&sslrootcert=/no/where", "sslrootcert: /no/where is no file"),
        ("postgres://u:s3cret@h:port/x", "can't be read; .* @ is %40"),
        ("postgres://u:s3cret@h/x?channel_binding=require", "channel_binding: .* take it out.*sslmode=verify-full"),
    ],
)
def test_what_can_not_be_used_is_refused_with_its_fix(monkeypatch: pytest.MonkeyPatch, address: str, fix: str) -> None:
    monkeypatch.setenv("BROKER_DATABASE_URL", address)
    with pytest.raises(SettingsUnusable, match=f"(?s)^BROKER_DATABASE_URL: {fix}") as refused:
        load()
    assert "s3cret" not in str(refused.value)


@pytest.fixture
async def heard() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A port, and what each connection said first; it has no TLS."""
    first: list[bytes] = []

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first.append(await reader.readexactly(8))
        writer.write(b"N")
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(server, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1], first
    listening.close()


async def test_a_server_without_tls_is_told_nothing_where_the_address_requires_it(
    heard: tuple[int, list[bytes]],
) -> None:
    port, first = heard
    db = Database(usable(f"postgres://u:p@127.0.0.1:{port}/x?sslmode=require"))
    with pytest.raises(OSError, match="SSL"):
        async with db.engine.connect():
            pass
    with pytest.raises(OSError, match="SSL"):
        await db.dedicated("test")
    assert first == [SSL_REQUEST] * 2
    await db.close()


async def test_what_a_server_is_told_by_the_address_reaches_it(postgres_url: str) -> None:
    db = Database(usable(f"{postgres_url}&application_name=keys&options=-csearch_path%3Dpg_catalog"))
    async with db.engine.connect() as connection:
        assert await connection.scalar(text("SHOW application_name")) == "keys"
        assert await connection.scalar(text("SHOW search_path")) == "pg_catalog"
        assert await connection.scalar(text("SHOW lock_timeout")) == "5s", "the broker's own stay"
    await db.close()
