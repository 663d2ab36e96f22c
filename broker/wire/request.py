"""The head of a request that came in: what it asks for, and how its body is framed.  Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

from broker.wire.framing import (
    TOKEN,
    Bounds,
    Chunked,
    Counted,
    Field,
    Framing,
    Malformed,
    TooMuch,
    fields_of,
    length_of,
)

_VERSIONS: Final = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
_ANY_VERSION: Final = re.compile(rb"HTTP/[0-9](?:\.[0-9])?")
_TARGET: Final = re.compile(rb"[!\"$-~]+")  # visible ASCII but "#", which begins what no client sends
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=:%\[\]-]*")
_CONCERNS_US: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"})


class Refused(Exception):
    """A request that is answered here, and ends its connection; ``detail`` tells what to fix."""

    def __init__(self, status: int, code: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail


class Head(NamedTuple):
    """One request's head.

    ``fields`` have lower case names, ``sent`` those that were sent.  ``body`` is None if there is none.
    """

    method: str
    target: bytes
    version: str
    fields: list[Field]
    sent: list[Field]
    body: Framing | None
    keep_alive: bool
    expects_continue: bool

    @property
    def path(self) -> str:
        """The target's path, decoded, as ASGI wants it."""
        path = self.target.partition(b"?")[0].decode("ascii")
        return unquote(path) if "%" in path else path


def malformed(detail: str) -> Refused:
    """A request that is no HTTP/1.1."""
    return Refused(400, "bad_request", "Bad Request", f"The request is not valid HTTP/1.1: {detail}.")


def too_large(bounds: Bounds) -> Refused:
    """A head beyond its bounds (RFC 6585 §5)."""
    text = f"The request's head may have {bounds.size} bytes and {bounds.fields} fields; send less."
    return Refused(431, "head_too_large", "Request Header Fields Too Large", text)


def uri_too_long(bounds: Bounds) -> Refused:
    """A first line beyond the bounds."""
    return Refused(414, "uri_too_long", "URI Too Long", f"The address is longer than {bounds.size} bytes; shorten it.")


def read_head(data: bytes, bounds: Bounds) -> Head:
    """The head in ``data``, which ends before the empty line.

    Raises:
        Refused: it is not one that this side accepts.
    """
    first, *lines = data.split(b"\r\n")
    method, target, version = _request_line(first)
    try:
        sent = fields_of(lines, bounds)
    except TooMuch:
        raise too_large(bounds) from None
    except Malformed as error:
        raise malformed(str(error)) from None
    fields = [(name.lower(), value) for name, value in sent]
    told: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        if name in _CONCERNS_US:
            told.setdefault(name, []).append(value)
    _check_host(told.get(b"host", []), version)
    connection = b",".join(told.get(b"connection", ())).split(b",") if b"connection" in told else ()
    close = b"close" in [token.strip(b" \t").lower() for token in connection]
    return Head(
        method,
        target,
        version,
        fields,
        sent,
        _body(told, version, bounds),
        version == "1.1" and not close,
        version == "1.1" and [value.lower() for value in told.get(b"expect", ())] == [b"100-continue"],
    )


def _request_line(line: bytes) -> tuple[str, bytes, str]:
    parts = line.split(b" ")
    if len(parts) != 3 or TOKEN.fullmatch(parts[0]) is None:
        raise malformed("its first line is not a method, a target and a version with one blank between them")
    method, target, version = parts
    if version not in _VERSIONS:
        if _ANY_VERSION.fullmatch(version) is None:
            raise malformed("its first line does not end with a version")
        raise Refused(505, "version_not_supported", "HTTP Version Not Supported", "Speak HTTP/1.1.")
    if method == b"CONNECT":
        raise Refused(501, "not_implemented", "Not Implemented", "This is no forward proxy; CONNECT leads nowhere.")
    if _TARGET.fullmatch(target) is None:
        raise malformed("its target holds bytes that a URL may not hold; percent-encode them")
    if not target.startswith(b"/") and target != b"*":
        origin = _ABSOLUTE.match(target)
        if origin is None:
            raise malformed("its target is neither a path nor an absolute URL")
        target = target[origin.end() :]
        target = target if target.startswith(b"/") else b"/" + target
    return method.decode("ascii"), target, _VERSIONS[version]


def _check_host(hosts: list[bytes], version: str) -> None:
    """Refuse a request unless it has one host, well-formed (RFC 9112 §3.2)."""
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise malformed("it needs one Host field")
    if hosts and _HOST.fullmatch(hosts[0]) is None:
        raise malformed("its Host field is not a host")


def _body(told: dict[bytes, list[bytes]], version: str, bounds: Bounds) -> Framing | None:
    """How the body is framed (RFC 9112 §6); what could be read in two ways is refused."""
    codings = told.get(b"transfer-encoding")
    lengths = told.get(b"content-length")
    if codings is None:
        if lengths is None:
            return None
        if len(lengths) > 1:
            raise malformed("it has several Content-Length fields")
        try:
            length = length_of(lengths[0])
        except Malformed as error:
            raise malformed(str(error)) from None
        return Counted(length) if length else None
    if lengths is not None:
        raise malformed("it has both Content-Length and Transfer-Encoding")
    if version == "1.0":
        raise malformed("Transfer-Encoding is not HTTP/1.0")
    if len(codings) > 1 or codings[0].lower() != b"chunked":
        raise Refused(
            501, "not_implemented", "Not Implemented", "The only transfer coding that is read is `chunked`, once."
        )
    return Chunked(bounds)
