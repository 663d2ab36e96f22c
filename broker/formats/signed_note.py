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
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ED25519 = b"\x01"
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
class Verifier:
    """A key that verifies: its name and its 32 public bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes by which lines of this key are found; they prove nothing."""
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:4]

    def line(self) -> str:
        """The key as a line of text."""
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    @classmethod
    def read(cls, line: str) -> Verifier:
        """The key of a line that :meth:`line` made.

        Raises:
            KeyUnreadable: it is no such line.
        """
        name, _, rest = line.partition("+")
        try:
            key = base64.b64decode(rest.partition("+")[2], validate=True)
            found = cls(name, key[1:])
            Ed25519PublicKey.from_public_bytes(found.public)
        except ValueError:
            raise KeyUnreadable("not the line of a key") from None
        if not _is_name(name) or found.line() != line:
            raise KeyUnreadable("not the line of an Ed25519 key")
        return found


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
        if not _is_name(self.name) or not text.endswith("\n") or _CONTROL.search(text):
            raise ValueError("no note can hold this")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        signed = base64.b64encode(self.verifier().id + signature).decode()
        return f"{text}\n— {self.name} {signed}\n".encode()


def opened(note: bytes, verifier: Verifier) -> str:
    """The text of a note that ``verifier``'s key signed.

    Raises:
        NoteRefused: it is no note, or has no signature of that key, or one that is wrong.
    """
    try:
        decoded = note.decode() if len(note) <= _BYTES_MOST else ""
    except UnicodeDecodeError:
        decoded = ""
    text, _, lines = decoded.rpartition("\n\n")
    text += "\n"
    signatures = [_LINE.fullmatch(line) for line in lines.removesuffix("\n").split("\n")]
    if not lines.endswith("\n") or _CONTROL.search(decoded) or len(signatures) > _LINES_MOST:
        raise NoteRefused("not a signed note")
    signed = False
    for found in signatures:
        if found is None:
            raise NoteRefused("not a signed note")
        signed |= _is_signed(text, found[1], found[2], verifier)
    if not signed:
        raise NoteRefused("not signed by this key")
    return text


def _is_signed(text: str, name: str, encoded: str, verifier: Verifier) -> bool:
    """Whether a line is this key's, and right; False for another key's.

    Raises:
        NoteRefused: it is this key's, and wrong.
    """
    try:
        given = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise NoteRefused("not a signed note") from None
    if base64.b64encode(given).decode() != encoded or len(given) < 5:
        raise NoteRefused("not a signed note")
    if name != verifier.name or given[:4] != verifier.id:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(verifier.public).verify(given[4:], text.encode())
    except InvalidSignature:
        raise NoteRefused("the signature is wrong: this text was not signed") from None
    return True


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[^\s+]+", name) is not None and _CONTROL.search(name) is None
