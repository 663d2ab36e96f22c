"""A model of how text is escaped, written down as spellings.

The broker reads escapes, this writes them.
"""

from __future__ import annotations

import html.entities

from hypothesis import strategies as st

_DIGITS = b"0123456789"
_HEX = _DIGITS + b"abcdefABCDEF"
_SEMICOLON = b";"  # what stands before it would be a reference with it
_NAMES: dict[str, list[str]] = {}
for _name, _characters in html.entities.html5.items():
    _NAMES.setdefault(_characters, []).append(_name)


def spellings(character: str, before: bytes) -> list[bytes]:
    """Every way in which ``character`` may be written before ``before``; the first is as it is."""
    code = ord(character)
    cases = [f"{code:02X}", f"{code:02x}"]
    written = [character]
    for two in cases:
        written += [f"%{two}", f"%25{two}", f"%2525{two}", f"\\u00{two}", f"\\U00{two}", f"\\x{two}", f"\\X{two}"]
        written += [f"\\\\u00{two}", f"\\\\\\\\u00{two}", f"\\\\x{two}", f"%5Cu00{two}"]
        written += [f"&#x{two};", f"&#X{two};", f"&#x000{two};", f"&amp;#x{two};", f"\\u0026#x{two};"]
        if before[:1] not in _singles(_HEX + _SEMICOLON):
            written += [f"&#x{two}", f"&#x00{two}"]
    written += [f"&#{code};", f"&#00{code};", f"&amp;#{code};", f"%26#{code};"]
    if before[:1] not in _singles(_DIGITS + _SEMICOLON):
        written += [f"&#{code}", f"&#0{code}"]
    names = _NAMES.get(character, [])
    written += [f"&{name}" for name in names if name.endswith(";") or before[:1] != _SEMICOLON]
    if character == "\\":
        written += ["\\\\", "\\\\\\\\"]
    elif character not in "uU" or not all(bytes([byte]) in _singles(_HEX) for byte in before[:4]):
        written += [f"\\{character}", f"\\\\{character}", f"\\\\\\{character}", f"%5C{character}", f"\\%{code:02X}"]
    return [text.encode() for text in written]


@st.composite
def spelled(draw: st.DrawFn, text: str, after: bytes = b"") -> bytes:
    """``text`` before ``after``, each character written in any way."""
    often_plain = draw(st.integers(0, 9))
    written = after
    for character in reversed(text):
        if draw(st.integers(0, 9)) < often_plain:
            written = character.encode() + written
        else:
            written = draw(st.sampled_from(spellings(character, written))) + written
    return written[: len(written) - len(after)]


def _singles(digits: bytes) -> set[bytes]:
    return {bytes([digit]) for digit in digits}
