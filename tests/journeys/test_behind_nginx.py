"""The main job through the sites as they are shipped, before a real broker: nothing that nginx does gets between."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from broker.sandbox.serve import running as serving
from broker.serving import protocol
from tests.deploy.test_nginx import SITES, Stand, served
from tests.deploy.tools import needs
from tests.support.lab import KEY, Lab, Seen, body_of, lab_upstream
from tests.support.world import World, running_world, settings_for, upstream

pytestmark = needs("nginx", package="nginx-light")
DELAY_S = 0.02


@dataclass
class Front:
    """A broker that is reached through nginx only, and a customer's key at a scripted upstream."""

    world: World
    lab: Lab
    url: httpx2.URL
    trusting: ssl.SSLContext
    cut: Callable[[], None]

    async def lease(self) -> dict[str, Any]:
        job = await self.world.job()
        grant = await self.world.grant(job, "acme", provider="lab")
        return await job.lease("acme", provider="lab", grant=grant)

    async def raw(self, lease: dict[str, Any], head: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Bytes on a connection to nginx; ``%TOKEN%`` in them becomes the lease's token."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.url.port, ssl=self.trusting)
        writer.write(head.replace(b"%TOKEN%", lease["token"].encode()))
        return reader, writer


@asynccontextmanager
async def fronted(
    site: Path, directory: Path, database_url: str, *, changes: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[Front]:
    """A site before a broker; ``changes`` are made to the site's text, ``more`` are settings."""
    (directory / "nginx").mkdir()
    shown = directory / "nginx" / "site.conf"
    text = site.read_text()
    for shipped, here in (changes or {}).items():
        assert shipped in text
        text = text.replace(shipped, here)
    shown.write_text(text)
    async with (
        lab_upstream(directory / "providers") as lab,
        upstream() as (state, url),
        running_world(settings_for(directory, database_url, url, **more), state, url) as world,
        serving(world.edge, protocol=protocol(world.settings)) as address,
        far(int(address.rpartition(":")[2])) as (port, cut),
    ):
        stand = Stand(port)
        with served(shown, (stand, stand), directory / "nginx") as client:
            trusting = ssl.create_default_context(cafile=str(directory / "nginx" / "ca.pem"))
            async with httpx2.AsyncClient(base_url=client.base_url, verify=trusting, timeout=30) as http:
                world.http = http
                await world.organization("acme")
                wanted = {"organization": "acme", "provider": "lab", "key": KEY}
                await world.call("POST", "/v1/credentials", status=201, json=wanted)
                yield Front(world, lab, client.base_url, trusting, cut)


@asynccontextmanager
async def far(port: int) -> AsyncIterator[tuple[int, Callable[[], None]]]:
    """A way to this port that takes each byte, and each end, a moment; and what cuts it."""
    ends: list[asyncio.StreamWriter] = []

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        clock = asyncio.get_running_loop().time

        async def arrive() -> None:
            while True:
                at, data = await due.get()
                await asyncio.sleep(at - clock())
                if not data:
                    writer.close()
                    return
                writer.write(data)

        arriving = asyncio.create_task(arrive())
        try:
            while data := await reader.read(65_536):
                due.put_nowait((clock() + DELAY_S, data))
        except ConnectionError:
            pass
        due.put_nowait((clock() + DELAY_S, b""))
        await arriving

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", port)
        ends.extend((writer, there[1]))
        await asyncio.gather(carry(reader, there[1]), carry(there[0], writer))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)

    def cut() -> None:
        server.close()
        for writer in ends:
            writer.transport.abort()

    yield server.sockets[0].getsockname()[1], cut
    server.close()


def code(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of a problem."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    said = response.json()
    assert said["status"] == response.status_code
    assert said["type"] == f"urn:keybroker:problem:{said['code']}"
    assert said["title"]
    assert said["detail"].endswith(".")
    return response.status_code, said["code"]


@SITES
async def test_a_key_is_received_used_and_cut_off(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    async with fronted(site, tmp_path, sqlite_url) as front:
        world = front.world
        # given a customer's key over a one-time link, and a job with a right to it
        intake, secret = await world.request_key("acme")
        assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
        job = await world.job()
        await world.grant(job, "acme")
        lease = await job.lease("acme")

        # when it calls, then upstream answers
        answer = await world.proxied(lease, "/facilities")
        assert (answer.status_code, len(answer.json())) == (200, 3)
        head = await world.proxied(lease, "/facilities", "HEAD")
        assert (head.status_code, head.content) == (200, b"")
        assert (await world.http.head("/openapi.json")).status_code == 200

        # when the credential is revoked, then the next call is refused
        await world.call("POST", f"/v1/credentials/{lease['lease']['credential']}/revoke", json={"reason": "leak"})
        assert code(await world.proxied(lease, "/facilities")) == (403, "key_revoked")


@SITES
async def test_what_is_sent_arrives_as_it_was_sent(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    async with fronted(site, tmp_path, sqlite_url) as front:
        lease = await front.lease()
        headers = {"Authorization": f"Bearer {lease['token']}", "X-Kept": "as it is"}
        query = "q=" + "x" * 15_000
        got = await front.world.http.post(f"/proxy/acme/lab/things?{query}", headers=headers, content=b"\0\xffbody")
        assert (got.status_code, got.json()) == (200, {"ok": True})
        seen = front.lab.calls[-1]
        assert (seen.method, seen.target) == ("POST", f"/base/things?{query}".encode())
        assert (seen.body, seen.values("x-kept")) == (b"\0\xffbody", ["as it is"])
        assert seen.values("x-lab-key") == [KEY]


@SITES
async def test_uploads_and_downloads_stream_through(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    came, heard = asyncio.Event(), asyncio.Event()

    async def echo(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers with the first of the body before the rest of it came."""
        body = body_of(seen, reader)
        first = await anext(body)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(first), first))
        came.set()
        await heard.wait()
        rest = b"".join([part async for part in body])
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest))

    async with fronted(site, tmp_path, sqlite_url) as front, asyncio.timeout(30):
        front.lab.scripts["/echo"] = echo
        lease = await front.lease()
        reader, writer = await front.raw(
            lease,
            b"POST /proxy/acme/lab/echo HTTP/1.1\r\nHost: keys\r\nAuthorization: Bearer %TOKEN%\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n",
        )
        await came.wait()
        assert b"first" in await reader.readuntil(b"first")
        heard.set()
        writer.write(b"40000\r\n" + b"x" * 0x40000 + b"\r\n0\r\n\r\n")
        assert (await reader.read()).count(b"x") == 0x40000
        writer.close()


@SITES
async def test_no_answer_turns_a_connection_into_something_else(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    async with fronted(site, tmp_path, sqlite_url) as front:
        front.lab.scripts["/switch"] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
        lease = await front.lease()
        headers = {"Authorization": f"Bearer {lease['token']}", "Upgrade": "x", "Connection": "Upgrade"}
        got = await front.world.http.get("/proxy/acme/lab/switch", headers=headers)
        assert code(got) == (502, "upstream_unreadable")


@SITES
async def test_what_is_refused_is_a_problem_whoever_refuses_it(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    async with fronted(site, tmp_path, sqlite_url) as front:
        http = front.world.http
        # by the broker
        assert code(await http.get("/proxy/acme/lab/x", headers={"Authorization": "Bearer none"}))[0] == 401
        assert code(await http.post("/v1/leases", content=b"x" * 100_000, headers=front.world.admin))[0] == 413
        assert code(await http.get("/nothing")) == (404, "not_found")
        many = {f"x-{number}": "y" for number in range(150)}
        assert code(await http.get("/v1/leases", headers=many)) == (431, "head_too_large")
        lease = await front.lease()
        token = {"Authorization": f"Bearer {lease['token']}"}
        assert code(await http.get("/proxy/acme/lab/x%2fy", headers=token)) == (422, "path_refused")
        assert code(await http.get("/proxy/acme/lab/x?" + "a" * 17_000, headers=token)) == (422, "invalid")
        assert code(await http.request("LIST", "/proxy/acme/lab/x", headers=token)) == (405, "method_not_allowed")
        # by nginx
        assert code(await http.post("/v1/leases", content=b"x" * 2_000_000)) == (413, "too_large")
        report = "/v1/leaks/reports/github"
        assert code(await http.post(report, content=b"x" * 4 * 1024**2)) == (404, "reports_off"), "the broker decides"
        assert code(await http.post(report, content=b"x" * (4 * 1024**2 + 1))) == (413, "too_large")
        assert code(await http.get("/x", headers={"X-Long": "x" * 70_000})) == (431, "head_too_large")
        assert code(await http.get("/metrics")) == (404, "not_found")
        assert code(await http.request("TRACE", "/x")) == (405, "method_not_allowed")
        for head, said in ((b"GET /x", b"bad_request"), (b"GET /" + b"x" * 70_000, b"uri_too_long")):
            reader, writer = await front.raw(lease, head + b" HTTP/1.1\r\nConnection: close\r\n\r\n")
            assert b'"code":"%b"' % said in await reader.read()
            writer.close()
        # by nobody: the broker is gone
        front.cut()
        assert code(await http.get("/v1/leases")) == (502, "broker_unreachable")


@SITES
async def test_no_post_is_lost_after_an_idle_time(site: Path, tmp_path: Path, sqlite_url: str) -> None:
    """Here with a broker that keeps idle connections for 1 s, and nginx for 0.2 s: around both."""
    changes = {"keepalive_timeout 60s;": "keepalive_timeout 200ms;"}
    async with fronted(site, tmp_path, sqlite_url, changes=changes, http_idle_seconds=1) as front:
        lease = await front.lease()
        headers = {"Authorization": f"Bearer {lease['token']}"}
        waits = [0.0, *(base + step * 0.01 for base in (0.2, 1.0) for step in range(-6, 7, 2))]
        front.lab.requests.clear()
        for wait in waits:  # one after another: each finds the connection that the last one left
            await asyncio.sleep(wait)
            got = await front.world.http.post(f"/proxy/acme/lab/{wait:.2f}", headers=headers, content=b"x")
            assert got.status_code == 200, f"after {wait:.2f} s"
        assert len(front.lab.calls) == len(waits), "and each was made once"
