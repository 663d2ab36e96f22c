"""What a witness says of a checkpoint, as C2SP tlog-cosignature has it, with Ed25519.

It is one more line of the signed note (:mod:`broker.formats.signed_note`) that the checkpoint is.

::

    line    = "— " name " " base64(id | len64 | signature) "\\n"      len64: the time, in seconds since the epoch
    signed  = "cosignature/v1\\ntime " seconds "\\n" text             text: of the note
    id      = SHA-256(name "\\n" 0x04 | public)[:4]
    key     = name "+" hex(id) "+" base64(0x04 | public)            what verifies ("vkey")
    secret  = "PRIVATE+KEY+" name "+" hex(id1) "+" base64(0x01 | seed)  what signs; id1: as id, of 0x01 in place of 0x04

It says that at that time the checkpoint was the largest one of its log that the witness had seen, and that every one
before led to it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from broker.formats.signed_note import (
    KeyUnreadable,
    Line,
    NoteRefused,
    Signer,
    id_of,
    is_name,
    key_line,
    read_key,
    taken_apart,
)

_KIND = b"\x04"
_LABEL = "cosignature/v1"
_SECRET = "PRIVATE+KEY+"  # noqa: S105 - what stands before one
_SEED = b"\x01"
_TIME_BYTES = 8
_BYTES = _TIME_BYTES + 64
_LATEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """What verifies a witness's cosignatures: its name and its 32 public bytes."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """Four bytes by which lines of this key are found; they prove nothing."""
        return id_of(self.name, _KIND + self.public)

    def line(self) -> str:
        """The key as a line of text."""
        return key_line(self.name, _KIND + self.public)

    @classmethod
    def read(cls, line: str) -> WitnessKey:
        """The key of a line that :meth:`line` made.

        Raises:
            KeyUnreadable: it is no such line.
        """
        name, public = read_key(line, _KIND)
        try:
            Ed25519PublicKey.from_public_bytes(public)
        except ValueError:
            raise KeyUnreadable("not the line of a witness's Ed25519 key") from None
        return cls(name, public)


@dataclass(frozen=True, slots=True, repr=False)
class Cosigner:
    """A witness's key that signs: its name and its 32 secret bytes."""

    name: str
    seed: bytes

    def secret(self) -> str:
        """The key as a line of text, as Go's tools write it; for its owner alone."""
        hint = Signer(self.name, self.seed).verifier().id.hex()
        return f"{_SECRET}{self.name}+{hint}+{base64.b64encode(_SEED + self.seed).decode()}"

    @classmethod
    def read(cls, line: str) -> Cosigner:
        """The key of a line that :meth:`secret` made.

        Raises:
            KeyUnreadable: it is no such line.
        """
        name, _, rest = line.removeprefix(_SECRET).partition("+")
        try:
            found = cls(name, base64.b64decode(rest.partition("+")[2], validate=True)[len(_SEED) :])
            if is_name(name) and found.secret() == line:
                return found
        except ValueError:
            pass
        raise KeyUnreadable("not the line of a witness's secret key")

    def key(self) -> WitnessKey:
        """What verifies its cosignatures."""
        return WitnessKey(self.name, Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, text: str, seconds: int) -> Line:
        """The line for a checkpoint's text, at a time in seconds since the epoch.

        Raises:
            ValueError: the name or the time can't be in a line.
        """
        if not is_name(self.name) or not 0 <= seconds <= _LATEST:
            raise ValueError("no cosignature can hold this")
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(_signed(text, seconds))
        return Line(self.name, self.key().id, seconds.to_bytes(_TIME_BYTES) + signature)


def cosigned_at(note: bytes, key: WitnessKey) -> int:
    """When a witness last cosigned a note's text, in seconds since the epoch.

    Raises:
        NoteRefused: it is no note, or has no cosignature of that key, or one that is wrong.
    """
    text, lines = taken_apart(note)
    own = [line.signature for line in lines if (line.name, line.id) == (key.name, key.id)]
    if not own:
        raise NoteRefused("not cosigned by this witness")
    return max(_verified(text, signature, key) for signature in own)


def _verified(text: str, given: bytes, key: WitnessKey) -> int:
    seconds, signature = int.from_bytes(given[:_TIME_BYTES]), given[_TIME_BYTES:]
    if len(given) != _BYTES or seconds > _LATEST:
        raise NoteRefused("the cosignature is in another form")
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, _signed(text, seconds))
    except InvalidSignature:
        raise NoteRefused("the cosignature is wrong: this text was not cosigned") from None
    return seconds


def _signed(text: str, seconds: int) -> bytes:
    return f"{_LABEL}\ntime {seconds}\n{text}".encode()
