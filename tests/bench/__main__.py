"""``make bench ARGS="lease --json"``: run benchmarks, print a table or, with ``--json``, one JSON object at the end."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import lease

BENCHMARKS = {"lease": lambda directory: lease.figures(lease.measure(directory))}


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all where left out")
    parser.add_argument("--json", action="store_true", help="print one JSON object of named figures as the last line")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - set(BENCHMARKS):
        parser.error(f"there is no benchmark {min(unknown)!r}; there are: {', '.join(BENCHMARKS)}")
    found: dict[str, float] = {}
    for name in chosen.names or BENCHMARKS:
        print(f"{name}: running, about a minute …", flush=True)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory)
            (path / "broker").mkdir()
            found |= BENCHMARKS[name](path)
    if chosen.json:
        print(json.dumps(found))
        return
    table = Table("figure", "value", box=None)
    for name, value in found.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
