"""A log of a test, with whatever entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.formats.checkpoint import Checkpoint
from broker.formats.merkle import consistency, leaf, node, root_of
from broker.formats.signed_note import Signer
from broker.formats.witness_request import WitnessRequest

SIGNER: Final = Signer("log.example/0", b"s" * 32)


class MadeLog:
    """A log of these entries, whose checkpoints ``signer`` signs."""

    def __init__(self, *entries: str, signer: Signer = SIGNER) -> None:
        self.entries = entries
        self.signer = signer

    @property
    def size(self) -> int:
        return len(self.entries)

    def checkpoint(self) -> Checkpoint:
        return Checkpoint(self.signer.name, self.size, root_of(self.size, self._whole))

    def note(self) -> bytes:
        return self.signer.sign(self.checkpoint().text())

    def request(self, old: int) -> WitnessRequest:
        """What a witness of that size is asked."""
        proof: Sequence[bytes] = consistency(old, self.size, self._whole) if 0 < old < self.size else ()
        return WitnessRequest(old, tuple(proof), self.note())

    def _whole(self, level: int, number: int) -> bytes:
        if level:
            return node(self._whole(level - 1, 2 * number), self._whole(level - 1, 2 * number + 1))
        return leaf(self.entries[number].encode())
