"""What escapes stand for: percent-encoding, backslashes, HTML character references.  Pure.

An escape stands for one visible ASCII character:

* ``%2B``, and percent-encoded again, up to three times: ``%252B`` (RFC 3986, section 2.1);
* ``\\u002B``, ``\\x2B``, and a backslash before the character, however that is written; if the text was quoted
  again, as in JSON within JSON, up to fifteen backslashes, each of which may be ``%5C`` (RFC 8259, section 7);
* ``&#43;``, ``&#x2B;`` and ``&plus;``, with leading zeros, and without the semicolon if browsers do without it; their
  ``&`` may be escaped itself, as ``&amp;``, ``\\u0026`` or ``%26`` (WHATWG HTML, section 13.2.5).

Hexadecimal digits, ``u`` and ``x`` may be of either case.
"""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

LONGEST = 96
"""No escape has more bytes."""
MARK = re.compile(rb"[%\\&]")
"""What escapes begin with."""

VISIBLE = bytes(range(0x21, 0x7F))
"""What escapes consist of, but for a backslash before another character."""

_NAMED = {
    name.encode(): ord(character)
    for name, character in html.entities.html5.items()
    if len(character) == 1 and "!" <= character <= "~"
}
_NAMES = "|".join(sorted(map(bytes.decode, _NAMED), key=len, reverse=True))
_PARTS_OF_NAMES = "|".join(sorted({name[:size].decode() for name in _NAMED for size in range(1, len(name))})[::-1])

_HEX = "[0-9A-Fa-f]"
_BACKSLASH = r"(?:\\|%5[Cc])"
_DECIMAL = r"\#0{0,7}(?P<decimal>[1-9][0-9]{1,2})(?![0-9]);?"
_HEXADECIMAL = rf"\#[xX]0{{0,7}}(?P<hexadecimal>{_HEX}{{2}})(?!{_HEX});?"
_REFERRED = rf"(?:amp;){{0,2}}(?:{_DECIMAL}|{_HEXADECIMAL}|(?P<name>{_NAMES}))"
_PERCENT = rf"(?:25){{0,3}}(?P<percent>{_HEX}{{2}})"
# Four digits after a u are another character's.  Before another escape the backslashes end without a sign.
_QUOTED = (
    rf"{_BACKSLASH}{{0,14}}+(?:[uU]00(?P<unicode>{_HEX}{{2}})|[xX](?P<byte>{_HEX}{{2}})"
    rf"|(?P<sign>[^\\uU%&]|[uU](?!{_HEX}{{4}}))|(?=[%&]))"
)
_AMPERSAND = r"(?:&|%(?:25){0,2}26|\\{1,15}+[uU]0026)"
_REFERENCE = re.compile(f"{_AMPERSAND}{_REFERRED}".encode())
_AMPERSANDS = re.compile(f"{_AMPERSAND}(?:amp;){{1,2}}".encode())
_PERCENT_ESCAPE = re.compile(f"%{_PERCENT}".encode())
_QUOTED_ESCAPE = re.compile(f"{_BACKSLASH}{_QUOTED}".encode())
# The same in one. A pattern that begins with a set of bytes is searched for many times faster than alternatives.
ESCAPE = re.compile(
    re.sub(
        r"\?P<\w+>",
        "?:",
        rf"[%\\&](?:(?<=&){_REFERRED}"
        rf"|(?<=\\)(?:\\{{0,14}}+[uU]0026{_REFERRED}|{_QUOTED})"
        rf"|(?<=%)(?:(?:25){{0,2}}26{_REFERRED}|5[Cc]{_QUOTED}|{_PERCENT}))",
    ).encode()
)
"""Where an escape is.  :func:`readings` tells what it stands for."""

_PART = (
    rf"(?:{_AMPERSAND}(?:amp;){{0,2}}(?:am?p?|\#[0-9]{{0,10}}|\#[xX]{_HEX}{{0,9}}|{_PARTS_OF_NAMES})?"
    rf"|%(?:25){{0,3}}{_HEX}?|{_BACKSLASH}{{1,15}}+(?:[uU]|[uU]0|[uU]00{_HEX}?|[xX]{_HEX}?)?)\Z"
)
_CUT_ESCAPE = re.compile(f"{_PART}|{_BACKSLASH}{{1,15}}+{_PART}".encode())
_RUN = re.compile(rb"\\{2,8}")
# By how many backslashes there are.
_QUOTED_BACKSLASHES = [tuple((0x5C, size) for size in (2, 4, 8) if size <= run) for run in range(9)]

Reading = tuple[int, int]


def readings(data: bytes, at: int) -> Sequence[Reading]:
    """The characters that an escape at ``at`` may stand for, and how long it is in each case."""
    found = ESCAPE.match(data, at)
    if found is None:
        return _quoted_backslashes(data, at)
    return alone(found[0]) or tuple(_readings(data, at))


@lru_cache(4096)
def alone(escape: bytes) -> Sequence[Reading]:
    """The readings of an escape by itself; none if what comes after it counts."""
    return () if escape.endswith((b"\\", b"5C", b"5c")) else tuple(_readings(escape, 0))


def is_cut(data: bytes, at: int) -> bool:
    """Whether ``data`` may end within an escape that begins at ``at``."""
    return _CUT_ESCAPE.match(data, at) is not None


def _readings(data: bytes, at: int) -> Iterator[Reading]:
    yield from _unquoted(data, at)
    quoted = _QUOTED_ESCAPE.match(data, at)
    if quoted is not None:
        yield from _quoted(quoted)
    yield from _quoted_backslashes(data, at)


def _quoted_backslashes(data: bytes, at: int) -> Sequence[Reading]:
    """A backslash, quoted once, or again."""
    run = _RUN.match(data, at)
    return () if run is None else _QUOTED_BACKSLASHES[run.end() - at]


def _unquoted(data: bytes, at: int) -> Iterator[Reading]:
    percent = _PERCENT_ESCAPE.match(data, at)
    if percent is not None:
        size = percent.end() - at
        yield int(percent["percent"], 16), size
        # A percent sign that was encoded, once or again, before other text.
        yield from ((0x25, less) for less in range(3, size, 2))
    reference = _REFERENCE.match(data, at)
    if reference is not None:
        yield from _referred(reference)
        # An ampersand that was escaped, once or again, before other text.
        ampersands = _AMPERSANDS.match(data, at)
        yield from ((0x26, less) for less in ((ampersands.end() - at, ampersands.end() - at - 4) if ampersands else ()))


def _referred(found: re.Match[bytes]) -> Iterator[Reading]:
    match found.lastgroup:
        case "name":
            character = _NAMED[found["name"]]
        case "decimal":
            character = int(found["decimal"])
        case _:
            character = int(found["hexadecimal"], 16)
    if character < 0x80:
        yield character, found.end() - found.start()


def _quoted(found: re.Match[bytes]) -> Iterator[Reading]:
    data, end, size = found.string, found.end(), found.end() - found.start()
    match found.lastgroup:
        case "sign":
            yield data[end - 1], size
        case "unicode":
            yield int(found["unicode"], 16), size
            yield data[end - 5], size - 4
        case "byte":
            yield int(found["byte"], 16), size
            yield data[end - 3], size - 2
        case _:
            yield data[end], size + 1
            yield from ((value, size + more) for value, more in _unquoted(data, end))
