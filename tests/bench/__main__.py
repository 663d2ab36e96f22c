"""``make bench ARGS="lease --json"``: run benchmarks, print a table or, with ``--json``, one JSON object at the end.

A benchmark that fails costs its own figures only: the others go on, what was found is printed, the status is 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import (
    bound,
    checks,
    cold,
    console,
    edge,
    exposure,
    growth,
    keystores,
    leaks,
    lease,
    log,
    mask,
    proxy,
    record,
    rewrap,
    scale,
    strangers,
    stream,
    wire,
    workers,
)
from tests.bench.rounds import Figure, Spread

Benchmark = Callable[[Path], Mapping[str, Figure]]

BENCHMARKS: Mapping[str, Benchmark] = {
    "lease": lambda directory: lease.figures(lease.measure(directory)),
    "proxy": lambda directory: proxy.figures(proxy.measure(directory)),
    "bound": bound.measure,
    "workers": lambda directory: workers.figures(workers.measure(directory)),
    "record": lambda directory: record.figures(record.measure(directory)),
    "log": log.measure,
    "edge": edge.measure,
    "wire": lambda directory: wire.figures(wire.measure(directory)),
    "stream": stream.measure,
    "exposure": exposure.measure,
    "strangers": strangers.measure,
    "leaks": leaks.measure,
    "mask": mask.measure,
    "keystores": keystores.measure,
    "rewrap": rewrap.measure,
    "scale": scale.measure,
    "checks": checks.measure,
    "cold_sqlite": cold.on_sqlite,
    "cold_postgres": cold.on_postgres,
    "console": console.measure,
    "growth": growth.on_postgres,
    "growth_sqlite": growth.on_sqlite,
}


def collect(names: Iterable[str], benchmarks: Mapping[str, Benchmark]) -> tuple[dict[str, Figure], dict[str, str]]:
    """Run each; the figures of those that succeeded, and why the others did not.  No figure replaces another's."""
    found: dict[str, Figure] = {}
    failed: dict[str, str] = {}
    for name in names:
        print(f"{name}: running, for some minutes …", flush=True)
        try:
            with tempfile.TemporaryDirectory() as directory:
                figures = benchmarks[name](Path(directory))
            if twice := figures.keys() & found.keys():
                raise RuntimeError(f"another benchmark has figures of the same names: {', '.join(sorted(twice))}")
            found.update(figures)
        except Exception as error:  # noqa: BLE001 - whatever it was, the others' figures must not be lost
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
    return found, failed


def in_json(found: Mapping[str, Figure]) -> str:
    """One object of numbers: the medians, where rounds were spread."""
    return json.dumps({name: each.median if isinstance(each, Spread) else each for name, each in found.items()})


def in_table(found: Mapping[str, Figure]) -> Table:
    """For people: beside a median, its lowest and highest round."""
    table = Table("figure", "value", "rounds", box=None)
    for name, each in found.items():
        if isinstance(each, Spread):
            table.add_row(name, _shown(each.median), f"{_shown(each.lowest)} – {_shown(each.highest)}")
        else:
            table.add_row(name, _shown(each), "")
    return table


def _shown(value: float) -> str:
    return f"{value:,.2f}" if abs(value) >= 1 else f"{value:.3g}"


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all where left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object of named figures as the last line")
    parser.add_argument(
        "--organizations", type=int, default=growth.ORGANIZATIONS, help="of growth's database (%(default)s)"
    )
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {min(unknown)!r}; there are: {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the processes that were started are stopped then too
    sized = {
        "growth": lambda directory: growth.on_postgres(directory, chosen.organizations),
        "growth_sqlite": lambda directory: growth.on_sqlite(directory, chosen.organizations),
    }
    found, failed = collect(chosen.names or BENCHMARKS, {**BENCHMARKS, **sized})
    for name, why in failed.items():
        print(f"{name} failed, its figures are missing: {why}", file=sys.stderr, flush=True)
    if chosen.json:
        print(in_json(found))
    else:
        Console().print(in_table(found))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
