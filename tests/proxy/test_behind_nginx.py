"""The main job through the nginx sites that are shipped, before a real broker: nginx answers nothing of its own."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from broker.config import Settings
from tests.deploy.test_nginx import DEPLOY, SITES, Stand, served
from tests.deploy.tools import needs
from tests.proxy.conftest import Bench
from tests.support.lab import Seen, answer, body_of

pytestmark = needs("nginx", package="nginx-light")


async def behind(site: Path, bench: Bench, directory: Path, what: Callable[[httpx2.Client], None]) -> None:
    """Do something as somebody before nginx, which stands before the broker."""
    broker = Stand(port=int(bench.url.rpartition(":")[2]))

    def do() -> None:
        with served(site, (broker, broker), directory) as client:
            what(client)

    await asyncio.to_thread(do)


@SITES
async def test_a_job_leases_and_calls_both_ways(site: Path, bench: Bench, tmp_path: Path) -> None:
    grant = await bench.world.grant(bench.job, "acme", provider="lab")
    job = await bench.job.headers()
    large = b"x" * 3_000_000

    async def echoes(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = b"".join([chunk async for chunk in body_of(seen, reader)])
        writer.write(answer(body))

    async def switches(_seen: Seen, _reader: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")

    bench.lab.scripts |= {"/echo": echoes, "/switch": switches}

    def calls(client: httpx2.Client) -> None:
        upgrade = {"Upgrade": "websocket"}
        wanted = {"organization": "acme", "provider": "lab", "grant": grant}
        leased = client.post("/v1/leases", headers=job, json=wanted)
        assert leased.status_code == 201, leased.text
        token = {"Authorization": f"Bearer {leased.json()['token']}"}
        assert client.get("/proxy/acme/lab/x?a=b", headers={**token, "X-CaSe": "y"}).json() == {"ok": True}
        assert client.post("/proxy/acme/lab/echo", headers=token, content=large).content == large
        assert client.head("/proxy/acme/lab/x", headers=token).status_code == 200
        for refused, status, code in (
            (client.get("/proxy/acme/lab/x%2fy", headers=token), 422, "path_refused"),
            (client.get("/proxy/acme/lab/x", headers={"Authorization": "Bearer nonsense"}), 401, "unknown_lease"),
            (client.get("/proxy/acme/lab/x?" + "a" * 17_000, headers=token), 422, "invalid"),
            (client.request("LIST", "/proxy/acme/lab/x", headers=token), 405, "method_not_allowed"),
            (
                client.get("/proxy/acme/lab/switch", headers=token | upgrade),
                502,
                "upstream_unreadable",
            ),
            (client.post("/v1/leases", headers=job, json={}), 422, "invalid"),
        ):
            assert refused.headers["content-type"] == "application/problem+json", refused.text[:200]
            assert (refused.status_code, refused.json()["code"]) == (status, code)

    await behind(site, bench, tmp_path, calls)
    assert [(seen.method, len(seen.body)) for seen in bench.lab.calls[:2]] == [("GET", 0), ("POST", 0)]
    assert bench.lab.calls[0].target == b"/base/x?a=b"


@SITES
async def test_calls_after_a_pause_are_never_lost_between_the_two(site: Path, bench: Bench, tmp_path: Path) -> None:
    """nginx keeps its connections for a second here, so that each pause ends at another moment of that."""
    shorter = tmp_path / "site.conf"
    shorter.write_text(site.read_text().replace("keepalive_timeout 60s;", "keepalive_timeout 1s;"))
    token = {"Authorization": f"Bearer {(await bench.lease())['token']}"}

    def calls(client: httpx2.Client) -> None:
        for pause in (0.2, 0.9, 0.95, 1.0, 1.05, 1.1, 1.5):
            got = client.post("/proxy/acme/lab/x", headers=token)
            assert got.status_code == 200, got.text
            time.sleep(pause)

    await behind(shorter, bench, tmp_path, calls)
    assert len(bench.lab.calls) == 7, "each once"


def test_whatever_stands_in_front_ends_idle_connections_first() -> None:
    ours = Settings.model_fields["http_idle_seconds"].default
    kept = {
        str(file.relative_to(DEPLOY)): [int(seconds) for seconds in re.findall(r"keepalive_timeout (\d+)s;", text)]
        for file in sorted(DEPLOY.rglob("*.conf"))
        if re.search(r"^\s*keepalive \d+;", text := file.read_text(), re.MULTILINE)
    }
    assert kept == {"compose/nginx.conf": [60]}, "a site that keeps connections says for how long"
    assert all(seconds < ours for found in kept.values() for seconds in found)
