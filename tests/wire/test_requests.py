"""What of a stranger's bytes is a request: the same answer however they are cut into packets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.wire.framing import Bounds, Chunked, Malformed
from broker.wire.request import Refused, read_head

VECTORS: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "vectors" / "wire-requests.json").read_text())
BOUNDS = Bounds(size=65_536, fields=100)


def understood(data: bytes, *, step: int = 0) -> dict[str, Any] | tuple[int, str, str]:
    """What is made of one message: the request, or the refusal's status, code and text; one cut short is refused."""
    while data.startswith(b"\r\n"):
        data = data[2:]
    head, end, rest = data.partition(b"\r\n\r\n")
    cut_short = (400, "bad_request", "cut short")
    if not end:
        return cut_short
    try:
        read = read_head(head, BOUNDS)
        parts = [rest[at : at + step] for at in range(0, len(rest), step)] if step else [rest]
        body = None if read.body is None else b"".join(read.body.feed(part) for part in parts if not read.body.over)
    except Refused as refused:
        return refused.status, refused.code, refused.detail
    except Malformed as malformed:
        return 400, "bad_request", str(malformed)
    if read.body is not None and not read.body.over:
        return cut_short
    return {
        "method": read.method,
        "target": read.target.decode(),
        "body": None if body is None else body.decode("latin-1"),
        "keep_alive": read.keep_alive,
    }


@pytest.mark.parametrize("step", [0, 1, 2, 3, 7])
@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_each_is_accepted_or_refused_as_written(vector: dict[str, Any], step: int) -> None:
    said = understood(vector["bytes"].encode("latin-1"), step=step)
    if "accepted" in vector:
        assert said == vector["accepted"]
    else:
        assert isinstance(said, tuple)
        assert said[:2] == tuple(vector["refused"])


@given(st.binary(max_size=300), st.integers(1, 9))
def test_a_chunked_body_is_the_same_however_it_is_cut(data: bytes, step: int) -> None:
    def read(parts: list[bytes]) -> tuple[bytes, bytes, bool] | None:
        body, chunked = b"", Chunked(BOUNDS)
        try:
            for number, part in enumerate(parts):
                body += chunked.feed(part)
                if chunked.over:
                    return body, chunked.rest + b"".join(parts[number + 1 :]), True
        except Malformed:
            return None
        return body, b"", False

    data = b"3\r\nabc\r\n" + data
    whole = read([data])
    cut = read([data[at : at + step] for at in range(0, len(data), step)])
    assert whole == cut


def by_h11(data: bytes) -> tuple[str, str, bytes] | None:
    """The same bytes as h11 reads them: method, target and body; None where it refuses or wants more."""
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
    body, asked = b"", None
    try:
        peer.receive_data(data)
        while True:
            event = peer.next_event()
            if isinstance(event, h11.Request):
                asked = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert asked is not None
                return asked.method.decode(), asked.target.decode(), body
            else:
                return None
    except h11.RemoteProtocolError:
        return None


# Every kind of request that h11 takes and that is refused here, by what is told, and why.
DECIDED = {
    "a field's name is not a token, or no colon follows it": "h11 takes LF alone for a line's end, and folded lines; "
    "a reader in front that doesn't would see another request (RFC 9112 §2.2, §5.2)",
    "a field's value holds a control character": "as above: an LF alone",
    "its first line is not a method, a target and a version with one blank between them": "as above: an LF alone",
    "its first line does not end with a version": "as above: an LF alone",
    "its Host field is not a host": "h11 doesn't look at it (RFC 9112 §3.2 wants 400)",
    "its target is neither a path nor an absolute URL": "h11 doesn't look at it; CONNECT's form leads nowhere here",
    "its target holds bytes that a URL may not hold; percent-encode them": "a fragment is never sent (RFC 9112 §3.2)",
    "Transfer-Encoding is not HTTP/1.0": "h11 takes it; a reader of HTTP/1.0 sees no body (RFC 9112 §6.1)",
    "it has several Content-Length fields": "h11 takes those that agree; a list and a number differ between readers",
    "Speak HTTP/1.1.": "h11 reads HTTP/2.0 as if it were HTTP/1.1",
}

_PIECES = [
    b"GET", b"POST", b"PUT", b" ", b"  ", b"/", b"/x", b"/x?y=1", b"*", b"http://a/x", b"#", b"HTTP/1.1", b"HTTP/1.0",
    b"HTTP/2.0", b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"Host: a", b"host:b", b"Content-Length: 3",
    b"Content-Length: 0", b"content-length:+3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked", b"X: y", b"X : y", b"X:\0", b"\tfold", b" fold", b"abc", b"3\r\nabc\r\n",
    b"0\r\n\r\n", b"3;a=b\r\nabc\r\n", b"Connection: close", b"Expect: 100-continue", b"\xff", b":",
]  # fmt: skip


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Something like a request: mostly one that is, with pieces put in, taken out or put in place of others."""
    pieces = [b"POST", b" ", b"/x", b" ", b"HTTP/1.1", b"\r\n", b"Host: a", b"\r\n"]
    pieces += draw(
        st.sampled_from(
            [
                [b"Content-Length: 3", b"\r\n\r\n", b"abc"],
                [b"Transfer-Encoding: chunked", b"\r\n\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n"],
                [b"X: y", b"\r\n\r\n"],
            ]
        )
    )
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(pieces) - 1))
        match draw(st.sampled_from(["in", "out", "change"])):
            case "in":
                pieces.insert(at, draw(st.sampled_from(_PIECES)))
            case "change":
                pieces[at] = draw(st.sampled_from(_PIECES))
            case _ if len(pieces) > 1:
                del pieces[at]
            case _:
                pass
    return b"".join(pieces)


@settings(max_examples=1_500)
@given(messages())
@example(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
@example(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc")
def test_h11_reads_the_same_in_whatever_is_accepted_and_each_refusal_of_what_it_takes_was_decided(data: bytes) -> None:
    """A disagreement about where a request ends, or what it asks for, is how one is smuggled past another reader."""
    # Empty lines before a request are passed over here, as RFC 9112 §2.2 wants it, and refused by h11.
    while data.startswith(b"\r\n"):
        data = data[2:]
    ours, theirs = understood(data), by_h11(data)
    if isinstance(ours, dict):
        assert theirs is not None, "we accept what h11 refuses"
        assert (theirs[0], theirs[2]) == (ours["method"], (ours["body"] or "").encode("latin-1"))
        assert theirs[1].endswith(ours["target"])
    elif theirs is not None:
        told = ours[2].removeprefix("The request is not valid HTTP/1.1: ")
        assert told in DECIDED or told.rstrip(".") in DECIDED
