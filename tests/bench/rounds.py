"""Rounds of a run, in which contenders take turns: what moves the machine moves all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from tests.bench.load import Measured, run

Rounds = list[Measured]


class Contender(NamedTuple):
    """A port of this machine, the request that is sent there, and the process whose CPU is looked at, if any."""

    port: int
    request: bytes
    pid: int | None = None

    def run(self, *, connections: int, seconds: float) -> Measured:
        """One round."""
        return run(self.port, self.request, connections=connections, seconds=seconds, pid=self.pid)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of rounds with the lowest and the highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """From the value of each round."""
        given = list(values)
        return cls(*(round(value, 2) for value in (median(given), min(given), max(given))))


Figure = float | Spread


def interleaved(
    contenders: Mapping[str, Contender], *, rounds: int, connections: int, seconds: float
) -> dict[str, Rounds]:
    """Each in turn, that many times."""
    found: dict[str, Rounds] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            found[name].append(contender.run(connections=connections, seconds=seconds))
    return found


def middle(rounds: Rounds) -> Measured:
    """The round of median rate; raises RuntimeError where anything failed in any round."""
    if failed := sum(each.failed for each in rounds):
        raise RuntimeError(f"{failed} answers were errors: nothing was measured")
    rate = median(each.rate for each in rounds)
    return min(rounds, key=lambda each: abs(each.rate - rate))


def cpu_us(rounds: Rounds) -> Spread:
    """Microseconds of CPU for each answer; RuntimeError where nobody looked."""
    return Spread.of(map(_cpu_us, rounds))


def cpu_vs(rounds: Rounds, floor: Rounds) -> Spread:
    """How many times the CPU for each answer of ``floor``, round by round."""
    return Spread.of(_cpu_us(each) / _cpu_us(beside) for each, beside in zip(rounds, floor, strict=True))


def _cpu_us(measured: Measured) -> float:
    if measured.cpu_us is None:
        raise RuntimeError("nobody looked at the CPU: nothing was measured")
    return measured.cpu_us
