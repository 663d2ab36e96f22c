"""What a log asks a witness, as C2SP tlog-witness has it.

It is the body of ``POST …/add-checkpoint``.

::

    body    = "old " size "\\n" (base64(hash) "\\n")… "\\n" note
    note    = the checkpoint with its signatures
    size    = of the checkpoint that the witness cosigned last, 0 if none: decimal, without zeros before it

The hashes, 63 at most, prove that the tree of that size grew to the checkpoint's.  There are none if either tree is
empty, or if both are one.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Final

from broker.formats.merkle import HASH_BYTES

# So many bytes a body may have: those of a note, and of the proof before it.
BYTES_MOST: Final = 70_000
# How a witness that has another size answers: with that size and a line's end, status 409.
SIZE_MEDIA_TYPE: Final = "text/x.tlog.size"
_HASHES_MOST: Final = 63
_BODY: Final = re.compile(
    rb"old (0|[1-9][0-9]{0,18})\n((?:[A-Za-z0-9+/]{43}=\n){0,%d})\n(.+)" % _HASHES_MOST, re.DOTALL
)
_SIZE: Final = re.compile(rb"(0|[1-9][0-9]{0,18})\n")


class NoWitnessRequest(ValueError):
    """Not the body of such a request, or of its answer."""


@dataclass(frozen=True, slots=True)
class WitnessRequest:
    """The size that the witness is taken to have, the proof from there, and the note."""

    old: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body."""
        hashes = b"".join(base64.b64encode(hash_) + b"\n" for hash_ in self.proof)
        return b"old %d\n%b\n%b" % (self.old, hashes, self.note)

    @classmethod
    def decode(cls, body: bytes) -> WitnessRequest:
        """The request of a body; its note is not read.

        Raises:
            NoWitnessRequest: it is in another form.
        """
        found = _BODY.fullmatch(body) if len(body) <= BYTES_MOST else None
        if found is None:
            raise NoWitnessRequest("`old`, a size, lines of hashes, an empty line and a checkpoint are expected")
        request = cls(int(found[1]), tuple(map(base64.b64decode, found[2].splitlines())), found[3])
        if any(len(hash_) != HASH_BYTES for hash_ in request.proof) or request.encode() != body:
            raise NoWitnessRequest("a hash is in another spelling")
        return request


def size_of(answer: bytes) -> int:
    """The size that a witness has, of its answer to a request that named another one.

    Raises:
        NoWitnessRequest: it is in another form.
    """
    found = _SIZE.fullmatch(answer)
    if found is None:
        raise NoWitnessRequest("a size and a line's end are expected")
    return int(found[1])
