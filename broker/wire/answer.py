"""The head of an upstream's answer: status, fields, how its body is framed and coded.  Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from broker.wire.codings import layers
from broker.wire.framing import (
    Bounds,
    Chunked,
    Counted,
    Field,
    Framing,
    Malformed,
    UntilClose,
    fields_of,
    length_of,
    unfolded,
)

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) +([0-9]{3})(?: [^\r\n\0]*)?")
_NO_BODY: Final = frozenset({204, 304})
_LINE_END: Final = re.compile(rb"\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_KEPT: Final = re.compile(rb"timeout[ \t]*=[ \t]*\"?([0-9]{1,6})")
_CONCERNS_US: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"content-encoding", b"connection", b"keep-alive"}
)


class Head(NamedTuple):
    """One answer's head; ``body`` is None if there is none.

    ``transfer`` and ``content`` are the codings of the body beside ``chunked``, in the order in which they were
    applied.  ``kept`` is for how many seconds the upstream says that it keeps the connection (RFC 2068 §19.7.1.1); it
    is infinity if the upstream doesn't say.
    """

    status: int
    fields: list[Field]
    body: Framing | None
    transfer: list[bytes]
    content: list[bytes]
    keep_alive: bool
    kept: float

    @property
    def interim(self) -> bool:
        """Whether the answer is still to come (RFC 9110 §15.2)."""
        return 100 <= self.status < 200


def end_of_head(data: bytes | bytearray, since: int) -> tuple[int, int] | None:
    """Where the head in ``data`` ends, and where the rest begins.

    ``data`` was searched already up to ``since``.
    """
    found = _HEAD_END.search(data, max(0, since - 3))
    return found.span() if found else None


def read_head(data: bytes, method: bytes, bounds: Bounds) -> Head:
    """The head in ``data``, which ends before the empty line.

    ``method`` is that of the request.

    Raises:
        Malformed, TooMuch: it can't be read.
    """
    first, *lines = _LINE_END.split(data)
    if b"\n " in data or b"\n\t" in data:
        lines = unfolded(lines)
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise Malformed("it does not begin with a status line")
    status = int(status_line[2])
    if status == 101 or not 100 <= status <= 599:
        raise Malformed("its status is none that can be handed on")
    fields = fields_of(lines, bounds)
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        lower = name.lower()
        if lower in _CONCERNS_US:
            told.setdefault(lower, []).append(value)
    transfer = _members(told, b"transfer-encoding")
    if b"chunked" in transfer[:-1]:
        raise Malformed("it is chunked, but not at last or not once")
    lengths = _lengths(told)
    tunnel = method == b"CONNECT" and 200 <= status < 300
    bodiless = method == b"HEAD" or status < 200 or status in _NO_BODY or tunnel
    framing = None if bodiless else _framing(transfer, lengths, bounds)
    ends = status_line[1] == b"0" or b"close" in _members(told, b"connection") or isinstance(framing, UntilClose)
    return Head(
        status,
        _with_one_length(fields, [] if transfer else lengths) if b"content-length" in told else fields,
        framing,
        [coding for coding in layers(transfer) if coding != b"chunked"] if transfer else [],
        layers(_members(told, b"content-encoding")) if b"content-encoding" in told else [],
        keep_alive=not ends and not (transfer and lengths),
        kept=_kept(_members(told, b"keep-alive")),
    )


def _with_one_length(fields: list[Field], lengths: list[int]) -> list[Field]:
    """``fields`` with the length that counts, once.

    Whoever gets them next may take a list or a second one amiss.
    """
    kept = [field for field in fields if field[0].lower() != b"content-length"]
    return [*kept, *((b"Content-Length", b"%d" % length) for length in lengths)]


def identity(fields: Sequence[Field]) -> list[Field]:
    """The fields of a body that is decoded, without those that spoke of the coded one."""
    spoke = {b"content-encoding", b"content-length", b"content-md5", b"digest", b"content-digest", b"accept-ranges"}
    return [field for field in fields if field[0].lower() not in spoke]


def _kept(members: list[bytes]) -> float:
    found = [float(match[1]) for member in members if (match := _KEPT.match(member))]
    return min(found, default=math.inf)


def _framing(transfer: list[bytes], lengths: list[int], bounds: Bounds) -> Framing:
    """How the body is framed (RFC 9112 §6.3)."""
    if transfer[-1:] == [b"chunked"]:
        return Chunked(bounds)
    if layers(transfer) or not lengths:
        return UntilClose()
    return Counted(lengths[0])


def _members(told: dict[bytes, list[bytes]], name: bytes) -> list[bytes]:
    """A list's members over all fields of the name, in lower case (RFC 9110 §5.6.1)."""
    given = told.get(name)
    if given is None:
        return []
    return [member for part in b",".join(given).split(b",") if (member := part.strip(b" \t").lower())]


def _lengths(told: dict[bytes, list[bytes]]) -> list[int]:
    """The declared length, if there is one; several that agree are one (RFC 9110 §8.6)."""
    found = {length_of(member) for member in _members(told, b"content-length")}
    if len(found) > 1:
        raise Malformed("its Content-Length fields contradict each other")
    return list(found)
