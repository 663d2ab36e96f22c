"""``python -m tests.mutants [-n 2] [WORD …]``: run the kept list, or what of it holds one of these words."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from tests.mutants.kept import Mutant, kept
from tests.mutants.run import Outcome, Result, keep, known, run

LEAST = 0.97


def main() -> int:
    """Run, show progress, and say what is not as the list says."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants whose name holds one of these")
    parser.add_argument("-n", type=int, default=2, help="so many at once (2)")
    parser.add_argument("--again", action="store_true", help="also those that nothing has changed for since they ran")
    given = parser.parse_args()
    wanted = [one for one in kept() if not given.words or any(word in one.name for word in given.words)]
    outcomes = known()
    states = {one: one.state() for one in wanted}  # as the tree is now: it may change while they run
    left = [one for one in wanted if given.again or states[one] not in outcomes]
    print(f"{len(wanted)} mutants, {len(wanted) - len(left)} of them known from before", flush=True)
    # Where tests fail by themselves, every mutant would look killed: one of each room goes first without its change.
    first = [one.control for one in {one.room: one for one in reversed(left)}.values()]
    states |= {one: one.state() for one in first}
    for round_ in ([one for one in first if states[one] not in outcomes], left):
        for number, result in enumerate(run(round_, given.n), 1):
            _show(result, f"{number}/{len(round_)}")
            if result.outcome in {"killed", "survived"}:
                outcomes[states[result.mutant]] = result.outcome
                keep(outcomes)
        if any(outcomes.get(states[one]) != "survived" for one in first):
            print("Tests fail without any change; see above.")
            return 2
    return _told({one: outcomes.get(states[one], "broken") for one in wanted})


def _show(result: Result, place: str) -> None:
    one = result.mutant
    change = "unchanged" if one.line == one.becomes else one.becomes.strip()[:60]
    print(f"{place}  {result.outcome:9}{result.seconds:5.0f} s  {one.name}  {change}", flush=True)
    if result.outcome in {"stale", "broken"} or (result.outcome == "killed" and one.line == one.becomes):
        print(result.said[-3_000:], flush=True)


def _told(found: dict[Mutant, Outcome]) -> int:
    """The figure; 1 where it is too low, or something is not as the list says."""
    odd = [one for one in found if found[one] != ("survived" if one.survives else "killed")]
    for one in odd:
        print(f"{found[one]}, not as listed: {one.name}\n  - {one.line.strip()}\n  + {one.becomes.strip()}")
    counts = Counter(found.values())
    share = counts["killed"] / max(1, len(found))
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()), f"({share:.1%} killed)")
    return int(bool(odd) or share < LEAST)


if __name__ == "__main__":
    sys.exit(main())
