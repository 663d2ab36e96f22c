"""``make torture ARGS="--seconds 600 --seed 7"``: a long run; ends with 1 and the violations where there are any."""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import tempfile
from pathlib import Path

from tests.torture.run import run


def main() -> None:
    """Run and tell."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--unguarded", action="store_true", help="plant the bug that must be found")
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="kb-torture-") as directory:
        done = asyncio.run(run(Path(directory), seconds=given.seconds, seed=given.seed, guarded=not given.unguarded))
    print(f"faults: {', '.join(done.faults)}")
    print(done.summary)
    for violation in done.violations:
        print(f"VIOLATION {violation}")
    sys.exit(bool(done.violations))


if __name__ == "__main__":
    main()
