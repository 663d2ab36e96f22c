"""The layout of a value that is kept elsewhere: where it is, and a proof that it is the one.

::

    02                                   version
    len16 path (ASCII)                   in the store that keeps it
    u32   number                         the store's own number of the value
    16    write tag                      random, stored beside the value too: whose it is
    rest  seal                           a sealed value (``broker.formats.envelope``): SHA-256 of the value

The digest is sealed with the binding of the value's place.  So a value that is put at another place is told from the
one that belongs there, and so is another value at this place.  Being sealed, the digest can't be tried against guesses.

The write tag needs no binding.  It tells whether the value under that number is the one that this reference was made
for.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.formats.envelope import Malformed

VERSION = 2
NUMBER_BYTES = 4
WRITE_TAG_BYTES = 16
_PATH_MAX = 512


@dataclass(frozen=True, slots=True)
class Reference:
    """The parts of a reference."""

    path: str
    number: int
    write_tag: bytes
    seal: bytes

    def encode(self) -> bytes:
        """The bytes that are stored."""
        path = self.path.encode("ascii")
        if not 0 < len(path) <= _PATH_MAX or not 0 < self.number < 2**32 or len(self.write_tag) != WRITE_TAG_BYTES:
            raise Malformed(
                "a path of 1 to 512 ASCII characters, a number of 32 bits and a write tag of 16 bytes needed"
            )
        number = self.number.to_bytes(NUMBER_BYTES, "big")
        return b"".join((bytes((VERSION,)), len(path).to_bytes(2, "big"), path, number, self.write_tag, self.seal))

    def same_value(self, other: Reference) -> bool:
        """Whether both mean one value; their seals may differ."""
        return (self.path, self.number, self.write_tag) == (other.path, other.number, other.write_tag)

    @classmethod
    def decode(cls, data: bytes) -> Reference:
        """The parts of stored bytes.

        Raises:
            Malformed: unknown version, or lengths that do not add up.
        """
        if not is_reference(data):
            raise Malformed("unknown version of a reference")
        end = 3 + int.from_bytes(data[1:3], "big")
        tag = end + NUMBER_BYTES
        rest = tag + WRITE_TAG_BYTES
        if not 3 < end <= 3 + _PATH_MAX or len(data) < rest or not data[3:end].isascii():
            raise Malformed("a reference is cut off")
        number = int.from_bytes(data[end:tag], "big")
        if number == 0:
            raise Malformed("numbers begin with 1")
        return cls(data[3:end].decode("ascii"), number, data[tag:rest], data[rest:])


def is_reference(stored: bytes) -> bool:
    """Whether stored bytes are a reference; otherwise they are a sealed value themselves."""
    return stored[:1] == bytes((VERSION,))
