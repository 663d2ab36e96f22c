"""What a rendering tells: an event with what proves it, or a checkpoint.  Pure."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from broker.base.clock import Millis

VENDOR: Final = "Keybroker"
PRODUCT: Final = "Keybroker"
# Of a checkpoint, which is no event of the record.
CHECKPOINT: Final = "audit.checkpoint"


@dataclass(frozen=True, slots=True)
class Source:
    """Where records come from: the log's origin, and the broker's version."""

    origin: str
    version: str


@dataclass(frozen=True)
class Told:
    """An event, its core bytes as they were committed to, and what its commitment is made of.

    ``series`` is as in :class:`broker.audit.search.Recorded`.
    """

    index: int
    series: int
    core: dict[str, Any]
    personal: dict[str, Any]
    core_bytes: bytes
    salt_core: bytes
    personal_commitment: bytes
    entry: bytes

    @property
    def kind(self) -> str:
        """Of the record's catalogue."""
        return str(self.core["kind"])

    @property
    def denied(self) -> bool:
        """Whether it was refused."""
        return bool(self.core["decision"] == "denied")

    @property
    def status(self) -> int | None:
        """What the upstream answered; None if it did not, or wasn't asked."""
        status: int | None = self.core.get("outcome", {}).get("status")
        return status

    @cached_property
    def succeeded(self) -> bool:
        """Whether it came to what it was for, as far as the event can tell."""
        if self.denied or self.kind.endswith((".refused", ".failing", ".token_refused", ".unreachable", ".gone")):
            return False
        return "outcome" not in self.core or (self.status is not None and self.status < 400)

    def proof(self) -> dict[str, Any]:
        """What its commitment is made of, beside the core bytes; in base64."""
        return {
            "index": self.index,
            "series": self.series,
            "commitment": text_of(self.entry),
            "salt_core": text_of(self.salt_core),
            "personal_commitment": text_of(self.personal_commitment),
        }


@dataclass(frozen=True, slots=True)
class Mark:
    """A checkpoint: the signed note as it is, its size, and when it is told (milliseconds)."""

    note: bytes
    origin: str
    size: int
    time: Millis

    @property
    def text(self) -> str:
        """The note, which is UTF-8."""
        return self.note.decode()


def text_of(raw: bytes) -> str:
    """Bytes as renderings have them: base64 (RFC 4648 §4)."""
    return base64.b64encode(raw).decode()
