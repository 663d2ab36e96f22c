"""Coded bodies: the same however they are cut, and bounded whatever they decode to."""

from __future__ import annotations

import gzip
import zlib

import pytest

from broker.wire.codings import Decoder
from broker.wire.framing import Malformed, TooMuch

TEXT = b'{"facilities": ["some", "text", "of", "an", "answer"]}' * 40


def bare(data: bytes) -> bytes:
    packed = zlib.compressobj(wbits=-15)
    return packed.compress(data) + packed.flush()


def decoded(codings: list[bytes], *parts: bytes) -> bytes:
    decoder = Decoder(codings)
    whole = b"".join(piece for part in parts for piece in decoder.feed(part))
    decoder.finish()
    return whole


@pytest.mark.parametrize("first", [1, 2, 3, 50])
@pytest.mark.parametrize(
    ("coding", "coded"),
    [(b"deflate", bare(TEXT)), (b"deflate", zlib.compress(TEXT)), (b"gzip", gzip.compress(TEXT))],
    ids=["bare deflate", "deflate", "gzip"],
)
def test_it_decodes_wherever_the_first_packet_ends(coding: bytes, coded: bytes, first: int) -> None:
    assert decoded([coding], coded[:first], coded[first:]) == TEXT


@pytest.mark.parametrize("coding", [b"deflate", b"gzip"])
def test_a_body_that_ends_after_its_first_byte_is_cut_short(coding: bytes) -> None:
    with pytest.raises(Malformed):
        decoded([coding], gzip.compress(TEXT)[:1])
    assert decoded([coding]) == b"", "but none at all is an empty one"


def test_the_ratio_is_that_of_all_layers_together() -> None:
    bomb = gzip.compress(gzip.compress(b"\0" * 100_000_000))
    pieces = Decoder([b"gzip", b"gzip"]).feed(bomb)
    assert len(b"".join(next(pieces) for _ in range(16))) == 1 << 20
    with pytest.raises(TooMuch):
        next(pieces)


@pytest.mark.parametrize("codings", [[b"gzip"], [b"gzip", b"gzip"]], ids=["one layer", "within another"])
def test_members_that_hold_nothing_are_given_up(codings: list[bytes]) -> None:
    empty = gzip.compress(b"") * 100_000
    for _ in codings[1:]:
        empty = gzip.compress(empty)
    with pytest.raises(TooMuch):
        decoded(codings, empty)


def test_members_that_hold_something_are_decoded_however_many_there_are() -> None:
    lines = [b"%06d a line of a log that is packed by itself, as some do, and its number is said again: %06d\n" % (n, n)
             for n in range(3_000)]  # fmt: skip
    assert decoded([b"gzip"], b"".join(map(gzip.compress, lines))) == b"".join(lines)
