"""Where in the record an event with a given value is: the form of the search's index.  Pure.

The record is cut into *blocks* of consecutive events.  A *term* is a value of one field, as a number.  For every term
of a block its *places* are kept: which events of the block have that value.  To look for two values is to look for the
places that both have, however often each comes alone.

Two ids may have the same term.  So what is found by terms is compared with the values again.  No id has the term of a
kind or a decision, so that nothing is left out by one.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

# Events of a block.  A larger one has fewer rows, and leaves more events that are in no block yet.
BLOCK: Final = 8_192
# Blocks of a span, by which the index is kept together: only the latest span is written to.
SPAN: Final = 256

ALLOWED: Final = "allowed"


class Indexed(NamedTuple):
    """What the index knows of an event; empty values are in no index."""

    idx: int
    time: int
    organization: str
    actor: str
    credential: str
    lease: str
    kind: str
    decision: str
    workload: str
    request: str
    outcome: str


def span(block: int) -> int:
    """The span that a block is in."""
    return block // SPAN


def term(field: str, value: str) -> int:
    """The number of a field's value, in 32 bits: of a kind or a decision it is below zero."""
    digest = hashlib.blake2b(f"{field}={value}".encode(), digest_size=4).digest()
    number = int.from_bytes(digest) >> 1
    return ~number if field in {"kind", "decision"} else number


def places_of(events: Iterable[Indexed]) -> Mapping[int, bytes]:
    """The packed places of every term of one block's events."""
    fields = [(number, name) for number, name in enumerate(Indexed._fields) if name not in {"idx", "time"}]
    found: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for event in events:
        place = event.idx % BLOCK
        for number, name in fields:
            found[name, event[number]].append(place)  # type: ignore[index]  # the fields left are texts
    merged: defaultdict[int, list[int]] = defaultdict(list)
    for (name, value), places in found.items():
        if value and (name, value) != ("decision", ALLOWED):  # which is whatever isn't denied
            merged[term(name, value)] += places
    return {number: pack(places) for number, places in merged.items()}


def pack(places: Iterable[int]) -> bytes:
    """Places as a list if they are few, else one bit for each event of the block."""
    given = sorted(set(places))
    if len(given) <= BLOCK // 128:
        return struct.pack(f">{len(given)}H", *given)
    bits = bytearray(BLOCK // 8)
    for place in given:
        bits[place >> 3] |= 1 << (place & 7)
    return bytes(bits)


def unpack(packed: bytes) -> int:
    """Packed places as a number that has a bit for each."""
    if len(packed) == BLOCK // 8:
        return int.from_bytes(packed, "little")
    bits = bytearray(BLOCK // 8)
    for place in struct.unpack(f">{len(packed) // 2}H", packed):
        bits[place >> 3] |= 1 << (place & 7)
    return int.from_bytes(bits, "little")


def each(bits: int, *, newest: bool) -> Iterator[int]:
    """The places whose bits are set, in order."""
    while bits:
        place = (bits if newest else bits & -bits).bit_length() - 1
        yield place
        bits ^= 1 << place
