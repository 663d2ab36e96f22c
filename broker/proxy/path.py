"""The path judged is the path sent: what can be read in two ways is refused.  Pure."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from broker.base.errors import Invalid
from broker.providers.rule import holds_slashes_where_it_may

_ROUNDS = 5
_MAX = 8_192
_SAFE = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/%")
_PLAIN = re.compile(rb"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
_ENCODED_SLASH = re.compile(rb"%2[Ff]")
_BROKEN_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class PathRefused(Invalid):
    """The path can be read in more than one way."""

    code = "path_refused"
    title = "The path is not accepted"


def judged(raw_path: bytes, encoded_slashes: tuple[str, ...] = ()) -> str:
    """``raw_path`` as it will be sent, byte for byte.

    Args:
        raw_path: the part after ``/proxy/{organization}/{provider}``, still percent-encoded, beginning with ``/``.
        encoded_slashes: patterns of paths whose ``*`` may hold ``%2F``, which its provider takes for part of a name.
            If somebody decodes the path first, it must be no other path. So it is judged as if these were slashes.

    Raises:
        PathRefused: it (or any repeated decoding of it) holds a dot segment, an encoded slash, a backslash, a
            control character, an empty segment in the middle, or bytes a URL path may not hold.
    """
    # call (4) the path that is judged is the path that is sent
    if len(raw_path) > _MAX:
        raise PathRefused(f"The path is longer than {_MAX} bytes; send a shorter one.")
    if _PLAIN.fullmatch(raw_path):  # by far the most: nothing in it to decode or to read twice
        return raw_path.decode("ascii")
    if not raw_path.startswith(b"/") or not _SAFE.issuperset(raw_path) or _BROKEN_ESCAPE.search(raw_path):
        raise PathRefused("The path holds characters that a URL path may not hold; percent-encode them.")
    form = raw_path
    if b"%2f" in raw_path.lower() and holds_slashes_where_it_may(raw_path.decode("ascii"), encoded_slashes):
        form = _ENCODED_SLASH.sub(b"/", raw_path)
        if form.endswith(b"/") and not raw_path.endswith(b"/"):
            raise PathRefused("The path ends with an encoded slash; send the path you mean.")
    slashes = form.count(b"/")
    for _ in range(_ROUNDS):
        _refuse_ambiguous(form, slashes)
        decoded = unquote_to_bytes(form)
        if decoded == form:
            return raw_path.decode("ascii")
        form = decoded
    raise PathRefused("The path is percent-encoded more than once; send it encoded once.")


def _refuse_ambiguous(form: bytes, slashes: int) -> None:
    try:
        # Lax decoders accept overlong forms of "." and "/"; some servers fold look-alikes of them (U+FF0E, U+2024).
        text = unicodedata.normalize("NFKC", form.decode())
    except UnicodeDecodeError:
        raise PathRefused("The path is not UTF-8 where it is percent-encoded; send the path you mean.") from None
    segments = text.split("/")[1:]
    # Servlet containers cut a segment's ";parameters" off before they look for "..".
    if "" in segments[:-1] or any(segment.partition(";")[0] in {".", ".."} for segment in segments):
        raise PathRefused("The path holds an empty, '.' or '..' segment, also where encoded; send the path you mean.")
    if text.count("/") != slashes or "\\" in text:
        raise PathRefused("The path holds an encoded slash or a backslash; send the path you mean.")
    if any(unicodedata.category(character) == "Cc" for character in text):
        raise PathRefused("The path holds a control character.")
