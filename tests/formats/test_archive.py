"""An archive of the record: what verifies, and that nothing else does."""

from __future__ import annotations

import json
import random

import pytest

from broker.audit.events import BROKER, Event
from broker.base.clock import Millis
from broker.formats.archive import ArchiveRefused, Manifest, Span, Stored, Writing, verified
from broker.formats.personal_part import PartKey
from broker.formats.signed_note import NoteRefused, Signer, opened

SPAN = Span("00112233445566778899aabbccddeeff", "2026-07", 40, 12)
SERIES = [(40, 0), (45, 1_784_000_000_000)]
KEY = PartKey(bytes(32), bytes(32), bytes(32), 0)
SIGNER = Signer("keybroker-record/00112233445566778899aabbccddeeff", bytes(32))


def stored(at: int) -> Stored:
    event = Event(kind="use.denied", time=Millis(at), actor=BROKER, note=f'"é{at}"', decision="denied")
    made = event.committed()
    sealed = KEY.seal(made.personal, made.salt_personal, made.personal_commitment)
    return Stored(made.core, made.salt_core, sealed, made.personal_commitment, made.entry)


def events(count: int = SPAN.count) -> list[Stored]:
    return [stored(at) for at in range(count)]


def written(span: Span = SPAN) -> tuple[list[bytes], Manifest]:
    writing = Writing(span, SERIES)
    lines = [writing.header()]
    lines += [writing.event(span.first + place, event) for place, event in enumerate(events(span.count))]
    return lines, writing.manifest()


def check(lines: list[bytes], manifest: Manifest) -> int:
    return max(verified(lines, manifest), default=0)


def test_what_was_written_verifies_and_its_note_is_read_again() -> None:
    lines, manifest = written()
    assert check(lines, manifest) == SPAN.count
    assert Manifest.read(manifest.text()) == manifest


def refused_at(lines: list[bytes], manifest: Manifest) -> int:
    with pytest.raises(ArchiveRefused) as refused:
        check(lines, manifest)
    return refused.value.line


def test_the_first_bad_line_is_named() -> None:
    lines, manifest = written()
    assert refused_at([], manifest) == 1
    assert refused_at(lines[1:], manifest) == 1
    assert refused_at([*lines[:5], *lines[6:]], manifest) == 6
    assert refused_at([*lines[:5], lines[6], lines[5], *lines[7:]], manifest) == 6
    assert refused_at([*lines[:5], lines[4], *lines[5:]], manifest) == 6
    assert refused_at(lines[:-1], manifest) == len(lines)
    assert refused_at([*lines, lines[-1]], manifest) == len(lines) + 1
    assert refused_at([*lines[:7], lines[7].replace(b'"core":', b'"core": '), *lines[8:]], manifest) == 8


def test_events_that_were_never_recorded_do_not_pass_for_those_that_were() -> None:
    """Others with commitments of their own make another tree."""
    _, manifest = written()
    others, _ = written()
    assert refused_at(others, manifest) == len(others)


def test_several_hundred_changes_are_all_refused() -> None:
    """Bytes, lines, an end that is cut off, and notes: of every kind many."""
    lines, manifest = written()
    whole, note = b"".join(lines), SIGNER.sign(manifest.text())
    chance = random.Random(7)

    def flipped(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(changed)

    def swapped() -> list[bytes]:
        one, other = chance.sample(range(len(lines)), 2)
        moved = list(lines)
        moved[one], moved[other] = moved[other], moved[one]
        return moved

    def without() -> list[bytes]:
        place = chance.randrange(len(lines))
        return lines[:place] + lines[place + 1 :]

    def doubled() -> list[bytes]:
        place = chance.randrange(len(lines))
        return [*lines[:place], *lines[place : place + 1], *lines[place:]]

    changed = [flipped(whole).splitlines(keepends=True) for _ in range(300)]
    changed += [whole[: chance.randrange(len(whole))].splitlines(keepends=True) for _ in range(60)]
    changed += [made() for made in (swapped, without, doubled) for _ in range(40)]
    for each in changed:
        refused_at(each, manifest)
    for _ in range(100):
        with pytest.raises(NoteRefused):
            opened(flipped(note), SIGNER.verifier())
    for other in (Span("ff" * 16, "2026-07", 40, 12), Span(SPAN.database, "2026-06", 40, 12)):
        refused_at(lines, written(other)[1])
        refused_at(lines, Manifest(other, manifest.root, manifest.digest))
    refused_at(lines, Manifest(SPAN, bytes(32), manifest.digest))
    refused_at(lines, Manifest(SPAN, manifest.root, bytes(32)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("archive v1", "archive v2"),
        ("first 40", "first 040"),
        ("count 12", "count 0"),
        ("count 12", "count 9999999999999999"),
        ("2026-07", "2026-13"),
        ("root ", "root  "),
        ("sha256 ", "sha512 "),
    ],
)
def test_a_note_has_one_spelling(old: str, new: str) -> None:
    text = written()[1].text()
    assert old in text
    with pytest.raises(ArchiveRefused):
        Manifest.read(text.replace(old, new))
    with pytest.raises(ArchiveRefused):
        Manifest.read(text + "more\n")


def test_an_event_that_is_not_what_was_committed_to_gets_into_no_archive() -> None:
    """Nor one that doesn't follow; nor is an archive whole before the last one."""
    first, later = events(2)
    writing = Writing(SPAN, SERIES)
    with pytest.raises(ArchiveRefused, match="event 40 is not what was committed to"):
        writing.event(40, first._replace(core=first.core.replace(b"denied", b"allowed", 1)))
    with pytest.raises(ArchiveRefused, match="event 40 is not what was committed to"):
        writing.event(40, first._replace(personal_commitment=bytes(32)))
    with pytest.raises(ArchiveRefused, match="event 40 is not there"):
        writing.event(41, later)
    with pytest.raises(ArchiveRefused, match="event 40 is not there"):
        writing.manifest()


def with_pruned(*pruned: int) -> tuple[list[bytes], Manifest]:
    """An archive of which some events were pruned."""
    writing = Writing(SPAN, SERIES)
    lines = [writing.header()]
    for place, event in enumerate(events()):
        index = SPAN.first + place
        lines.append(writing.pruned(index, event.entry) if index in pruned else writing.event(index, event))
    return lines, writing.manifest()


def test_events_that_were_pruned_leave_their_entries() -> None:
    lines, manifest = with_pruned(41, 42, 51)
    assert check(lines, manifest) == SPAN.count
    assert set(json.loads(lines[2])) == {"index", "entry"}


def test_a_pruned_event_is_in_its_place_with_an_entry_in_one_spelling() -> None:
    lines, manifest = with_pruned(41)
    entry = json.loads(lines[2])["entry"]
    for bad in (
        {"index": 42, "entry": entry},
        {"index": 41, "entry": entry[:-4]},
        {"index": 41, "entry": "é" + entry[1:]},
        {"index": 41, "entry": entry, "core": "{}"},
        {"entry": entry, "index": 41},
        {"index": 41},
    ):
        line = json.dumps(bad, separators=(",", ":")).encode() + b"\n"
        assert refused_at([*lines[:2], line, *lines[3:]], manifest) == 3
    # what is said to be pruned can't be another event
    other = json.dumps({"index": 41, "entry": json.loads(lines[3])["entry"]}, separators=(",", ":")).encode() + b"\n"
    assert refused_at([*lines[:2], other, *lines[3:]], manifest) == len(lines)
    writing = Writing(SPAN, SERIES)
    with pytest.raises(ArchiveRefused, match="event 40 has no entry"):
        writing.pruned(40, b"")
