"""Mask a key that an upstream echoes, in every usual encoding of it and wherever a stream is cut.  Pure.

What is found is masked byte for byte, so that lengths stay true.  What this can't do: see a key that upstream split,
compressed, encrypted, reversed or encoded in an unusual way, or whose pieces come in answers to several requests.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from urllib.parse import quote_from_bytes

_MASK = b"*"
_URLSAFE = bytes.maketrans(b"+/", b"-_")
# Forms in which every byte is escaped, by the byte that each escape begins with; built once that byte is seen.
_ESCAPES = {
    mark: tuple(tuple(escape.format(byte) for byte in range(256)) for escape in escapes)
    for mark, escapes in {
        b"%": ("%{:02X}", "%{:02x}"),
        b"\\": ("\\u{:04x}", "\\u{:04X}", "\\x{:02x}"),
        b"&": ("&#{:d};", "&#x{:x};", "&#x{:X};"),
    }.items()
}
_SAME_EVERYWHERE = re.compile(rb"[A-Za-z0-9._~-]+")
_HEAD = 4


def forms(key: bytes) -> Iterator[bytes]:
    """The usual encodings of ``key``: raw, percent, JSON, HTML, hexadecimal, and base64 at any alignment."""
    yield key
    if not _SAME_EVERYWHERE.fullmatch(key):
        text = key.decode("latin-1")
        percent = quote_from_bytes(key, safe="")
        yield percent.encode()
        yield re.sub("%..", lambda escape: escape[0].lower(), percent).encode()
        yield json.dumps(text)[1:-1].encode()
        yield json.dumps(text)[1:-1].replace("/", "\\/").encode()
        yield html.escape(text).encode("latin-1")
    yield key.hex().encode()
    yield key.hex().upper().encode()
    for shift in range(3):
        # Less the characters that also depend on what stands before or after the key.
        first, last = (shift * 8 + 5) // 6, (shift + len(key)) * 8 // 6
        encoded = b64encode(b"\0" * shift + key)[first:last]
        yield encoded
        yield encoded.translate(_URLSAFE)


def escaped_forms(key: bytes, mark: bytes) -> Iterator[bytes]:
    """The encodings that escape every byte of ``key`` with escapes that begin with ``mark``."""
    for escape in _ESCAPES[mark]:
        yield "".join([escape[byte] for byte in key]).encode()


class Redactor:
    """Masks one key in one stream.  Only what could be the beginning of a key is ever held back."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._forms: list[bytes] = []
        self._heads: list[bytes] = []
        self._beginnings: set[bytes] = set()
        self._unseen = set(_ESCAPES)
        self._held = b""
        self.found = False
        self._watch_for(forms(key))

    def feed(self, chunk: bytes) -> bytes:
        """What may be passed on after ``chunk`` has come; at times nothing."""
        data = self._masked(self._held + chunk if self._held else chunk)
        pending = self._pending(data)
        if not pending:
            self._held = b""
            return data
        self._held = data[-pending:]
        return data[:-pending]

    def flush(self) -> bytes:
        """What was held back, at the end of the stream; masked where it is half a key."""
        held, self._held = self._held, b""
        if any(len(held) * 2 >= len(form) and form.startswith(held) for form in self._forms):
            self.found = True
            return _MASK * len(held)
        return held

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """An answer's headers, their values masked."""
        return [(name, self._text(value) if len(value) >= len(self._key) else value) for name, value in headers]

    def _text(self, value: str) -> str:
        return self._masked(value.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")

    def _watch_for(self, found: Iterable[bytes]) -> None:
        self._forms = list(dict.fromkeys([*self._forms, *found]))
        self._heads = [form[:_HEAD] for form in self._forms]
        self._beginnings = {head[:size] for head in self._heads for size in range(1, _HEAD)}

    def _masked(self, data: bytes) -> bytes:
        for mark in [mark for mark in self._unseen if mark in data]:
            self._unseen.remove(mark)
            self._watch_for(escaped_forms(self._key, mark))
        for form in self._forms:
            if form in data:
                data = data.replace(form, _MASK * len(form))
                self.found = True
        return data

    def _pending(self, data: bytes) -> int:
        """How many bytes at the end could be the beginning of a form."""
        longest = 0
        for form, head in zip(self._forms, self._heads, strict=True):
            at = data.find(head, max(0, len(data) - len(form) + 1))
            while at >= 0 and len(data) - at > longest:
                if form.startswith(data[at:]):
                    longest = len(data) - at
                at = data.find(head, at + 1)
        if longest:
            return longest
        sizes = range(min(_HEAD - 1, len(data)), 0, -1)
        return next((size for size in sizes if data[-size:] in self._beginnings), 0)
