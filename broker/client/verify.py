"""Verify receipts, exports and the log of Keybroker, with this file and `cryptography`.

It imports nothing else of Keybroker, so that you can read all that you rely on:

    python verify.py receipt FILE --key KEYS
    python verify.py export FILE --key KEYS
    python verify.py log FILE --key KEYS [--checkpoint SAVED]
    python verify.py consistency SAVED FILE --key KEYS
    python verify.py certificate FILE --key KEYS

KEYS is a file with what your vendor's broker shows at /v1/audit/log/key; for certificates, and at /v1/certificates/key;
and a line for each witness that you rely on.  Keep a copy of it, and of a checkpoint (/v1/audit/log/checkpoint), where
the vendor can't change them: whatever is shown to you later is to fit them.
It ends with 0 if everything is right, and otherwise with 1 and the first thing that is wrong.

What is behind it: the tree hash of RFC 6962, signed notes, checkpoints and proofs as C2SP has them (c2sp.org), and the
pages of docs/formats, each of which has the layout that is read here.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import sys
from binascii import a2b_base64
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# 32 bytes in base64, in the one spelling that they have.
_B64 = "[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]="
_NUMBER = "0|[1-9][0-9]{0,15}"
_CHECKPOINT = re.compile(rf"([^\s+]+)\n({_NUMBER})\n({_B64})\n")
_SIGNATURES = re.compile(r"(?:— [^\s+]+ [A-Za-z0-9+/]+={0,2}\n)+")
_RECEIPT = re.compile(
    rf"c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/=]+)\nindex ({_NUMBER})\n((?:{_B64}\n)*)\n([^\n]+\n.*)", re.DOTALL
)
_INDEX = re.compile(rf'\{{"index":({_NUMBER}),')
_ENTRY = re.compile(rf'"entry":"({_B64})"\}}\n')
# What follows an event's core. What JSON has between quotes is read by possessive patterns, which never go back.
_REST = re.compile(
    rf'","salt_core":"({_B64})",(?:"personal_commitment":"({_B64})"|'
    rf'"personal":"([^"\\]*+(?:\\.[^"\\]*+)*+)","salt_personal":"({_B64})")\}}\n'
)
_GOOD_TO = re.compile(rf"# good to size ({_NUMBER})")
_HEADER = re.compile(r'\{"format":"keybroker-export","v":1,"organization":(?:null|"([A-Za-z0-9_]{1,64})")\}\n')
_HEAD = re.compile(rf"count=({_NUMBER}),root=({_B64}),to=({_NUMBER})")
_TIME = re.compile(r'"time":([0-9]{1,16})[,}]')
# An event is recorded within seconds of its time, so one that is further behind those before it was dated back.
SKEW_MS = 600_000
# Of a log's export no line is longer.
_LONGEST = 400_000


class Refused(ValueError):
    """What was shown doesn't prove what it is to prove; says where and why."""


