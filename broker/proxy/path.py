"""The path judged is the path sent: what can be read in two ways is refused.  Pure."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from broker.base.errors import Invalid

_ROUNDS = 5
_MAX = 8_192
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/%")


class PathRefused(Invalid):
    """The path can be read in more than one way."""

    code = "path_refused"
    title = "The path is not accepted"


def judged(raw_path: bytes) -> str:
    """``raw_path`` as it will be sent, byte for byte.

    Args:
        raw_path: the part after ``/proxy/{organization}/{provider}``, still percent-encoded, beginning with ``/``.

    Raises:
        PathRefused: it (or any repeated decoding of it) holds a dot segment, an encoded slash, a backslash, a
            control character, an empty segment in the middle, or bytes a URL path may not hold.
    """
    if not raw_path.startswith(b"/") or len(raw_path) > _MAX or not _SAFE.issuperset(raw_path):
        raise PathRefused("The path holds characters that a URL path may not hold, or is too long; percent-encode it.")
    slashes = raw_path.count(b"/")
    form = raw_path
    for _ in range(_ROUNDS):
        _refuse_ambiguous(form, slashes)
        decoded = unquote_to_bytes(form)
        if decoded == form:
            return raw_path.decode("ascii")
        form = decoded
    raise PathRefused("The path is percent-encoded more than once; send it encoded once.")


def _refuse_ambiguous(form: bytes, slashes: int) -> None:
    segments = form.split(b"/")[1:]
    if b"." in segments or b".." in segments or b"" in segments[:-1]:
        raise PathRefused("The path holds an empty, '.' or '..' segment, also where encoded; send the path you mean.")
    if form.count(b"/") != slashes or b"\\" in form:
        raise PathRefused("The path holds an encoded slash or a backslash; send the path you mean.")
    if any(byte < 0x20 or byte == 0x7F for byte in form):
        raise PathRefused("The path holds a control character.")
