"""Answers in UTF-16, UTF-32 or UTF-7, in which an echoed key can't be seen.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_CHARSET = re.compile(r"charset\*?\s*=\s*([^;,]*)", re.IGNORECASE)
# As in IANA's and WHATWG's lists of names, without their signs; "unicode-1-1-utf-8" is UTF-8.
_WIDE = re.compile(r"utf16|utf32|utf7|ucs2|ucs4|unicode(?!\d*utf8)")
_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_BEGINNING = 12
_LONGEST = 4 * _BEGINNING  # that it is looked for in
_TELLING = re.compile(rb"[A-Za-z0-9]{6,8}")


def is_declared(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a ``Content-Type`` names such an encoding."""
    return any(
        _WIDE.search(re.sub("[^a-z0-9]", "", label.lower()))
        for name, value in headers
        if name.lower() == "content-type"
        for label in _CHARSET.findall(value)
    )


class WideText:
    """Looks for such an encoding in a body.

    It looks for a byte order mark, or for the key with zeros between its characters.  Characters of a key may be
    escaped, so only its first letters and digits in a row are looked for, or its beginning if too few stand together.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._begins = b""
        self._end = b""

    def seen(self, chunk: bytes) -> bool:
        """Whether the body shows it up to the end of ``chunk``, its next part."""
        if len(self._begins) < 4:
            self._begins += chunk[:4]
        if self._begins.startswith(_BYTE_ORDER_MARKS):
            return True
        seam = self._end + chunk[:_LONGEST]
        self._end = (self._end + chunk[-_LONGEST:])[-_LONGEST:]
        texts = [text for text in (seam, chunk) if b"\0" in text]
        return bool(texts) and any(form in text for form in self._forms() for text in texts)

    def _forms(self) -> Iterator[bytes]:
        found = _TELLING.search(self._key)
        telling = self._key[:_BEGINNING] if found is None else found[0]
        for zeros in (b"\0", b"\0\0\0"):
            yield zeros.join(bytes([byte]) for byte in telling)
