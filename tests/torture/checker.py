"""What must hold of every history, whatever failed meanwhile.  Pure: a history and the record in, violations out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.torture.history import Arrival, History, Op

# A request can lie in sockets and event loops, ours among them, after the broker has sent it.
_ON_ITS_WAY_S = 1.5


@dataclass(frozen=True)
class Kept:
    """What the database says at the end."""

    size: int
    indices: Sequence[int]
    events: Sequence[dict[str, Any]]
    versions: Sequence[dict[str, Any]]


def violations(history: History, kept: Kept) -> list[str]:
    """What must not have happened and did, each in a sentence; empty where all holds."""
    return [
        *_dense(kept),
        *_used_after_a_cut(history),
        *_used_beyond_its_time(history),
        *_crossed(history),
        *_lost(history, kept),
        *_unrecorded(history, kept),
        *_links_used_twice(history, kept),
        *_keys_in_force(kept),
        *_clocks_believed(history),
    ]


def _dense(kept: Kept) -> Iterator[str]:
    if list(kept.indices) != list(range(kept.size)):
        yield f"the record's {len(kept.indices)} indices are not 0 to {kept.size - 1}"


def _by_probe(history: History) -> dict[str, list[Arrival]]:
    found: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in history.arrivals:
        found[arrival.probe].append(arrival)
    return found


def _used_after_a_cut(history: History) -> Iterator[str]:
    """Nothing that began after an answered cut reached upstream, nor anything else but what was on its way."""
    arrivals = _by_probe(history)
    uses = [(use, arrival) for use in history.of("use") for arrival in arrivals[use.facts["probe"]]]
    for cut in history.of("cut", "ok"):
        until = _restored(history, cut)
        for use, arrival in uses:
            if cut.facts["cut"] not in use.facts["relies_on"]:
                continue
            late = use.began > cut.ended or arrival.at > cut.ended + _ON_ITS_WAY_S
            if late and arrival.at < until:
                yield f"{use.facts['probe']} used {cut.facts['cut']} {arrival.at - cut.ended:.3f} s after it was cut"


def _restored(history: History, cut: Op) -> float:
    given = (op.began for op in history.of("restore") if op.facts["cut"] == cut.facts["cut"] and op.began > cut.began)
    return min(given, default=float("inf"))


def _used_beyond_its_time(history: History) -> Iterator[str]:
    ends = {lease.facts["lease"]: lease.facts["ends"] for lease in history.of("lease", "ok")}
    arrivals = _by_probe(history)
    for use in history.of("use"):
        if use.began > ends[use.facts["lease"]] and arrivals[use.facts["probe"]]:
            yield f"{use.facts['probe']} used lease {use.facts['lease']} after its time"


def _crossed(history: History) -> Iterator[str]:
    wanted = {use.facts["probe"]: use.facts["organization"] for use in history.of("use")}
    for arrival in history.arrivals:
        if wanted.get(arrival.probe, arrival.organization) != arrival.organization:
            yield f"{arrival.probe} of {wanted[arrival.probe]} carried a key of {arrival.organization}"


def _lost(history: History, kept: Kept) -> Iterator[str]:
    """Everything that was answered with yes is on the record."""
    leases = {event["lease"] for event in kept.events if event["kind"] == "lease.issued"}
    for lease in history.of("lease", "ok"):
        if lease.facts["lease"] not in leases:
            yield f"lease {lease.facts['lease']} was acknowledged and is not on the record"
    subjects: dict[str, set[str]] = defaultdict(set)
    for event in kept.events:
        subjects[event["kind"]] |= {str(value) for value in event.values()}
    for cut in history.of("cut", "ok"):
        if cut.facts.get("state") == "expired":  # its time was over before: nothing was cut, and that was the answer
            continue
        if cut.facts["cut"].partition("/")[0] not in subjects[cut.facts["event"]]:
            yield f"the cut of {cut.facts['cut']} was acknowledged and is not on the record"


def _unrecorded(history: History, kept: Kept) -> Iterator[str]:
    """Nothing reached upstream that was not on the record before; the record has no fewer uses than upstream."""
    authorized = Counter(event["lease"] for event in kept.events if event["kind"] == "use.authorized")
    lease_of = {use.facts["probe"]: use.facts["lease"] for use in history.of("use")}
    arrived = Counter(lease_of[arrival.probe] for arrival in history.arrivals if arrival.probe in lease_of)
    for lease, count in arrived.items():
        if count > authorized[lease]:
            yield f"lease {lease}: {count} uses reached upstream, {authorized[lease]} are on the record"


def _links_used_twice(history: History, kept: Kept) -> Iterator[str]:
    taken = Counter(event["intake"] for event in kept.events if event["kind"] == "intake.submitted")
    yield from (f"the link of {intake} was used {count} times" for intake, count in taken.items() if count > 1)
    for submission in history.of("submit", "ok"):
        if not taken[submission.facts["intake"]]:
            yield f"a submission to {submission.facts['intake']} was acknowledged and is not on the record"


def _keys_in_force(kept: Kept) -> Iterator[str]:
    states: dict[str, list[str]] = defaultdict(list)
    for version in kept.versions:
        states[version["credential"]].append(version["state"])
    for credential, found in states.items():
        if found.count("active") > 1:
            yield f"{credential} has {found.count('active')} active versions"


def _clocks_believed(history: History) -> Iterator[str]:
    for token in history.of("token", "ok"):
        if abs(token.facts["offset"]) > 600:
            yield f"a token was given for an assertion that is {token.facts['offset']} s off"


def summary(history: History) -> str:
    """How much was asked and how it ended."""
    counted: Iterable[str] = (
        f"{kind}: " + ", ".join(f"{outcome} {count}" for outcome, count in sorted(outcomes.items()))
        for kind, outcomes in sorted(_counted(history).items())
    )
    return "; ".join((*counted, f"arrivals: {len(history.arrivals)}"))


def _counted(history: History) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for op in history.ops:
        found[op.kind][op.outcome] += 1
    return found
