"""A month of the record in a file, and the note about it that is signed.

::

    file     = header "\\n" (event "\\n")…        compressed with gzip; each line is JSON without spaces
    header   = {"format":"keybroker-record","v":1,"database":"…","month":"2026-07","series":[[…,…],…],
                "first":…,"count":…}
    event    = {"index":…,"core":"…","salt_core":"…","personal":"…","personal_commitment":"…","entry":"…"}
             | {"index":…,"entry":"…"}        one that was pruned by policy

    note     = "keybroker record archive v1\\n"  signed (signed_note)
               "database " hex "\\n"
               "month 2026-07\\n"
               "first " number "\\n"              index of the first event
               "count " number "\\n"
               "root " base64 "\\n"               tree hash (merkle) over the entries
               "sha256 " hex "\\n"                of the file before it is compressed

``core`` has the stored bytes of an event's core (:mod:`broker.formats.audit_event`), as a text.  ``personal`` is the
sealed personal part (:mod:`broker.formats.personal_part`), which only the database's keys open; whoever is erased
there is erased here, too.  It and the others are in base64.  Indices are dense.  ``series`` has pairs: from which index
on events belong to the series that began when (milliseconds, 0 for the first).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from broker.formats.audit_event import LARGEST, entry_from
from broker.formats.merkle import HASH_BYTES, Tree

_TITLE: Final = "keybroker record archive v1"
_NOTE: Final = re.compile(
    rf"{_TITLE}\ndatabase ([0-9a-f]{{32}})\nmonth ([0-9]{{4}}-(?:0[1-9]|1[0-2]))\nfirst ([0-9]{{1,16}})\n"
    r"count ([0-9]{1,16})\nroot ([A-Za-z0-9+/]{43}=)\nsha256 ([0-9a-f]{64})\n"
)
_FORMAT: Final = "keybroker-record"
# No line is longer: a core, each character of which JSON writes as six, and a personal part in base64.
LINE_MOST: Final = 262_144


class ArchiveRefused(ValueError):
    """Not an archive that verifies.

    ``line`` is the first bad line, from 1, or 0 if it is the note.
    """

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}" if line else f"the note: {why}")
        self.line = line


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    v: int
    database: str
    month: str
    series: tuple[tuple[int, int], ...]
    first: int
    count: int


class _Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    core: str
    salt_core: str
    personal: str
    personal_commitment: str
    entry: str


class _Pruned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: int
    entry: str


class Stored(NamedTuple):
    """An event as it is kept.

    That is its core with the salt, its sealed personal part with the commitment, and its entry.
    """

    core: bytes
    salt_core: bytes
    personal: bytes
    personal_commitment: bytes
    entry: bytes


_encode = msgspec.json.Encoder().encode
_header = msgspec.json.Decoder(_Header).decode
_event = msgspec.json.Decoder(_Event).decode
_pruned = msgspec.json.Decoder(_Pruned).decode


@dataclass(frozen=True, slots=True)
class Span:
    """Which events an archive has: ``count`` from ``first`` on, of a database.

    They are those of one month (``2026-07``).
    """

    database: str
    month: str
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the note of an archive says: its span, the tree hash, and the digest of its lines."""

    span: Span
    root: bytes
    digest: bytes

    def text(self) -> str:
        """The text of the note."""
        span = self.span
        return (
            f"{_TITLE}\ndatabase {span.database}\nmonth {span.month}\nfirst {span.first}\ncount {span.count}\n"
            f"root {base64.b64encode(self.root).decode()}\nsha256 {self.digest.hex()}\n"
        )

    @classmethod
    def read(cls, text: str) -> Manifest:
        """What a note says.

        Raises:
            ArchiveRefused: it is no note of an archive.
        """
        found = _NOTE.fullmatch(text)
        if found is None:
            raise ArchiveRefused(0, "is not about an archive of a record in a form that this version knows")
        database, month, first, count, root, digest = found.groups()
        span = Span(database, month, int(first), int(count))
        read = cls(span, base64.b64decode(root), bytes.fromhex(digest))
        if read.text() != text or not span.count or span.first + span.count > LARGEST:
            raise ArchiveRefused(0, "is not about an archive of a record in a form that this version knows")
        return read


