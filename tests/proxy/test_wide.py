"""An answer in an encoding in which an echoed key can't be seen is withheld: told, or shown by its bytes."""

from __future__ import annotations

import asyncio

import pytest

from broker.proxy.wide import WideText, is_declared
from tests.proxy.conftest import Bench, problem
from tests.support.lab import KEY, Seen, answer

TEXT = f'{{"error": "bad key {KEY}"}}'
WIDE = ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"]
NAMES = [
    "UTF-16",
    "utf-16le",
    "utf_16_be",
    '"utf-16"',
    "UTF-32",
    "utf32be",
    "iso-10646-ucs-2",
    "UCS-4",
    "unicode",
    "utf-7",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_charset_is_known_by_each_of_its_names(name: str) -> None:
    assert is_declared([("content-TYPE", f"application/json; v=1; CharSet = {name}; q=2")])
    assert is_declared([("Content-Type", "text/plain"), ("Content-Type", f"text/plain;charset={name}")])


@pytest.mark.parametrize(
    "name", ["utf-8", "UTF8", "iso-8859-1", "us-ascii", "windows-1252", "unicode-1-1-utf-8", "", "x"]
)
def test_charsets_in_which_a_key_is_its_own_bytes_pass(name: str) -> None:
    assert not is_declared([("Content-Type", f"text/plain; charset={name}"), ("X-Charset", "charset=utf-16")])


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize("charset", WIDE)
def test_the_key_is_seen_wherever_the_body_is_cut_before_most_of_it_has_passed(charset: str, size: int) -> None:
    body, wide = TEXT.encode(charset), WideText(KEY.encode())
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    passed = len(chunks[0]) * next(number for number, chunk in enumerate(chunks) if wide.seen(chunk))
    assert passed < body.index(KEY[:12].encode(charset)) + len(KEY[:12].encode(charset))


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff"])
def test_a_byte_order_mark_is_seen_however_it_is_cut(mark: bytes) -> None:
    assert WideText(KEY.encode()).seen(mark + b"{\0")
    wide = WideText(KEY.encode())
    assert [wide.seen(bytes([byte])) for byte in mark][-1]


@pytest.mark.parametrize(
    "body", [bytes(100), b"\x89PNG\0\0\0\r" * 9, KEY.encode(), b"a\xff\xfe", "{}".encode("utf-16-le")]
)
def test_other_bodies_pass(body: bytes) -> None:
    assert not WideText(KEY.encode()).seen(body)


async def test_an_answer_that_names_or_shows_such_an_encoding_is_withheld(bench: Bench) -> None:
    lease = await bench.lease()
    for body, *headers in (
        (TEXT.encode("utf-16-le"), "Content-Type: application/json; charset=UTF-16LE"),
        (TEXT.encode("utf-16"), "Content-Type: application/json"),
        (TEXT.encode("utf-32-be"), "Content-Type: application/json"),
    ):
        bench.lab.scripts["/x"] = answer(body, *headers)
        assert problem(await bench.call(lease, "/x")) == (502, "upstream_encoding")
        await bench.uses()
        assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "upstream_encoding"
    bench.lab.scripts["/x"] = answer(b"", "Content-Type: text/plain; charset=utf-16")
    assert (await bench.call(lease, "/x", "HEAD")).status_code == 200, "there is nothing to withhold"


async def test_an_answer_that_shows_it_after_it_began_is_broken_off(bench: Bench) -> None:
    async def slowly(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{\0}\0\r\n")
        await writer.drain()
        body = TEXT.encode("utf-16-le")
        writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))

    bench.lab.scripts["/x"] = slowly
    get = b"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n\r\n"
    reader, writer = await bench.raw(await bench.lease(), get)
    got = await reader.read()
    writer.close()
    assert KEY[:8].encode("utf-16-le") not in got
    assert not got.endswith(b"0\r\n\r\n")
    await bench.uses()
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "upstream_encoding"


async def test_a_body_that_breaks_off_before_it_begins_is_no_missing_answer(bench: Bench) -> None:
    async def breaking(_seen: Seen, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    bench.lab.scripts["/x"] = breaking
    get = b"GET /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n\r\n"
    reader, writer = await bench.raw(await bench.lease(), get)
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()
    assert len(bench.lab.calls) == 1, "it is not tried again"
