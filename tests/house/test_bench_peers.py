"""What the proxy is compared with does what its promise to the benchmark says: each allowed call is on its record."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import httpx2
import pytest

from tests.bench import auth_request, nginx, upstream
from tests.support.databases import Postgres

TOKEN, KEY = "t" * 43, "rc_live_secret"


@pytest.mark.skipif(not nginx.installed(), reason="no nginx on this machine")
def test_the_application_that_nginx_asks_lets_known_tokens_pass_and_records_each_use(
    prepared_postgres: Postgres, tmp_path: Path
) -> None:
    database = asyncio.run(prepared_postgres.fresh("template0"))
    try:
        with (
            upstream.running(tmp_path / "upstream") as port,
            auth_request.running(tmp_path / "peer", database, port, TOKEN, KEY) as (peer, pids),
            httpx2.Client(base_url=f"http://127.0.0.1:{peer}") as http,
        ):
            presented = ({"Authorization": f"Bearer {token}"} for token in (TOKEN, "unknown", TOKEN))
            answers = [http.get("/facilities?a=1", headers=headers) for headers in presented]
            recorded = asyncio.run(uses(database))
    finally:
        asyncio.run(prepared_postgres.drop(database))
    assert [answer.status_code for answer in answers] == [200, 401, 200]
    assert answers[0].json() == upstream.FACILITIES
    assert recorded == [("acme", "GET", "/facilities?a=1")] * 2
    assert len(set(pids)) == 2


async def uses(database: str) -> list[tuple[str, ...]]:
    """Whose, method and URI of each."""
    connection = await asyncpg.connect(database.replace("+asyncpg", ""))
    try:
        return [tuple(row) for row in await connection.fetch("SELECT organization, method, uri FROM uses ORDER BY id")]
    finally:
        await connection.close()