class Writing:
    """The lines of an archive as they are made, and in the end what its note says."""

    def __init__(self, span: Span, series: Sequence[tuple[int, int]]) -> None:
        self._span = span
        self._digest = hashlib.sha256()
        self._tree = Tree()
        self._series = tuple(series)

    def header(self) -> bytes:
        """The first line."""
        span = self._span
        header = _Header(_FORMAT, 1, span.database, span.month, self._series, span.first, span.count)
        return self._line(_encode(header))

    def event(self, index: int, stored: Stored) -> bytes:
        """The line of the next event.

        Raises:
            ArchiveRefused: it isn't the next one, or not what was committed to.
        """
        self._follow(index)
        if entry_from(stored.core, stored.salt_core, stored.personal_commitment) != stored.entry:
            raise ArchiveRefused(self._tree.size + 2, f"event {index} is not what was committed to")
        try:
            core = stored.core.decode()
        except UnicodeDecodeError:
            raise ArchiveRefused(self._tree.size + 2, f"event {index} is no text") from None
        self._tree.add(stored.entry)
        return self._line(_encode(_Event(index, core, *(base64.b64encode(part).decode() for part in stored[1:]))))

    def pruned(self, index: int, entry: bytes) -> bytes:
        """The line of the next event, if it was pruned; ``entry`` is the log's.

        Raises:
            ArchiveRefused: it isn't the next one, or no entry.
        """
        self._follow(index)
        if len(entry) != HASH_BYTES:
            raise ArchiveRefused(self._tree.size + 2, f"event {index} has no entry")
        self._tree.add(entry)
        return self._line(_encode(_Pruned(index, base64.b64encode(entry).decode())))

    def _follow(self, index: int) -> None:
        if index != self._span.first + self._tree.size:
            raise ArchiveRefused(self._tree.size + 2, f"event {self._span.first + self._tree.size} is not there")

    def manifest(self) -> Manifest:
        """What the note says of all lines.

        Raises:
            ArchiveRefused: an event is missing.
        """
        if self._tree.size != self._span.count:
            raise ArchiveRefused(self._tree.size + 2, f"event {self._span.first + self._tree.size} is not there")
        return Manifest(self._span, self._tree.root(), self._digest.digest())

    def _line(self, line: bytes) -> bytes:
        self._digest.update(line + b"\n")
        return line + b"\n"


def verified(lines: Iterable[bytes], manifest: Manifest) -> Iterator[int]:
    """Go through the lines of an archive (each with its end), which ``manifest`` is about.

    Yields how many events were right so far.  It is whole once this ends.

    Raises:
        ArchiveRefused: names the first bad line.
    """
    given = iter(lines)
    first = next(given, b"")
    writing = Writing(manifest.span, _series_of(first, manifest.span))
    if writing.header() != first:
        raise ArchiveRefused(1, "is not the header of the archive that the note is about")
    place = 0
    for place, line in enumerate(given, 1):
        if place > manifest.span.count:
            raise ArchiveRefused(place + 1, "is one too many")
        if _written(writing, line, place + 1) != line:
            raise ArchiveRefused(place + 1, "is not spelled as an event is")
        yield place
    made = writing.manifest()
    if made.root != manifest.root:
        raise ArchiveRefused(place + 1, "ends other events than those that the note is about: the tree hash differs")
    if made.digest != manifest.digest:
        raise ArchiveRefused(1, "or a later one is not as it was written: the digest differs")


def _series_of(line: bytes, span: Span) -> Sequence[tuple[int, int]]:
    try:
        series = _header(line).series
    except (msgspec.MsgspecError, ValueError):
        raise ArchiveRefused(1, "is not the header of an archive") from None
    if not series or series[0][0] != span.first:
        raise ArchiveRefused(1, "is not the header of the archive that the note is about")
    return series


def _written(writing: Writing, line: bytes, number: int) -> bytes:
    """The line as it should be."""
    try:
        gone = _pruned(line)
    except (msgspec.MsgspecError, ValueError):
        return writing.event(*_stored(line, number))
    try:
        entry = base64.b64decode(gone.entry, validate=True)
    except ValueError:
        raise ArchiveRefused(number, "is not an event") from None
    return writing.pruned(gone.index, entry)


def _stored(line: bytes, number: int) -> tuple[int, Stored]:
    try:
        event = _event(line)
        rest = (event.salt_core, event.personal, event.personal_commitment, event.entry)
        return event.index, Stored(event.core.encode(), *(base64.b64decode(part, validate=True) for part in rest))
    except (msgspec.MsgspecError, ValueError):
        raise ArchiveRefused(number, "is not an event") from None
