"""What stands between a command and the broker if the lease is bound to a key: it signs, and does nothing else."""

from __future__ import annotations

import asyncio
import base64
import re
import select
import socket
import time
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from broker.cli.forwarding import forwarding, unproxied
from broker.client.upstream import Upstream
from tests.client.served import LAB, ClientBench, client_bench, open_
from tests.proxy.test_retries import GOOD, Sequence
from tests.support.lab import answer


@pytest.fixture
async def bench(tmp_path: Any, sqlite_url: str) -> AsyncIterator[ClientBench]:
    async with client_bench(tmp_path, sqlite_url) as made, open_(made):
        await made.grant(LAB, bound=True)
        yield made


class Forwarded:
    """The lab through the broker through a forwarder."""

    def __init__(self, bench: ClientBench, upstream: Upstream, url: str) -> None:
        self.bench, self.upstream, self.url = bench, upstream, url

    async def call(self, path: str, method: str = "GET", *, token: str = "", **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token or self.upstream.token}", **options.pop("headers", {})}
        return await asyncio.to_thread(
            requests.request,
            method,
            self.url + path,
            headers=headers,
            timeout=20,
            allow_redirects=False,
            **options,
        )


@pytest.fixture
async def lab(bench: ClientBench) -> AsyncIterator[Forwarded]:
    upstream = await asyncio.to_thread(bench.client().upstream, "acme", LAB)
    context = forwarding(upstream, None)
    url = await asyncio.to_thread(context.__enter__)
    yield Forwarded(bench, upstream, url)
    await asyncio.to_thread(context.__exit__, None, None, None)
    await asyncio.to_thread(upstream.close)


@contextmanager
def connected(lab: Forwarded) -> Any:
    port = int(lab.url.split(":")[2].split("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
        yield made


async def test_calls_go_on_with_a_proof_each(lab: Forwarded) -> None:
    script = lab.bench.lab.scripts["/x"] = Sequence(GOOD)
    for _ in range(3):
        got = await lab.call("/x?a=%20b", "POST", data=b"body")
        assert (got.status_code, got.content) == (200, b"good"), got.text
    assert script.bodies == [b"body"] * 3
    assert all("dpop" not in seen.names for seen in lab.bench.lab.calls)


async def test_it_listens_on_this_machine_alone(lab: Forwarded) -> None:
    assert lab.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("token", ["kbl_another", "x", "é"])
async def test_without_just_that_token_nothing_goes_anywhere(lab: Forwarded, token: str) -> None:
    got = await lab.call("/x", headers={"Authorization": f"Bearer {token}".encode()})
    assert got.status_code == 401
    assert await lab.bench.count("use.authorized") == 0


async def test_the_token_is_taken_in_the_places_of_keys(lab: Forwarded) -> None:
    lab.bench.lab.scripts["/x"] = Sequence(GOOD)
    pair = base64.b64encode(f"{lab.upstream.token}:x".encode()).decode()
    assert (await lab.call("/x", headers={"X-Api-Key": lab.upstream.token})).status_code == 200
    refused = await lab.call("/x", headers={"Authorization": f"Basic {pair}"})
    assert refused.headers.get("x-broker-problem"), "it is the broker that says which place is the provider's"


async def test_what_is_not_below_the_upstream_is_not_found(lab: Forwarded) -> None:
    origin = lab.url.rpartition("/proxy/")[0]
    for path in ("/v1/leases", "/proxy/acme/raptor-comply/x", "/"):
        headers = {"Authorization": f"Bearer {lab.upstream.token}"}
        got = await asyncio.to_thread(requests.get, origin + path, headers=headers, timeout=10)
        assert got.status_code == 404, path


async def test_a_large_body_and_answer_are_streamed(lab: Forwarded) -> None:
    large = b"x" * 300_000
    script = lab.bench.lab.scripts["/x"] = Sequence(answer(large))
    got = await lab.call("/x", "PUT", data=iter([large[:1000], large[1000:]]))
    assert got.status_code == 200
    assert got.content == large
    assert script.bodies == [large]
    declared = await lab.call("/x", "PUT", data=large)
    assert declared.content == large


async def test_a_nonce_that_is_over_is_renewed_unnoticed(lab: Forwarded) -> None:
    lab.bench.lab.scripts["/x"] = Sequence(GOOD)
    lab.upstream.note({"DPoP-Nonce": "another"})
    assert (await lab.call("/x", "POST", data=b"body")).status_code == 200


async def test_references_lead_to_the_forwarder(lab: Forwarded) -> None:
    lab.bench.lab.scripts["/x"] = Sequence(answer(b"", "Location: y", status="302 Found"))
    got = await lab.call("/x")
    assert got.headers["location"].startswith(lab.url), got.headers
    assert "dpop-nonce" not in got.headers


async def test_an_end_of_the_lease_is_told(lab: Forwarded) -> None:
    token = lab.upstream.token
    await asyncio.to_thread(lab.upstream.close)
    assert (await lab.call("/x", token=token)).status_code == 401


async def test_a_length_that_can_be_read_in_two_ways_is_refused(lab: Forwarded) -> None:
    path = "/" + lab.url.split("/", 3)[3] + "/x"

    def send() -> bytes:
        with connected(lab) as made:
            made.sendall(
                f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {lab.upstream.token}\r\n"
                "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode()
            )
            return bytes(made.recv(4096))

    assert (await asyncio.to_thread(send)).startswith(b"HTTP/1.1 400")


async def test_what_is_left_of_a_refused_body_is_no_call(lab: Forwarded) -> None:
    """The broker refuses a body before it came, and soon takes no more of it."""
    lab.bench.lab.scripts["/x"] = Sequence(GOOD)
    path = "/" + lab.url.split("/", 3)[3]
    head = f"Host: x\r\nAuthorization: Bearer {lab.upstream.token}\r\n"
    hidden, parts = f"GET {path}/hidden HTTP/1.1\r\n{head}\r\n".encode(), 5_000

    def send() -> bytes:
        with connected(lab) as made:
            length = len(hidden) * parts
            made.sendall(f"POST {path}/%2e%2e/x HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n".encode())
            sent = 0
            while not select.select([made], [], [], 0.05)[0]:
                made.sendall(hidden)
                sent += 1
            made.sendall(hidden * (parts - sent))
            made.sendall(f"GET {path}/x HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
            received = b""
            while part := made.recv(65_536):
                received += part
            return received

    received = await asyncio.to_thread(send)
    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"422", b"200"]
    assert [seen.target for seen in lab.bench.lab.calls] == [b"/base/x"]


async def test_calls_on_one_connection_do_not_wait_for_acknowledgements(lab: Forwarded) -> None:
    lab.bench.lab.scripts["/x"] = Sequence(GOOD)

    def fastest() -> float:
        took = []
        with requests.Session() as session:
            for _ in range(10):
                began = time.perf_counter()
                session.get(f"{lab.url}/x", headers={"Authorization": f"Bearer {lab.upstream.token}"}, timeout=10)
                took.append(time.perf_counter() - began)
        return min(took[1:])

    assert await asyncio.to_thread(fastest) < 0.03, "a delayed acknowledgement takes 40 ms"


def test_no_proxy_comes_between() -> None:
    assert unproxied({"NO_PROXY": "corp.example", "A": "b"}) == {
        "NO_PROXY": "corp.example,127.0.0.1",
        "no_proxy": "127.0.0.1",
        "A": "b",
    }
