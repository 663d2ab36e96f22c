"""What a log says of itself at a size, as C2SP tlog-checkpoint has it.

It is the text of a signed note (:mod:`broker.formats.signed_note`).

::

    text    = origin "\\n" size "\\n" base64(root) "\\n"        size: decimal, without zeros before it
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple

from broker.formats.merkle import HASH_BYTES

_TEXT = re.compile(r"([^\s+]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n")


class NoCheckpoint(ValueError):
    """Not the text of a checkpoint."""


class Checkpoint(NamedTuple):
    """The log that it is of, how many entries that has, and the root over them."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def read(cls, text: str) -> Checkpoint:
        """The checkpoint of a text.

        Raises:
            NoCheckpoint: it is in another form, or has lines that no signature of some kinds would cover.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise NoCheckpoint("not a checkpoint: an origin, a size and a root, a line each, are expected")
        found = cls(match[1], int(match[2]), base64.b64decode(match[3]))
        if len(found.root) != HASH_BYTES or found.text() != text:
            raise NoCheckpoint("not a checkpoint: its root is in another spelling")
        return found