class Checkpoint(NamedTuple):
    """How many events a log has, and the hash over them; ``origin`` names the log."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True)
class Proven:
    """An event that is in the log, and the checkpoint; ``personal`` is None if withheld."""

    index: int
    core: dict[str, Any]
    personal: dict[str, Any] | None
    entry: bytes
    checkpoint: Checkpoint


class Verified(NamedTuple):
    """What an export was shown to have.

    ``since`` and ``until`` are the times (milliseconds) of the heads around the events; ``since`` is 0 where the log
    began.  ``organization`` is empty for all of the log.
    """

    organization: str
    events: int
    since: int
    until: int
    checkpoint: Checkpoint


# --- signed notes ---


class Key(NamedTuple):
    """A key that you trust: of a log or of certificates, or of a witness, which cosigns.

    A log's key that signs no more is good for checkpoints of up to ``good_to`` events.
    """

    name: str
    public: bytes
    witness: bool = False
    good_to: int | None = None

    def line_of(self, signatures: str) -> bytes | None:
        """What this key's line among signatures holds."""
        kind = b"\x04" if self.witness else b"\x01"
        key_id = hashlib.sha256(self.name.encode() + b"\n" + kind + self.public).digest()[:4]
        for line in signatures.split("\n"):
            if line.startswith(f"— {self.name} "):
                signed = _base64(line.rpartition(" ")[2])
                if signed[:4] == key_id:
                    return signed[4:]
        return None

    def signed(self, text: str, signatures: str) -> bool:
        """Whether it signed the text, or cosigned it; a wrong signature of it is refused."""
        found = self.line_of(signatures)
        if found is None:
            return False
        if self.witness:  # C2SP tlog-cosignature: eight bytes of time, which are signed with the text
            text, found = f"cosignature/v1\ntime {int.from_bytes(found[:8])}\n{text}", found[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(found, text.encode())
        except InvalidSignature:
            raise Refused(f"the signature of {self.name} is wrong") from None
        return True


def keys(text: str) -> list[Key]:
    """The keys of a file, a line each; those of other kinds (ML-DSA-44) are passed over.

    All witnesses that stand there have to have cosigned a checkpoint.
    """
    found: list[Key] = []
    good_to = None
    for line in text.splitlines():
        if retired := _GOOD_TO.fullmatch(line):  # of the log's key that comes next
            good_to = int(retired[1])
        name, _, rest = line.partition("+")
        if line.startswith("#") or not name:
            continue
        key = _base64(rest.partition("+")[2])
        if key[:1] == b"\x04" and len(key) == 33:
            found.append(Key(name, key[1:], witness=True))
        if key[:1] == b"\x01" and len(key) == 33:
            found.append(Key(name, key[1:], good_to=good_to))
            good_to = None
    if not any(not key.witness for key in found):
        raise Refused("the file of keys has none: it is to have what the broker shows at /v1/audit/log/key")
    return found


def opened(note: str, trusted: Sequence[Key]) -> tuple[str, str, list[Key]]:
    """The text of a note, its signatures, and the keys that you trust that signed it."""
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    if not _SIGNATURES.fullmatch(signatures):
        raise Refused("not a signed note")
    return text, signatures, [key for key in trusted if not key.witness and key.signed(text, signatures)]


def checkpoint(note: str, trusted: Sequence[Key]) -> Checkpoint:
    """What a signed checkpoint says, if one of the keys that you trust signed it."""
    text, signatures, by = opened(note, trusted)
    read = _CHECKPOINT.fullmatch(text)
    if read is None:
        raise Refused("not a signed checkpoint")
    found = Checkpoint(read[1], int(read[2]), _base64(read[3]))
    of_log = [key for key in by if key.name == found.origin]
    if not of_log:
        raise Refused(f"no key that you trust signed the checkpoint of {found.origin}")
    if all(key.good_to is not None and found.size > key.good_to for key in of_log):
        raise Refused("the checkpoint is signed with a key that signed no more when the log was so large")
    for key in trusted:
        if key.witness and not key.signed(text, signatures):
            raise Refused(f"the witness {key.name} has not cosigned the checkpoint")
    return found


# --- the tree ---


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The tree hash over entries that are added one by one."""

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        if len(edge) != size.bit_count():
            raise Refused("a tree of this size keeps other hashes")
        self.size, self._edge = size, list(edge)

    def add(self, entry: bytes) -> None:
        """Add the next entry."""
        made, beside = hashlib.sha256(b"\x00" + entry).digest(), self.size
        while beside & 1:
            made = hashlib.sha256(b"\x01" + self._edge.pop() + made).digest()
            beside >>= 1
        self._edge.append(made)
        self.size += 1

    def root(self) -> bytes:
        """The hash over all entries so far."""
        if not self._edge:
            return hashlib.sha256().digest()
        made = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            made = _node(left, made)
        return made


def root_by_inclusion(entry: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root of a tree with the entry at the index (RFC 9162 §2.1.3.2)."""
    if index >= size:
        raise Refused("the checkpoint is of a smaller log than the event's index")
    sides, made = [*_sides(index, size - 1)], hashlib.sha256(b"\x00" + entry).digest()
    if len(proof) != len(sides):
        raise Refused("the proof is of another length")
    for on_the_left, beside in zip(sides, proof, strict=True):
        made = _node(beside, made) if on_the_left else _node(made, beside)
    return made


def check_consistency(old: Checkpoint, new: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that the newer log begins with all of the older one (RFC 9162 §2.1.4.2)."""
    if old.size > new.size:
        raise Refused(f"the log had {old.size} events and has {new.size} now: its end was cut off")
    if old.size in {0, new.size}:
        if proof or (old.size and old.root != new.root):
            raise Refused("the log was rewritten: two histories have the same number of events")
        return
    hashes = [*proof] if old.size & (old.size - 1) else [old.root, *proof]
    at, last = old.size - 1, new.size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    sides = [*_sides(at, last)]
    if len(hashes) != len(sides) + 1:
        raise Refused("the proof is of another length")
    of_old = of_new = hashes[0]
    for on_the_left, beside in zip(sides, hashes[1:], strict=True):
        if on_the_left:
            of_old = _node(beside, of_old)
        of_new = _node(beside, of_new) if on_the_left else _node(of_new, beside)
    if (of_old, of_new) != (old.root, new.root):
        raise Refused("the log was rewritten: what it was before is no part of it now")


def _sides(at: int, last: int) -> Iterator[bool]:
    """For each step up to the root, whether what lies beside is on the left."""
    while last:
        on_the_left = bool(at & 1) or at == last
        yield on_the_left
        while on_the_left and at and not at & 1:
            at, last = at >> 1, last >> 1
        at, last = at >> 1, last >> 1


# --- events ---


class _Event(NamedTuple):
    """An event as it was read: its entry, core and personal part (None if withheld)."""

    entry: bytes
    core: bytes
    personal: bytes | None


def _event(text: str, start: int) -> _Event | None:
    """The event whose core begins at ``start`` of a line; None if it isn't one."""
    end = text.find('","salt_core":"', start)
    rest = _REST.fullmatch(text, end) if end > 0 and text.startswith('"core":"', start) else None
    if rest is None:
        return None
    # A core is ids and words, so no escape is in it but that of a quote.
    pieces = text[start + len('"core":"') : end].split('\\"')
    core = '"'.join(pieces)
    if "\\" in core or core.count('"') >= len(pieces):
        return None
    salt_core, withheld, raw, salt_personal = rest.groups()
    personal = None
    if raw is None:
        cp = a2b_base64(withheld)
    else:
        told = _parsed(f'"{raw}"')
        if json.dumps(told, ensure_ascii=False) != f'"{raw}"':
            return None
        personal = told.encode()
        cp = hashlib.sha256(b"auditpii/v1\0" + a2b_base64(salt_personal) + personal).digest()
    cc = hashlib.sha256(b"auditcore/v1\0" + a2b_base64(salt_core) + core.encode()).digest()
    return _Event(hashlib.sha256(b"auditentry/v1\0" + cc + cp).digest(), core.encode(), personal)


def receipt(data: str, trusted: Sequence[Key]) -> Proven:
    """The event of a receipt, if the log has it."""
    read = _RECEIPT.fullmatch(data)
    try:
        shown = _base64(read[1]).decode() if read else ""
        event = _event(shown + "\n", 1) if shown.startswith("{") else None
    except UnicodeDecodeError:
        event = None
    if read is None or event is None:
        raise Refused("not a receipt of an event")
    found = checkpoint(read[4], trusted)
    proof = [_base64(line) for line in read[3].split()]
    if root_by_inclusion(event.entry, int(read[2]), found.size, proof) != found.root:
        raise Refused("the event is not in the log: it was changed, or was never there")
    personal = _object(event.personal) if event.personal else None
    return Proven(int(read[2]), _object(event.core), personal, event.entry, found)


# --- exports ---


def export(
    lines: Iterable[str], trusted: Sequence[Key], saved: Checkpoint | None = None, skew: int = SKEW_MS
) -> Verified:
    """What an export has, if that is all there is.

    ``saved`` is a checkpoint from before, against which all of the log is held.  Refused names the first bad line.
    """
    numbered = _Lines(lines)
    try:
        header = _HEADER.fullmatch(next(numbered, ""))
        if header is None:
            raise Refused("not the header of an export")
        if header[1] is None:
            return _log(numbered, trusted, saved, skew)
        if saved is not None:
            raise Refused("a saved checkpoint is compared with all of the log, which this is not")
        return _organization(header[1], numbered, trusted)
    except Refused as refused:
        raise Refused(f"line {numbered.at}: {refused}") from None


class _Lines:
    """The lines of a file, and the number of the one that was read last."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self.at = iter(lines), 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.at += 1
        return next(self._lines)


def _organization(organization: str, lines: _Lines, trusted: Sequence[Key]) -> Verified:
    begin, tree, since, first = _json(next(lines, "")), Tree(), 0, 0
    if begin != {"head": None, "edge": []}:
        text, edge = _members(begin, "head", "edge")
        proven, count, root, first = _head(text, organization, trusted)
        tree, since = Tree(count, [_base64(each) for each in edge]), proven.core["time"]
        if tree.root() != root:
            raise Refused("the edge is not that of the head that it follows")
    before, index, line = tree.size, first - 1, ""
    for line in lines:
        at = _INDEX.match(line)
        if at is None:
            break
        event = _event(line, at.end())
        if event is None or int(at[1]) <= index:
            raise Refused("events are to follow each other, each whole")
        index = int(at[1])
        if _parsed(event.core).get("organization") != organization:
            raise Refused(f"event {index} is not of {organization}")
        tree.add(event.entry)
    (text,) = _members(_json(line), "head")
    proven, count, root, to = _head(text, organization, trusted)
    if index >= to or (count, root) != (tree.size, tree.root()):
        raise Refused(f"the events are not those that the log has of {organization}: one is missing, added or changed")
    if next(lines, ""):
        raise Refused("nothing is to follow the last head")
    return Verified(organization, tree.size - before, since, proven.core["time"], proven.checkpoint)


def _head(text: object, organization: str, trusted: Sequence[Key]) -> tuple[Proven, int, bytes, int]:
    """A head: its event, the number of events, their root, and of how much of the log."""
    if not isinstance(text, str):
        raise Refused("not a head")
    proven = receipt(text, trusted)
    read = _HEAD.fullmatch(proven.core.get("reason", ""))
    if read is None or (proven.core["kind"], proven.core.get("subject")) != ("audit.head", organization):
        raise Refused(f"not a head of {organization}")
    if int(read[3]) > proven.index:
        raise Refused("a head is about events before it")
    return proven, int(read[1]), _base64(read[2]), int(read[3])


def _log(lines: _Lines, trusted: Sequence[Key], saved: Checkpoint | None, skew: int) -> Verified:
    if _json(next(lines, "")) != {"head": None, "edge": []}:
        raise Refused("all of the log begins with nothing")
    tree, newest, latest, line = Tree(), 0, 0, ""
    for line in lines:
        at = _INDEX.match(line)
        if at is None:
            break
        if int(at[1]) != tree.size:
            raise Refused(f"event {tree.size} is to be here, and is not")
        event = _event(line, at.end())
        tree.add(event.entry if event else _alone(line, at.end()))
        if event:
            latest = _dated(event.core, newest, skew)
            newest = max(newest, latest)
        if saved is not None and tree.size == saved.size and tree.root() != saved.root:
            raise Refused("this or an earlier event is not as it was when the checkpoint was saved: it was rewritten")
    (note,) = _members(_json(line), "checkpoint")
    found = checkpoint(note, trusted)
    if saved is not None and saved.size > tree.size:
        raise Refused(f"the log had {saved.size} events, and {tree.size} are here: the end was cut off")
    if (found.size, found.root) != (tree.size, tree.root()):
        raise Refused("the events are not those of the checkpoint: one is missing, added or changed")
    if next(lines, ""):
        raise Refused("nothing is to follow the checkpoint")
    return Verified("", tree.size, 0, latest, found)


def _alone(line: str, start: int) -> bytes:
    """The entry of an event that the database holds no more."""
    found = _ENTRY.fullmatch(line, start)
    if found is None:
        raise Refused("the line is not spelled as an event is")
    return a2b_base64(found[1])


def _dated(core: bytes, newest: int, skew: int) -> int:
    """The time of an event, which is about that of the ones before it."""
    found = _TIME.search(core.decode())
    if found is None:
        raise Refused("an event has a time")
    if int(found[1]) < newest - skew:
        raise Refused(
            f"the event is from {(newest - int(found[1])) // 1000} s before others that come before it: it was dated "
            "back, or a clock was wrong then (--skew SECONDS accepts so much)"
        )
    return int(found[1])


# --- certificates ---

_CERTIFICATE = "keybroker death certificate v1\n"


def certificate(data: str, trusted: Sequence[Key]) -> tuple[dict[str, str], list[Proven]]:
    """What a certificate states, by name, and the events that the file proves.

    An event whose receipt is in the file is the one that the certificate names.
    """
    whole = _parsed(data)
    _, note, receipts = _members(whole, "v", "certificate", "receipts")
    if whole["v"] != 1 or not isinstance(note, str) or not isinstance(receipts, list):
        raise Refused("not the file of a certificate")
    text, _, by = opened(note, trusted)
    if not by or not text.startswith(_CERTIFICATE):
        raise Refused("no key that you trust signed this as a certificate (/v1/certificates/key)")
    lines = [line.partition(": ") for line in text.removeprefix(_CERTIFICATE).splitlines()]
    said = {name: value for name, _, value in lines}
    digest, proven = hashlib.sha256(text.encode()).hexdigest(), []
    for each in receipts:
        event, proof = _members(each, "event", "receipt")
        found = receipt(proof, trusted)
        line = next((value for value in said.values() if event in value.split()), None)
        if line is None or found.core["id"] != event or _stamp(found.core["time"]) not in line.split():
            raise Refused(f"the receipt of {event} is of another event than the certificate names")
        if event in said.get("issued", "").split() and found.core.get("subject") != digest:
            raise Refused("the log has another certificate in this one's place")
        proven.append(found)
    return said, proven


def _stamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{milliseconds % 1000:03}Z"


# --- small things ---


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("not base64") from None
    if base64.b64encode(data).decode() != text:
        raise Refused("base64 in another spelling")
    return data


def _json(line: str) -> Any:  # noqa: ANN401 - what JSON has
    """A line that is JSON in the spelling in which it is written."""
    value = _parsed(line)
    if json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n" != line:
        raise Refused("not spelled as it is written")
    return value


def _parsed(text: str | bytes) -> Any:  # noqa: ANN401 - what JSON has
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Refused("the line is cut off, or is no event") from None


def _object(text: bytes) -> dict[str, Any]:
    """An event's core or personal part; there are no numbers in it that JSON doesn't have."""
    try:
        value = json.loads(text.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused("the event is no object of JSON")
    return value


def _no_number(name: str) -> None:
    raise ValueError(name)


def _members(value: object, *names: str) -> list[Any]:
    if not isinstance(value, dict) or [*value] != [*names]:
        raise Refused(f"a line with {' and '.join(names)} is to be here")
    return [*value.values()]


def consistency(old: str, data: str, trusted: Sequence[Key]) -> tuple[Checkpoint, Checkpoint]:
    """Two checkpoints, if ``data`` proves that the newer log begins with all of the older one.

    ``data`` is ``old <size>``, the proof, a line each, an empty line, and the newer checkpoint (as a C2SP witness is
    asked).
    """
    before = checkpoint(old, trusted)
    lines, _, note = data.partition("\n\n")
    first, *proof = lines.split("\n")
    if first != f"old {before.size}":
        raise Refused(f"the proof is to begin with: old {before.size}")
    now = checkpoint(note, trusted)
    check_consistency(before, now, [_base64(line) for line in proof])
    return before, now


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; what it returns is its exit status."""
    parser = argparse.ArgumentParser(description="Verify what a Keybroker shows, offline.")
    parser.add_argument("what", choices=["receipt", "export", "log", "consistency", "certificate"])
    parser.add_argument("file", nargs="+", type=Path, help="of consistency: the saved checkpoint, then the proof")
    parser.add_argument("--key", required=True, type=Path, help="what the broker shows at /v1/audit/log/key")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint that you saved before")
    parser.add_argument("--skew", type=int, default=SKEW_MS // 1000, help="seconds that an event may be late")
    given = parser.parse_args(arguments)
    if len(given.file) != (2 if given.what == "consistency" else 1):
        parser.error("name one file; of consistency, the saved checkpoint and the proof")
    try:
        text, facts = examined(given.what, given.file, given.key, given.checkpoint, given.skew)
    except (Refused, OSError, UnicodeDecodeError) as refused:
        print(f"NOT verified: {refused}", file=sys.stderr)
        return 1
    print(text, *([json.dumps(facts["event"], indent=2)] if "event" in facts else []), sep="\n")
    return 0


def examined(
    what: str, files: Sequence[Path], key: Path, saved: Path | None = None, skew: int = SKEW_MS // 1000
) -> tuple[str, dict[str, Any]]:
    """What was verified, as a sentence and as facts; ``skew`` is in seconds.

    Raises Refused if it isn't right, and OSError or UnicodeDecodeError if it can't be read.
    """
    trusted = keys(_read(key))
    if what == "receipt":
        return _of_receipt(receipt(_read(files[0]), trusted))
    if what == "certificate":
        return _of_certificate(*certificate(_read(files[0]), trusted))
    if what == "consistency":
        before, now = consistency(_read(files[0]), _read(files[1]), trusted)
        facts = {"origin": now.origin, "size": now.size, "saved": before.size}
        return f"Verified: the log of {now.size} events begins with the {before.size} that it had.", facts
    kept = checkpoint(_read(saved), trusted) if saved else None
    with files[0].open(encoding="utf-8", newline="\n") as lines:
        found = export(iter(lambda: lines.readline(_LONGEST), ""), trusted, kept, skew * 1000)
    if (what == "log") != (not found.organization):
        raise Refused(f"this is an export of {'one organization' if found.organization else 'all of the log'}")
    facts = {"origin": found.checkpoint.origin, "size": found.checkpoint.size, "events": found.events}
    if what == "log":
        beside = f", which begins with the {kept.size} of the saved checkpoint" if kept else ""
        return f"Verified: all {found.events} events of the log{beside}.", facts
    since, until = _moment(found.since), _moment(found.until)
    return (
        f"Verified: all {found.events} events of {found.organization}, from {since or 'the beginning'} to {until}.",
        {**facts, "organization": found.organization, "since": since, "until": until},
    )


def _of_certificate(said: dict[str, str], proven: Sequence[Proven]) -> tuple[str, dict[str, Any]]:
    key = f"key {said['version']} of {said['credential']} at {said['provider']}"
    told = "refuses" if said["statement"] == "dead" else "takes again"
    text = f"Verified: the upstream {told} {key}, as it answered last: {said['answered']}."
    beside = f" {len(proven)} of the events that it names are proved to be in the log."
    return text + beside, {"certificate": said, "events": [each.core for each in proven]}


def _of_receipt(proven: Proven) -> tuple[str, dict[str, Any]]:
    kind, size = proven.core["kind"], proven.checkpoint.size
    facts = {"origin": proven.checkpoint.origin, "size": size, "index": proven.index}
    text = f"Verified: event {proven.index} ({kind}) is in the log of {size} events."
    return text, {**facts, "event": {"core": proven.core, "personal": proven.personal}}


def _read(file: Path) -> str:
    with file.open(encoding="utf-8", newline="") as text:
        return text.read()


def _moment(milliseconds: int) -> str | None:
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


if __name__ == "__main__":
    sys.exit(main())
