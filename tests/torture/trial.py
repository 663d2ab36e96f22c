"""Whether it was a trial: a history in which nothing was cut, raced or broken proves nothing.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.torture.history import History

CUTS = (
    "lease.revoked",
    "grant.revoked",
    "workload.revoked",
    "credential.version.revoked",
    "credential.revoked",
    "organization.revoked",
)


def missing(history: History, struck: Sequence[tuple[str, float]], *, kinds: Sequence[str], replicas: int) -> list[str]:
    """What did not happen and has to, each in a sentence; ``struck`` are the faults and when each was over."""
    happened = {
        "no use reached upstream": bool(history.arrivals),
        "no key was revealed": bool(history.of("reveal", "ok")),
        "no reveal was asked for again after a cut": bool(history.of("reveal", "refused")),
        "no submission was acknowledged": bool(history.of("submit", "ok")),
        "no link was raced for": _raced(history),
        "no lease was tried after its time": _tried_over_time(history),
        "no clock that jumped was refused": _jumped(history),
        **{f"there was no {kind}": _cut(history, kind) for kind in CUTS},
        **{f"{kind} never struck": kind in {name for name, _ in struck} for kind in kinds},
        **{f"replica {at} was not seen to recover": _recovered(history, struck, at) for at in range(replicas)},
    }
    return [sentence for sentence, holds in happened.items() if not holds]


def _cut(history: History, kind: str) -> bool:
    return any(op.facts["event"] == kind for op in history.of("cut", "ok"))


def _raced(history: History) -> bool:
    tries = Counter(op.facts["intake"] for op in history.of("submit"))
    return any(tries[op.facts["intake"]] > 1 for op in history.of("submit", "ok"))


def _tried_over_time(history: History) -> bool:
    ends = {op.facts["lease"]: op.facts["ends"] for op in history.of("lease", "ok")}
    return any(op.began > ends[op.facts["lease"]] for op in history.of("use", "refused"))


def _jumped(history: History) -> bool:
    return any(abs(op.facts["offset"]) > 600 for op in history.of("token", "refused"))


def _recovered(history: History, struck: Sequence[tuple[str, float]], replica: int) -> bool:
    """A use went through at the replica after the last fault."""
    last = max((at for _, at in struck), default=0.0)
    return any(op.began > last and op.facts.get("replica") == replica for op in history.of("use", "ok"))
