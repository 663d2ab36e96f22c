"""HEAD works wherever GET does, and no address leads elsewhere."""

from __future__ import annotations

import asyncio
import re

import httpx2
import pytest

from broker.formats import ids
from broker.sandbox.serve import running
from broker.serving import probes
from tests.support.world import World

UNDOCUMENTED = [
    "/openapi.json",
    "/docs",
    "/docs/reference.css",
    "/static/intake.js",
    "/static/page.css",
    "/static/licences.txt",
    "/intake/x",
    "/status/x",
]


def addresses(world: World, method: str) -> list[str]:
    paths = [path for path, operations in world.app.openapi()["paths"].items() if method in operations]
    given = {"number": "1", "organization": "acme", "workload": "sync", "provider": "github"}
    return [re.sub(r"{(\w+)}", lambda part: given.get(part[1]) or ids.new(ids.IntakeId), path) for path in paths]


async def test_head_is_answered_as_get_without_the_content(world: World) -> None:
    await world.key_for("acme")
    everywhere = [*addresses(world, "get"), *UNDOCUMENTED]
    assert len(everywhere) > 25
    for path in everywhere:
        got = await world.http.get(path, headers=world.admin)
        head = await world.http.head(path, headers=world.admin)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers.get("content-type") == got.headers.get("content-type"), path
        if path not in {"/metrics", "/v1/audit/events"}:  # which tell of what was just asked
            assert head.headers.get("content-length") == got.headers.get("content-length"), path


async def test_head_is_a_method_of_its_own_in_metrics_and_in_allow(world: World) -> None:
    assert (await world.http.head("/healthz")).status_code == 200
    text = (await world.http.get("/metrics")).text
    assert 'keybroker_requests_total{method="HEAD",route="/healthz",status="200"} 1.0' in text
    refused = await world.http.delete("/healthz")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
    elsewhere = await world.http.head("/v1/bootstrap")
    assert (elsewhere.status_code, elsewhere.headers["allow"], elsewhere.content) == (405, "POST", b"")


async def test_head_leaves_a_connection_in_step(world: World) -> None:
    async with running(world.edge) as url:
        port = int(url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(b"HEAD /static/intake.js HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert b"content-length: " in head
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200"), "no content of the answers before it"
        writer.close()


async def test_the_workers_probes_take_head_too(world: World) -> None:
    transport = httpx2.ASGITransport(app=probes(world.broker))
    async with httpx2.AsyncClient(transport=transport, base_url="http://x") as client:
        for path in ("/healthz", "/readyz", "/metrics"):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b""), path
        assert (await client.get("/healthz/", headers={"Host": "evil.example"})).status_code == 404


@pytest.mark.parametrize("method", ["get", "post", "delete"])
async def test_no_redirect_is_made_of_the_host_header(world: World, method: str) -> None:
    await world.organization("acme")
    everywhere = [*addresses(world, method), *(UNDOCUMENTED if method == "get" else [])]
    for path in everywhere:
        for other in (f"{path}/", path.replace("/v1", "/v1/"), f"/{path}"):
            if other == path:
                continue
            answer = await world.http.request(method, f"http://127.0.0.1:8080{other}", headers={"Host": "evil.example"})
            assert answer.status_code in {404, 405}, other
            assert "evil.example" not in f"{answer.headers}{answer.text}", other
            assert answer.headers["content-type"] == "application/problem+json", other


@pytest.mark.parametrize("token", [b"a.\xff.b", b"\xff", b"kbo_\xff", "é.é.é".encode(), b"e30.e30.\xff", b"a.b.c"])
async def test_a_token_that_is_not_ascii_is_a_401(world: World, token: bytes) -> None:
    for path in ("/v1/leases", "/v1/organizations", "/v1/audit/events"):
        answer = await world.http.get(path, headers={b"Authorization": b"Bearer " + token})
        assert answer.status_code == 401, answer.text
        assert answer.headers["www-authenticate"] == 'Bearer error="invalid_token"'
    bare = await world.http.get("/v1/leases")
    assert (bare.status_code, bare.headers["www-authenticate"]) == (401, "Bearer")
