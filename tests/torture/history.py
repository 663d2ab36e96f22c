"""What clients asked and were told, and what the upstream saw: one clock (monotonic seconds) for all."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["ok", "refused", "unknown"]


@dataclass(slots=True)
class Op:
    """One request.  ``unknown`` where no answer came: it may have been carried out, or be yet.

    ``facts`` may name the ``event`` that an answer of yes says is on the record, and the ``subject``: fields of it.
    """

    kind: str
    facts: dict[str, Any]
    began: float
    ended: float = 0.0
    outcome: Outcome = "unknown"


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request at the upstream: the use it came from, and whose key it carried."""

    probe: str
    key: str
    organization: str
    at: float


@dataclass
class History:
    """Everything, in the order in which it began."""

    ops: list[Op] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    _count: Any = field(default_factory=itertools.count)

    def begin(self, kind: str, at: float, **facts: Any) -> Op:
        """Note a request that is about to be sent."""
        op = Op(kind, facts, at)
        self.ops.append(op)
        return op

    def probe(self) -> str:
        """A name for a use that nothing else has."""
        return f"p{next(self._count)}"

    def of(self, kind: str, outcome: Outcome | None = None) -> list[Op]:
        """The requests of a kind."""
        return [op for op in self.ops if op.kind == kind and outcome in {None, op.outcome}]
