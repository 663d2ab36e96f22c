"""Finds what looks like a key of a declared provider, in any bytes.  Pure.

Some patterns begin with something distinctive (``rc_live_``).  A plain search finds that beginning at memory speed, and
the pattern is matched in full only there.  Other keys could be any hexadecimal number.  Such a number is a candidate
only if the provider's name, or another name from its file, stands shortly before it on the same line, as in
``DATADOG_API_KEY=…``.

Other text may follow a key directly (the next string of a compiled file, the next column of a database).  Then nobody
can see where the key ends, and the candidate has several readings.  Other text may also stand directly before it.  Then
only the broker can tell the candidate from a part of another word.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedIOBase
from typing import NamedTuple

from broker.leaks.edges import ending, may_begin
from broker.leaks.reading import filled
from broker.leaks.views import View, packed, wide
from broker.providers.pattern import LONGEST, beginnings, shape
from broker.providers.recognition import distinctive, unmistakable

_CHUNK = 1 << 20
# A key without a beginning of its own may stand so far behind the provider's name.
_NEAR = 80
# A key may be in base64 of base64 (a registry's login in a Kubernetes secret). Then it takes more bytes than it has.
_PACKED_DEEPEST = 2
_WRITTEN = 4


class Declared(NamedTuple):
    """A provider and the form of its keys.

    If its keys have no beginning of their own, the provider's name stands before them, or one of ``names``.
    """

    provider: str
    pattern: str
    names: tuple[str, ...] = ()


class Hit(NamedTuple):
    """A candidate: its text, whose form it has, and where it begins.

    Bytes count from 0, lines and columns from 1.  ``others`` are what further forms read there.  If a candidate isn't
    ``sure``, it may well be a part of another word.
    """

    offset: int
    line: int
    column: int
    provider: str
    text: bytes
    form: _Form
    sure: bool = True
    others: _Reads = ()

    @property
    def readings(self) -> tuple[bytes, ...]:
        """What else it may be.

        This is worked out when it is asked for, because most candidates are the same many times.
        """
        reads = ((self.form, self.text), *self.others)
        each = dict.fromkeys(one for form, text in reads for one in (text, *form.shorter(text)))
        each.pop(self.text, None)
        return tuple(each)

    @property
    def beginning(self) -> str:
        """The bytes that all readings of it begin with."""
        return self.text[: min(form.shortest for form, _ in ((self.form, self.text), *self.others))].decode("ascii")

    @property
    def digest(self) -> str:
        """The digest by which the broker recognises it; it tells nobody else what the candidate is."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def masked(self) -> str:
        """A text for people: its beginning and its last four characters."""
        text = self.text.decode("ascii")
        return f"{text[: min(8, len(text) // 4)]}…{text[-4:]}"


class Sighting(NamedTuple):
    """A candidate at a place; ``step`` is the number of bytes of a character there."""

    form: _Form
    text: bytes
    sure: bool
    others: _Reads = ()
    step: int = 1


class _Form:
    """How the keys of a provider look among other text."""

    def __init__(self, provider: str, pattern: str) -> None:
        self.provider = provider
        self.match = re.compile(pattern[1:-1].encode()).match
        self._ends = ending(pattern[1:-1]).match
        self._alone = unmistakable(pattern)
        bounds = shape(pattern)
        self.shortest, self._varies = bounds.shortest, bounds.shortest < bounds.longest
        self.longest = bounds.longest
        self._whole = re.compile(pattern[1:-1].encode()).fullmatch
        self.told = distinctive(pattern) is not None
        # If only a name tells a form, and it has any length, every part of a word would be another candidate.
        self.anywhere = self.told or not self._varies
        self.starts = re.compile(f"(?=({pattern[1:-1]}))".encode())

    def sighting(self, data: bytes, at: int, text: bytes) -> Sighting | None:
        """The candidate ``text``, which stands at ``at`` and has this form; None if it is none."""
        sure = self._alone or (may_begin(data, at) and self._ends(data, at) is not None)
        if not (sure or self.anywhere):
            return None
        return Sighting(self, text, sure)

    def shorter(self, text: bytes) -> Iterator[bytes]:
        """The beginnings of ``text`` that are keys of this form, too."""
        if self._varies:
            yield from filter(self._whole, (text[:length] for length in range(self.shortest, len(text))))


_Reads = tuple[tuple[_Form, bytes], ...]
_Found = dict[int, Sighting]


