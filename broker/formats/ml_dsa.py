"""A log's own signature of its checkpoint with ML-DSA-44, as C2SP tlog-cosignature has it.

It holds if Ed25519 is broken one day.  It is one more line of the signed note (:mod:`broker.formats.signed_note`) that
the checkpoint is, so who doesn't know the key ignores it.

::

    line    = "— " name " " base64(id | len64 | signature) "\\n"      len64: the time, in seconds since the epoch
    signed  = "subtree/v1\\n\\0" len8(name) len64 len8(origin) len64(0) len64(size) root
    id      = SHA-256(name "\\n" 0x06 | public)[:4]
    key     = name "+" hex(id) "+" base64(0x06 | public)            what verifies ("vkey")
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from broker.formats.checkpoint import Checkpoint, NoCheckpoint
from broker.formats.signed_note import KeyUnreadable, Line, NoteRefused, id_of, is_name, key_line, read_key, taken_apart

_KIND = b"\x06"
_LABEL = b"subtree/v1"
_TIME_BYTES = 8
_BYTES = _TIME_BYTES + 2_420
_LATEST = 2**63 - 1
_NAME_MOST = 255


@dataclass(frozen=True, slots=True)
class MlDsaKey:
    """What verifies: its name and its 1,312 public bytes."""

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
    def read(cls, line: str) -> MlDsaKey:
        """The key of a line that :meth:`line` made.

        Raises:
            KeyUnreadable: it is no such line.
        """
        name, public = read_key(line, _KIND)
        try:
            MLDSA44PublicKey.from_public_bytes(public)
        except ValueError:
            raise KeyUnreadable("not the line of an ML-DSA-44 key") from None
        if len(name.encode()) > _NAME_MOST:
            raise KeyUnreadable("the name of an ML-DSA-44 key has 255 bytes at most")
        return cls(name, public)


@dataclass(frozen=True, slots=True, repr=False)
class MlDsaSigner:
    """A key that signs: its name and its 32 secret bytes."""

    name: str
    seed: bytes

    def key(self) -> MlDsaKey:
        """What verifies its signatures."""
        return MlDsaKey(self.name, MLDSA44PrivateKey.from_seed_bytes(self.seed).public_key().public_bytes_raw())

    def sign(self, checkpoint: Checkpoint, seconds: int) -> Line:
        """The line for a checkpoint, at a time in seconds since the epoch.

        Raises:
            ValueError: a name or the time can't be in a line.
        """
        names = (self.name, checkpoint.origin)
        if not all(is_name(name) and len(name.encode()) <= _NAME_MOST for name in names) or not 0 <= seconds <= _LATEST:
            raise ValueError("no signature can hold this")
        signature = MLDSA44PrivateKey.from_seed_bytes(self.seed).sign(_signed(self.name, seconds, checkpoint))
        return Line(self.name, self.key().id, seconds.to_bytes(_TIME_BYTES) + signature)


def signed_at(note: bytes, key: MlDsaKey) -> int:
    """When a key signed a checkpoint's note, in seconds since the epoch.

    Raises:
        NoteRefused: it is no such note, or has no signature of that key, or one that is wrong.
    """
    text, lines = taken_apart(note)
    try:
        of = Checkpoint.read(text)
    except NoCheckpoint as error:
        raise NoteRefused(str(error)) from None
    own = [line.signature for line in lines if (line.name, line.id) == (key.name, key.id)]
    if not own:
        raise NoteRefused("not signed by this key")
    return max(_verified(of, signature, key) for signature in own)


def _verified(of: Checkpoint, given: bytes, key: MlDsaKey) -> int:
    seconds = int.from_bytes(given[:_TIME_BYTES])
    if len(given) != _BYTES or seconds > _LATEST or len(of.origin.encode()) > _NAME_MOST:
        raise NoteRefused("the signature is in another form")
    try:
        MLDSA44PublicKey.from_public_bytes(key.public).verify(given[_TIME_BYTES:], _signed(key.name, seconds, of))
    except InvalidSignature:
        raise NoteRefused("the signature is wrong: this checkpoint was not signed") from None
    return seconds


def _signed(name: str, seconds: int, of: Checkpoint) -> bytes:
    named, logged = name.encode(), of.origin.encode()
    return b"".join(
        [
            _LABEL + b"\n\0",
            len(named).to_bytes(1) + named,
            seconds.to_bytes(_TIME_BYTES),
            len(logged).to_bytes(1) + logged,
            bytes(8) + of.size.to_bytes(8),
            of.root,
        ]
    )
