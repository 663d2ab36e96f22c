"""The regular expressions that a provider file may hold.

They are a small language that Python and JavaScript read alike.  A pattern is one ``^…$`` of visible ASCII characters,
classes such as ``[A-Za-z0-9_-]``, groups ``(?:a|b)``, and the repeats ``?``, ``{n}`` and ``{n,m}``.  At no point may
two ways of going on begin with the same character.  So a backtracking engine never has a way to come back to, and
matching takes time linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import combinations

LONGEST = 4_096
# A beginning of so many characters tells a key from other text.
DISTINCTIVE = 3
_SYNTAX = frozenset(r"^$\.*+?()[]{}|/")
_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))
_RAW_IN_CLASS = frozenset("_.+/=~:@!#%,;*$()?")
_RANGE = re.compile(r"[0-9]-[0-9]|[a-z]-[a-z]|[A-Z]-[A-Z]")
_COUNT = re.compile(r"\{([0-9]{1,4})(?:,([0-9]{1,4}))?\}")
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Shape:
    """What texts a pattern matches: their characters, and how short and long they are."""

    alphabet: frozenset[str]
    shortest: int
    longest: int


def shape(pattern: str) -> Shape:
    """The shape of the texts that ``pattern`` matches.

    Raises:
        ValueError: it is not of the small language; the text names the fix.
    """
    if not (pattern.startswith("^") and pattern.endswith("$")) or pattern.endswith("\\$"):
        raise ValueError("must be anchored; write it as ^…$")
    reader = _Reader(pattern[1:-1])
    piece = reader.sequence()
    if reader.at < len(reader.text):
        raise ValueError(
            f"has a stray {reader.text[reader.at]!r}; put alternatives into a group (?:…|…), and \\ before a sign"
        )
    if not 1 <= piece.shortest <= piece.longest <= LONGEST:
        raise ValueError(f"must match 1 to {LONGEST} characters; mend the repeats")
    return Shape(piece.alphabet, piece.shortest, piece.longest)


def beginnings(pattern: str) -> tuple[str, ...]:
    """The fixed texts of which every match of ``pattern`` begins with one.

    One empty text if it has none.
    """
    text, at, starts = pattern[1:-1], 0, [""]
    while at < len(text):
        fixed, at = _fixed(text, at)
        if not fixed or text[at : at + 1] in {"?", "{"}:  # what may be missing, or be repeated, is not fixed
            break
        starts = [start + one for start in starts for one in fixed]
    return tuple(starts)


_GROUP = re.compile(r"\(\?:((?:[^\[\]()?{}\\]|\\.)+)\)")


def _fixed(text: str, at: int) -> tuple[list[str], int]:
    """The texts that the next item stands for, none if it is not fixed, and where it ends."""
    if text[at] == "\\":
        return [text[at + 1]], at + 2
    if group := _GROUP.match(text, at):
        return [re.sub(r"\\(.)", r"\1", way) for way in group[1].split("|")], group.end()
    return ([], at) if text[at] in "[(" else ([text[at]], at + 1)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a pattern.

    It may ``begin`` with some characters, and at its end may still take ``more``.
    """

    alphabet: frozenset[str] = _NOTHING
    begin: frozenset[str] = _NOTHING
    more: frozenset[str] = _NOTHING
    shortest: int = 0
    longest: int = 0

    def then(self, after: _Piece) -> _Piece:
        if both := self.more & after.begin:
            raise ValueError(
                f"can go on in two ways at {min(both)!r}, which may be slow; "
                "give each repeat a fixed count, or let it end where another character begins"
            )
        return _Piece(
            self.alphabet | after.alphabet,
            self.begin if self.shortest else self.begin | after.begin,
            after.more if after.shortest else after.more | self.more,
            self.shortest + after.shortest,
            self.longest + after.longest,
        )


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self) -> str:
        self.at += 1
        return self.text[self.at - 1 : self.at]

    def sequence(self) -> _Piece:
        piece = _Piece()
        while self._peek() not in {"", "|", ")"}:
            piece = piece.then(self._group() if self._peek() == "(" else self._characters())
        return piece

    def _group(self) -> _Piece:
        if not self.text.startswith("(?:", self.at):
            raise ValueError("has a group that is not (?:…); captures and look-around are refused")
        self.at += 3
        ways = [self.sequence()]
        while self._peek() == "|":
            self.at += 1
            ways.append(self.sequence())
        if self._take() != ")":
            raise ValueError("has a group without its end; write (?:…)")
        if any(way.shortest == 0 for way in ways):
            raise ValueError("has a group that may be empty; write (?:…)? instead")
        if any(one.begin & other.begin for one, other in combinations(ways, 2)):
            raise ValueError("has alternatives that begin alike; write their common beginning before the group")
        return self._maybe(
            _Piece(
                frozenset().union(*(way.alphabet for way in ways)),
                frozenset().union(*(way.begin for way in ways)),
                frozenset().union(*(way.more for way in ways)),
                min(way.shortest for way in ways),
                max(way.longest for way in ways),
            )
        )

    def _maybe(self, piece: _Piece) -> _Piece:
        if self._peek() == "?":
            self.at += 1
            piece = _Piece(piece.alphabet, piece.begin, piece.more | piece.begin, 0, piece.longest)
        if self._peek() in {"*", "+", "{", "?"}:
            raise ValueError("repeats a group or a repeat; repeat a class instead, as in [A-Za-z0-9]{32}")
        return piece

    def _characters(self) -> _Piece:
        allowed = self._class() if self._peek() == "[" else frozenset(self._literal())
        if self._peek() in {"*", "+"}:
            raise ValueError("repeats without an end; write the counts, as in [A-Za-z0-9]{20,200}")
        fewest = most = 1
        if self._peek() == "{":
            count = _COUNT.match(self.text, self.at)
            if not count:
                raise ValueError("has a { that begins no count; write {n} or {n,m}")
            self.at = count.end()
            fewest, most = int(count[1]), int(count[2] or count[1])
            if not (fewest <= most and most):
                raise ValueError("has a count that can't be met; write {n} or {n,m} with n at most m")
        more = allowed if fewest < most else _NOTHING
        return self._maybe(_Piece(allowed, allowed, more, fewest, most))

    def _literal(self) -> str:
        character = self._take()
        if character == "\\":
            return self._escaped(_SYNTAX)
        if character not in _VISIBLE or character in _SYNTAX - {"/"}:
            raise ValueError(f"has {character!r} outside a class; name the characters, as in [A-Za-z0-9]")
        return character

    def _escaped(self, allowed: frozenset[str]) -> str:
        character = self._take()
        if character not in allowed:
            raise ValueError(f"has \\{character}; name the characters instead, as in [A-Za-z0-9]")
        return character

    def _class(self) -> frozenset[str]:
        self.at += 1
        found: set[str] = set()
        while self._peek() != "]":
            new = self._range()
            if found & new:
                raise ValueError(f"names {min(found & new)!r} twice in a class; name it once")
            found |= new
        self.at += 1
        if not found:
            raise ValueError("has an empty class; name the characters, as in [A-Za-z0-9]")
        return frozenset(found)

    def _range(self) -> set[str]:
        if span := _RANGE.match(self.text, self.at):
            self.at = span.end()
            return set(map(chr, range(ord(span[0][0]), ord(span[0][2]) + 1))) or self._refuse(span[0])
        character = self._take()
        if character == "\\":
            return {self._escaped(_SYNTAX | {"-"})}
        last = character == "-" and self._peek() == "]"
        if last or character in _RAW_IN_CLASS or (character.isascii() and character.isalnum()):
            return {character}
        return self._refuse(character)

    @staticmethod
    def _refuse(text: str) -> set[str]:
        raise ValueError(
            f"has {text!r} in a class; name visible ASCII characters, as in [A-Za-z0-9_-], and put a dash last"
        )