class Finder:
    """Looks for the keys of these providers.

    ``by_name`` are the forms that only a name beside them tells.
    """

    def __init__(self, declared: Sequence[Declared]) -> None:
        self._by_beginning: dict[bytes, list[_Form]] = {}
        self.by_name: list[tuple[_Form, list[bytes]]] = []
        self._names: tuple[bytes, ...] = ()
        for provider, pattern, names in declared:
            form = _Form(provider, pattern)
            if form.told:
                for start in beginnings(pattern):
                    self._by_beginning.setdefault(start.encode(), []).append(form)
            else:
                told_by = [name.encode() for name in (provider.partition("-")[0], *names)]
                self.by_name.append((form, told_by))
                self._names = tuple(dict.fromkeys((*self._names, *told_by)))

    def find(self, data: bytes) -> Iterator[tuple[int, Sighting]]:
        """Every candidate and where it begins, in order, each place once.

        The bytes are read as they are, as UTF-16 and as base64.
        """
        found: _Found = {}
        self.collect(data, found)
        self._find_packed(data, found, 1)
        if (view := wide(data)) is not None:
            text, inner = view.text, _Found()
            self.collect(text, inner)
            self._find_packed(text, inner, 1)
            _take(found, inner, view, step=2)
        yield from sorted(found.items())

    def _find_packed(self, data: bytes, found: _Found, depth: int) -> None:
        view = packed(data, self._names)
        if view is None:
            return
        text, inner = view.text, _Found()
        self.collect(text, inner)
        if depth < _PACKED_DEEPEST:
            self._find_packed(text, inner, depth + 1)
        if (wider := wide(text)) is not None:  # PowerShell takes its commands in this form
            widened = _Found()
            self.collect(wider.text, widened)
            _take(inner, widened, wider)
        _take(found, inner, view)

    def collect(self, data: bytes, found: _Found) -> None:
        """Add what stands in ``data`` itself to ``found``."""
        for start, forms in self._by_beginning.items():
            at = data.find(start)
            while at >= 0:
                for form in forms:
                    if (match := form.match(data, at)) is not None:
                        _add(found, at, form.sighting(data, at, match[0]))
                at = data.find(start, at + 1)
        if self.by_name:
            self._find_by_name(data, found)

    def _find_by_name(self, data: bytes, found: _Found) -> None:
        lowered = data.lower()
        for form, names in self.by_name:
            known = 0  # up to here all beginnings of keys are known
            for first, last in _near(lowered, names):
                if max(first, known) > last:
                    continue
                # The part reaches twice as far as a key from there. Else it would be read once for each name before it.
                end = min(last + 2 * form.longest, len(data))
                decided = end if end == len(data) else end - form.longest + 1
                for place in form.starts.finditer(data, max(first, known), end):
                    if (at := place.start()) > last:
                        decided = min(decided, at)
                        break
                    _add(found, at, form.sighting(data, at, place[1]))
                known = decided


def _near(lowered: bytes, names: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """The places where a key may begin that one of these names tells, each once.

    They are on the line of the name, not far behind it.
    """
    ends = []
    for name in names:
        at = lowered.find(name)
        while at >= 0:
            ends.append(at + len(name))
            at = lowered.find(name, at + 1)
    first, last = 0, -1
    for end in sorted(ends):
        if end > last + 1:
            if last >= first:
                yield first, last
            first = end
        newline = lowered.find(b"\n", end, end + _NEAR + 1)
        last = max(last, newline if newline >= 0 else end + _NEAR)
    if last >= first:
        yield first, last


def _add(found: _Found, at: int, new: Sighting | None) -> None:
    """Note a candidate.

    Two forms may begin at one place.  Then the first one's candidate is shown, and all are readings of it.
    """
    if new is None:
        return
    known = found.get(at)
    if known is None:
        found[at] = new
        return
    first, other = (known, new) if known.sure or not new.sure else (new, known)
    others = dict.fromkeys((*first.others, (other.form, other.text), *other.others))
    others.pop((first.form, first.text), None)
    found[at] = first._replace(others=tuple(others))


def _take(found: _Found, inner: _Found, view: View, step: int = 1) -> None:
    """Note what was found in another view of the same bytes, at its place in these."""
    for at, one in inner.items():
        origin = view.origin(at)
        if origin >= 0:
            _add(found, origin, one._replace(step=step))


@dataclass(slots=True)
class _Position:
    """How far lines were counted: up to ``offset``.

    That is on the line with the number ``line``, which begins at ``line_start``.
    """

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
    buffer, base, reported, position = b"", 0, 0, _Position()
    behind = _WRITTEN * (LONGEST + _NEAR)
    while True:
        chunk, broken = filled(stream, _CHUNK)
        ended = len(chunk) < _CHUNK or broken is not None
        buffer += chunk
        # A candidate that begins near the end may not be here in full yet.
        until = base + len(buffer) - (0 if ended else behind)
        for at, one in finder.find(buffer):
            if reported <= base + at < until:
                position.move(buffer, base, base + at)
                column = (base + at - position.line_start) // one.step + 1
                yield Hit(base + at, position.line, column, one.form.provider, one.text, one.form, one.sure, one.others)
        if broken is not None:
            raise broken
        if ended:
            return
        reported = max(reported, until)
        kept = max(base, reported - behind)  # the next candidates may need the bytes before them
        position.move(buffer, base, kept)
        buffer, base = buffer[kept - base :], kept
