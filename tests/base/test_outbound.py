"""Only checked addresses are dialled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohappyeyeballs import AddrInfoType

from broker.base.outbound import ForbiddenAddress, Outbound, Resolve, Unreachable, checked, is_public

NOT_PUBLIC = [
    "127.0.0.1", "0.0.0.0", "0.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    "2002:a9fe:a9fe::", "fd00:ec2::254", "2001:db8::1", "not an address", "", "64:ff9b:1::7f00:1", "168.63.129.16",
    "100.100.100.200", "192.0.0.192", "fd20:ce::254", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "::127.0.0.1", "fec0::1", "5f00::1", "3fff::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_addresses_on_the_internet_are_public(address: str) -> None:
    assert is_public(address)


def fixed(*addresses: str) -> Resolve:
    async def resolve(_host: str, port: int) -> list[AddrInfoType]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in addresses]

    return resolve


async def test_a_name_that_also_points_inside_is_dialled_outside_only() -> None:
    found = await checked(fixed("127.0.0.1", "93.184.216.34"), "rebinding.example", 443)
    assert [info[4][0] for info in found] == ["93.184.216.34"]
    with pytest.raises(ForbiddenAddress):
        await checked(fixed("10.0.0.1"), "inside.example", 443)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/", "http://[::1]:1/", "http://169.254.169.254/latest", "http://localhost:1/"]
)
async def test_a_private_address_is_not_called(url: str) -> None:
    outbound = Outbound()
    try:
        with pytest.raises(ForbiddenAddress):
            async with outbound.call("GET", url, headers=[]):
                pass
    finally:
        await outbound.close()


@asynccontextmanager
async def answering(status: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers everything so: its URL, and the first line of what it was asked."""
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_an_egress_proxy_is_asked_for_every_public_host_and_for_no_private_one() -> None:
    async with answering(b"502 Bad Gateway") as (proxy, asked), answering(b"200 OK") as (private, asked_itself):
        outbound = Outbound(egress_proxy=proxy)
        try:
            with pytest.raises(Unreachable):
                async with outbound.call("GET", "https://api.example.com/x", headers=[("X-API-Key", "canary")]):
                    pass
            assert asked == [b"CONNECT api.example.com:443 HTTP/1.1\r\n"], "the key is inside the tunnel only"
            with pytest.raises(ForbiddenAddress):
                async with outbound.call("GET", "https://169.254.169.254/latest", headers=[]):
                    pass
            async with outbound.call("GET", f"{private}/direct", headers=[], private=True) as response:
                assert response.status == 200
            assert (asked[1:], asked_itself) == ([], [b"GET /direct HTTP/1.1\r\n"])
        finally:
            await outbound.close()
