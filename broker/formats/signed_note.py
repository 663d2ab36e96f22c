"""A text that is signed with Ed25519, as C2SP signed-note has it.

The key that verifies it is a line of text as well.

::

    note     = text "\\n" line…                              text: UTF-8, ends with "\\n", its one control character
    line     = "— " name " " base64(id | signature) "\\n"    "—" is U+2014
    id       = SHA-256(name "\\n" 0x01 | public)[:4]
    key      = name "+" hex(id) "+" base64(0x01 | public)    what verifies ("vkey")

The signature is over the text.  A reader goes by the lines of the one key that it knows, and ignores others' lines.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
_ID_BYTES = 4
_LINE = re.compile(r"— (\S+) (\S+)")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
# So many signatures a note may have, and so many bytes.
_LINES_MOST = 16
_BYTES_MOST = 65_536


class NoteRefused(ValueError):
    """Not a note in this form, or not signed by the key that is asked for."""


class KeyUnreadable(ValueError):
    """Not the line of a key that verifies."""


@dataclass(frozen=True, slots=True)
class Line:
    """A signature below a text: the name and id of the key that made it, and its bytes."""

    name: str
    id: bytes
    signature: bytes

    def text(self) -> str:
        """The line as it stands in a note."""
        return f"— {self.name} {base64.b64encode(self.id + self.signature).decode()}\n"

    @classmethod
    def read(cls, line: str) -> Line:
        """The signature of a line, without its end.

        Raises:
            NoteRefused: it is no such line.
        """
        found = _LINE.fullmatch(line)
        try:
            given = base64.b64decode(found[2], validate=True) if found else b""
        except ValueError:
            given = b""
        if found is None or len(given) <= _ID_BYTES or base64.b64encode(given).decode() != found[2]:
            raise NoteRefused("not a signed note")
        return cls(found[1], given[:_ID_BYTES], given[_ID_BYTES:])


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that verifies: its name and its 32 public bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes by which lines of this key are found; they prove nothing."""
        return id_of(self.name, _ED25519 + self.public)

    def line(self) -> str:
        """The key as a line of text."""
        return key_line(self.name, _ED25519 + self.public)

    @classmethod
    def read(cls, line: str) -> Verifier:
        """The key of a line that :meth:`line` made.

        Raises:
            KeyUnreadable: it is no such line.
        """
        name, public = read_key(line, _ED25519)
        try:
            Ed25519PublicKey.from_public_bytes(public)
        except ValueError:
            raise KeyUnreadable("not the line of an Ed25519 key") from None
        return cls(name, public)


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A key that signs: its name and its 32 secret bytes."""

    name: str
    seed: bytes

    def verifier(self) -> Verifier:
        """What verifies its signatures."""
        return Verifier(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, text: str) -> bytes:
        """The note of a text.

        Raises:
            ValueError: the name or the text can't be in a note.
        """
        if not is_name(self.name) or not text.endswith("\n") or _CONTROL.search(text):
            raise ValueError("no note can hold this")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n{Line(self.name, self.verifier().id, signature).text()}".encode()


def id_of(name: str, key: bytes) -> bytes:
    """The id of a key; ``key`` is the kind of its signatures, a byte, and its public bytes."""
    return hashlib.sha256(name.encode() + b"\n" + key).digest()[:_ID_BYTES]


def key_line(name: str, key: bytes) -> str:
    """The line of a key; ``key`` is that of :func:`id_of`."""
    return f"{name}+{id_of(name, key).hex()}+{base64.b64encode(key).decode()}"


def read_key(line: str, kind: bytes) -> tuple[str, bytes]:
    """The name and the public bytes of a key's line, of this kind of signatures.

    Raises:
        KeyUnreadable: it is no such line.
    """
    name, _, rest = line.partition("+")
    try:
        key = base64.b64decode(rest.partition("+")[2], validate=True)
    except ValueError:
        raise KeyUnreadable("not the line of a key") from None
    if not is_name(name) or not key.startswith(kind) or key_line(name, key) != line:
        raise KeyUnreadable("not the line of a key of this kind")
    return name, key[len(kind) :]


def is_name(name: str) -> bool:
    """Whether a key may have this name."""
    return re.fullmatch(r"[^\s+]+", name) is not None and _CONTROL.search(name) is None


def taken_apart(note: bytes) -> tuple[str, list[Line]]:
    """The text of a note and the lines below it, none of which is verified.

    Raises:
        NoteRefused: it is no note.
    """
    try:
        decoded = note.decode() if len(note) <= _BYTES_MOST else ""
    except UnicodeDecodeError:
        decoded = ""
    text, _, below = decoded.rpartition("\n\n")
    lines = below.removesuffix("\n").split("\n")
    if not below.endswith("\n") or _CONTROL.search(decoded) or len(lines) > _LINES_MOST:
        raise NoteRefused("not a signed note")
    return text + "\n", [Line.read(line) for line in lines]


def joined(notes: Sequence[bytes]) -> bytes:
    """Several notes of one text as one, with the lines of all."""
    return notes[0] + b"".join(note.rpartition(b"\n\n")[2] for note in notes[1:])


def opened(note: bytes, verifier: Verifier) -> str:
    """The text of a note that ``verifier``'s key signed.

    Raises:
        NoteRefused: it is no note, or has no signature of that key, or one that is wrong.
    """
    text, lines = taken_apart(note)
    signatures = [line.signature for line in lines if (line.name, line.id) == (verifier.name, verifier.id)]
    if not signatures:
        raise NoteRefused("not signed by this key")
    key = Ed25519PublicKey.from_public_bytes(verifier.public)
    try:
        for signature in signatures:
            key.verify(signature, text.encode())
    except InvalidSignature:
        raise NoteRefused("the signature is wrong: this text was not signed") from None
    return text
