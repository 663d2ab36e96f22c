"""Who signs the log's checkpoints: with Ed25519, and with ML-DSA-44 as well if that is on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from broker.base.clock import Clock
from broker.formats.checkpoint import Checkpoint
from broker.formats.ml_dsa import MlDsaSigner
from broker.formats.signed_note import Signer


class Signers(Protocol):
    """What signs in an epoch of the log, by the number of its key."""

    def __call__(self, epoch: int, number: int = 0) -> SignsLog:
        """The signer of that number."""
        ...


class SignsLog(Protocol):
    """A signer of a log; its name is the log's origin."""

    @property
    def name(self) -> str:
        """The log's origin."""
        ...

    def sign(self, text: str) -> bytes:
        """The note of a checkpoint's text."""
        ...


@dataclass(frozen=True, slots=True)
class SignsTwice:
    """Signs with two keys of one name, each of which is enough for who knows it."""

    ed25519: Signer
    ml_dsa: MlDsaSigner
    clock: Clock

    @property
    def name(self) -> str:
        return self.ed25519.name

    def sign(self, text: str) -> bytes:
        line = self.ml_dsa.sign(Checkpoint.read(text), self.clock() // 1000)
        return self.ed25519.sign(text) + line.text().encode()
