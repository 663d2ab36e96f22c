"""``make bench ARGS="lease --json"``: run benchmarks, print a table or, with ``--json``, one JSON object at the end."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import exposure, keystores, leaks, lease, proxy, scale, stream

BENCHMARKS: dict[str, Callable[[Path], dict[str, float]]] = {
    "lease": lambda directory: lease.figures(lease.measure(directory)),
    "proxy": lambda directory: proxy.figures(proxy.measure(directory)),
    "stream": stream.measure,
    "exposure": exposure.measure,
    "leaks": leaks.measure,
    "keystores": keystores.measure,
    "scale": scale.measure,
}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all where left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object of named figures as the last line")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {min(unknown)!r}; there are: {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the processes that were started are stopped then too
    found: dict[str, float] = {}
    for name in chosen.names or BENCHMARKS:
        print(f"{name}: running, for some minutes …", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            found |= BENCHMARKS[name](Path(directory))
    if chosen.json:
        print(json.dumps(found))
        return
    table = Table("figure", "value", box=None)
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
