"""Rounds of a run, in which contenders take turns: what moves the machine moves all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from tests.bench.load import Measured, run

WARM_UP_S = 2.0

Rounds = list[Measured]


class Contender(NamedTuple):
    """A port of this machine, the request that is sent there, and the processes whose CPU is looked at, if any."""

    port: int
    request: bytes
    pids: Sequence[int] = ()

    def run(self, *, connections: int, seconds: float) -> Measured:
        """One round."""
        return run(self.port, self.request, connections=connections, seconds=seconds, pids=self.pids)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of rounds with the lowest and the highest of them."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """From the value of each round, to four digits."""
        given = list(values)
        return cls(*(float(f"{value:.4g}") for value in (median(given), min(given), max(given))))


Figure = float | Spread


def warm_up(contenders: Mapping[str, Contender], *, connections: int, seconds: float = WARM_UP_S) -> None:
    """Use each until its code has run, its pools are filled and every worker has started."""
    for contender in contenders.values():
        contender.run(connections=connections, seconds=seconds)


def interleaved(
    contenders: Mapping[str, Contender], *, rounds: int, connections: int, seconds: float
) -> dict[str, Rounds]:
    """Each in turn, that many times, once all are warm.

    Each round begins with another one, so that nobody always comes after the same neighbour, who may have left work.
    """
    warm_up(contenders, connections=connections)
    found: dict[str, Rounds] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in turned(list(contenders), number):
            found[name].append(contenders[name].run(connections=connections, seconds=seconds))
    return found


def turned(names: Sequence[str], number: int) -> list[str]:
    """The order of round ``number``: it begins one further than the last."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def middle(rounds: Rounds) -> Measured:
    """The round of median rate; raises RuntimeError where anything failed in any round."""
    _check(rounds)
    rate = median(each.rate for each in rounds)
    return min(rounds, key=lambda each: abs(each.rate - rate))


def told(name: str, rounds: Rounds) -> dict[str, Figure]:
    """``NAME_per_s``, ``…_p50_ms``, ``…_p99_ms``, and ``…_cpu_us`` where somebody looked.

    Raises RuntimeError where anything failed in any round.
    """
    _check(rounds)
    named: dict[str, Figure] = {
        f"{name}_per_s": Spread.of(each.rate for each in rounds),
        f"{name}_p50_ms": Spread.of(each.p50 for each in rounds),
        f"{name}_p99_ms": Spread.of(each.p99 for each in rounds),
    }
    if rounds[0].cpu_us is not None:
        named[f"{name}_cpu_us"] = cpu_us(rounds)
    return named


def rate_vs(rounds: Rounds, peer: Rounds) -> Spread:
    """How many times the rate of ``peer``, round by round."""
    return _ratio(lambda each: each.rate, rounds, peer)


def cpu_us(rounds: Rounds) -> Spread:
    """Microseconds of CPU for each answer; RuntimeError where nobody looked."""
    return Spread.of(map(_cpu_us, rounds))


def cpu_vs(rounds: Rounds, floor: Rounds) -> Spread:
    """How many times the CPU for each answer of ``floor``, round by round."""
    return _ratio(_cpu_us, rounds, floor)


def _ratio(value: Callable[[Measured], float], rounds: Rounds, peer: Rounds) -> Spread:
    return Spread.of(value(each) / value(beside) for each, beside in zip(rounds, peer, strict=True))


def _check(rounds: Rounds) -> None:
    if failed := sum(each.failed for each in rounds):
        raise RuntimeError(f"{failed} answers were errors: nothing was measured")


def _cpu_us(measured: Measured) -> float:
    if measured.cpu_us is None:
        raise RuntimeError("nobody looked at the CPU: nothing was measured")
    return measured.cpu_us
