"""What must hold of every history, whatever failed meanwhile.  Pure: a history and the record in, violations out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.torture.history import Arrival, History, Op

# A request can lie in sockets and event loops, ours among them, after the broker has sent it.
_ON_ITS_WAY_S = 1.5
_ENDS = {"credential.version.revoked", "credential.version.retired", "credential.version.destroyed"}


@dataclass(frozen=True)
class Kept:
    """What the database says at the end.

    ``versions`` have ``credential``, ``number``, ``state``, ``intake`` (the link they came over) and ``key`` (the
    upstream's id of it); ``over`` are the ids of rows that are over, by the event that ends such a thing.
    """

    size: int
    indices: Sequence[int]
    events: Sequence[dict[str, Any]]
    versions: Sequence[dict[str, Any]]
    over: Mapping[str, frozenset[str]]


def violations(history: History, kept: Kept) -> list[str]:
    """What must not have happened and did, each in a sentence; empty where all holds."""
    return [
        *_dense(kept),
        *_used_after_a_cut(history),
        *_carried_after_a_cut(history, kept),
        *_revealed_after_a_cut(history),
        *_used_beyond_its_time(history),
        *_crossed(history),
        *_lost(history, kept),
        *_rows_apart_from_the_record(kept),
        *_unrecorded(history, kept),
        *_links_used_twice(history, kept),
        *_keys_in_force(kept),
        *_clocks_believed(history),
    ]


def _dense(kept: Kept) -> Iterator[str]:
    if list(kept.indices) != list(range(kept.size)):
        yield f"the record's {len(kept.indices)} indices are not 0 to {kept.size - 1}"


def _arrived(history: History) -> list[tuple[Op, Arrival]]:
    """Uses with what reached upstream of them."""
    by_probe: dict[str, list[Arrival]] = defaultdict(list)
    for arrival in history.arrivals:
        by_probe[arrival.probe].append(arrival)
    return [(use, arrival) for use in history.of("use") for arrival in by_probe[use.facts["probe"]]]


def _late(began: float, seen: float, cut: Op) -> bool:
    """Whether what began and was seen then is later than a cut allows: only what was on its way may come after it."""
    return began > cut.ended or seen > cut.ended + _ON_ITS_WAY_S


def _used_after_a_cut(history: History) -> Iterator[str]:
    """Nothing that began after an answered cut reached upstream, nor anything else but what was on its way."""
    arrived = _arrived(history)
    for cut in history.of("cut", "ok"):
        what = cut.facts["cut"]
        for use, arrival in arrived:
            if what in use.facts["relies_on"] and _late(use.began, arrival.at, cut):
                yield f"{use.facts['probe']} used {what} {arrival.at - cut.ended:.3f} s after it was cut"


def _carried_after_a_cut(history: History, kept: Kept) -> Iterator[str]:
    """The same of the key itself, under whichever lease."""
    named = {row["key"]: {row["credential"], f"{row['credential']}/{row['number']}"} for row in kept.versions}
    arrived = _arrived(history)
    for cut in history.of("cut", "ok"):
        what = cut.facts["cut"]
        for use, arrival in arrived:
            if what in named.get(arrival.key, ()) and _late(use.began, arrival.at, cut):
                yield f"{use.facts['probe']} carried the key of {what} {arrival.at - cut.ended:.3f} s after it was cut"


def _revealed_after_a_cut(history: History) -> Iterator[str]:
    """No answer with a key to a request that began after a cut, nor to any other but what was on its way."""
    for cut in history.of("cut", "ok"):
        what = cut.facts["cut"]
        for reveal in history.of("reveal", "ok"):
            if what in reveal.facts["relies_on"] and _late(reveal.began, reveal.ended, cut):
                yield f"lease {reveal.facts['lease']} revealed {what} {reveal.ended - cut.ended:.3f} s after it was cut"


def _used_beyond_its_time(history: History) -> Iterator[str]:
    ends = {lease.facts["lease"]: lease.facts["ends"] for lease in history.of("lease", "ok")}
    for use, arrival in _arrived(history):
        end = ends[use.facts["lease"]]
        if use.began > end or arrival.at > end + _ON_ITS_WAY_S:
            yield f"{use.facts['probe']} used lease {use.facts['lease']} after its time"


def _crossed(history: History) -> Iterator[str]:
    wanted = {use.facts["probe"]: use.facts["organization"] for use in history.of("use")}
    for arrival in history.arrivals:
        if wanted.get(arrival.probe, arrival.organization) != arrival.organization:
            yield f"{arrival.probe} of {wanted[arrival.probe]} carried a key of {arrival.organization}"


def _lost(history: History, kept: Kept) -> Iterator[str]:
    """Everything that was answered with yes is on the record, of the very thing that it was answered for."""
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in kept.events:
        by_kind[event["kind"]].append(event)

    for op in history.ops:
        # Where its time was over before, nothing was cut, and that was the answer.
        if op.outcome != "ok" or "event" not in op.facts or op.facts.get("state") == "expired":
            continue
        kind, subject = op.facts["event"], op.facts["subject"]
        if not any(subject.items() <= event.items() for event in by_kind[kind]) and not _ended(kind, subject, by_kind):
            of = "/".join(str(value) for value in subject.values())
            yield f"{kind} of {of} was acknowledged and is not on the record"


def _ended(kind: str, subject: Mapping[str, Any], by_kind: Mapping[str, list[dict[str, Any]]]) -> bool:
    """Whether a version was over in another way, so that cutting it off was answered with that it is."""
    if kind != "credential.version.revoked":
        return False
    whole = any(event["credential"] == subject["credential"] for event in by_kind["credential.revoked"])
    return whole or any(subject.items() <= event.items() for end in _ENDS for event in by_kind[end])


def _rows_apart_from_the_record(kept: Kept) -> Iterator[str]:
    """What the rows say to be over is what the record says to be."""
    recorded: dict[str, set[str]] = defaultdict(set)
    for event in kept.events:
        recorded[event["kind"]].add(str(event.get(event["kind"].partition(".")[0])))
        if event["kind"] in _ENDS:
            recorded["versions"].add(f"{event['credential']}/{event['version']}")
    for kind, over in kept.over.items():
        for one in sorted(over ^ recorded[kind]):
            yield f"{one}: row and record disagree on {kind}"
    for row in kept.versions:
        name, ended = f"{row['credential']}/{row['number']}", row["state"] in {"revoked", "destroyed"}
        with_all = ended and row["credential"] in recorded["credential.revoked"]
        if ended != (name in recorded["versions"]) and not with_all:
            yield f"{name}: row ({row['state']}) and record disagree"


def _unrecorded(history: History, kept: Kept) -> Iterator[str]:
    """Nothing reached upstream that was not on the record before; the record has no fewer uses than upstream."""
    authorized = Counter(event["lease"] for event in kept.events if event["kind"] == "use.authorized")
    arrived = Counter(use.facts["lease"] for use, _ in _arrived(history))
    for lease, count in arrived.items():
        if count > authorized[lease]:
            yield f"lease {lease}: {count} uses reached upstream, {authorized[lease]} are on the record"


def _links_used_twice(history: History, kept: Kept) -> Iterator[str]:
    """One submission is taken, one is acknowledged, and one version came of it."""
    taken = Counter(event["intake"] for event in kept.events if event["kind"] == "intake.submitted")
    acknowledged = Counter(submission.facts["intake"] for submission in history.of("submit", "ok"))
    came = Counter(row["intake"] for row in kept.versions if row["intake"])
    for counted, what in ((taken, "used"), (acknowledged, "acknowledged"), (came, "made a version of")):
        yield from (f"the link of {intake} was {what} {count} times" for intake, count in counted.items() if count > 1)


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
