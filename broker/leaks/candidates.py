"""What looks like a key of a declared provider, in any bytes.  Pure.

A pattern that begins with something distinctive (``rc_live_``) is looked for by that beginning, which a plain search
finds at memory speed, and only there matched in full.  One that could be any hexadecimal number is a candidate only
shortly after the provider's name, or another that its file gives, on the same line, as in ``DATADOG_API_KEY=…``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NamedTuple

from broker.leaks.reading import filled
from broker.providers.pattern import LONGEST, beginnings
from broker.providers.sighting import AFTER, BEFORE, distinctive

_CHUNK = 1 << 20
# So far behind the provider's name a key may stand that has no beginning of its own.
_NEAR = 80


class Declared(NamedTuple):
    """A provider, the form of its keys, and what else than its own name stands before one that has no beginning."""

    provider: str
    pattern: str
    names: tuple[str, ...] = ()


class Hit(NamedTuple):
    """A candidate: where it begins (bytes from 0, lines and columns from 1), whose form it has, and itself."""

    offset: int
    line: int
    column: int
    provider: str
    text: bytes

    @property
    def digest(self) -> str:
        """What the broker recognises it by, which tells nobody else what it is."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def masked(self) -> str:
        """For people: its beginning and last four characters."""
        text = self.text.decode("ascii")
        return f"{text[: min(8, len(text) // 4)]}…{text[-4:]}"


@dataclass(frozen=True, slots=True)
class _Form:
    provider: str
    match: re.Pattern[bytes]


class Finder:
    """Looks for the keys of these providers."""

    def __init__(self, declared: Sequence[Declared]) -> None:
        self._by_beginning: dict[bytes, list[_Form]] = {}
        self._by_name: list[tuple[bytes, re.Pattern[bytes], str]] = []
        for provider, pattern, names in declared:
            form = distinctive(pattern)
            if form is not None:
                known = _Form(provider, re.compile((form + AFTER).encode()))
                for start in beginnings(pattern):
                    self._by_beginning.setdefault(start.encode(), []).append(known)
            else:
                near = re.compile(rf"[^\n]{{0,{_NEAR}}}?{BEFORE}({pattern[1:-1]}){AFTER}".encode())
                for name in (provider.partition("-")[0], *names):
                    self._by_name.append((name.encode(), near, provider))

    def find(self, data: bytes) -> Iterator[tuple[int, str, bytes]]:
        """Offset, provider and text of every candidate, each place once."""
        found: dict[int, tuple[str, bytes]] = {}
        for start, forms in self._by_beginning.items():
            at = data.find(start)
            while at >= 0:
                for form in forms:
                    match = form.match.match(data, at)
                    if match is not None:
                        found.setdefault(at, (form.provider, match[0]))
                at = data.find(start, at + 1)
        if self._by_name:
            self._find_by_name(data, found)
        for at, (provider, text) in sorted(found.items()):
            yield at, provider, text

    def _find_by_name(self, data: bytes, found: dict[int, tuple[str, bytes]]) -> None:
        lowered = data.lower()
        for name, near, provider in self._by_name:
            at = lowered.find(name)
            while at >= 0:
                match = near.match(data, at + len(name))
                if match is not None:
                    found.setdefault(match.start(1), (provider, match[1]))
                at = lowered.find(name, at + 1)


@dataclass(slots=True)
class _Place:
    """How far lines were counted: up to ``offset``, which is on ``line``, which begins at ``line_start``."""

    offset: int = 0
    line: int = 1
    line_start: int = 0

    def move(self, buffer: bytes, base: int, to: int) -> None:
        """Count on to ``to``; ``buffer`` begins at ``base``."""
        if to <= self.offset:
            return
        self.line += buffer.count(b"\n", self.offset - base, to - base)
        newline = buffer.rfind(b"\n", self.offset - base, to - base)
        self.line_start = base + newline + 1 if newline >= 0 else self.line_start
        self.offset = to


def scan(finder: Finder, stream: BufferedIOBase) -> Iterator[Hit]:
    """Every candidate in a stream of any length, in order; memory stays bounded.

    Raises:
        Exception: whatever the stream raised, after the candidates before that.
    """
    buffer, base, reported, place = b"", 0, 0, _Place()
    behind = LONGEST + _NEAR
    while True:
        chunk, broken = filled(stream, _CHUNK)
        ended = not chunk or broken is not None
        buffer += chunk
        # What begins near the end may not be all here yet.
        until = base + len(buffer) - (0 if ended else behind)
        for at, provider, text in finder.find(buffer):
            if reported <= base + at < until:
                place.move(buffer, base, base + at)
                yield Hit(base + at, place.line, base + at - place.line_start + 1, provider, text)
        if broken is not None:
            raise broken
        if ended:
            return
        reported = max(reported, until)
        kept = max(base, reported - behind)  # what comes next may need what stands before it
        place.move(buffer, base, kept)
        buffer, base = buffer[kept - base :], kept
