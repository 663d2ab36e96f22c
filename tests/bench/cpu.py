"""How much CPU processes and all that they started have used, as Linux tells it (proc_pid_stat(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def seconds(pids: Iterable[int]) -> float:
    """User's and system's time until now of those that live, to a hundredth or so.

    RuntimeError where one of ``pids`` doesn't.

    Threads count with their process.
    """
    living, tree = _living(), set(pids)
    for ended in tree - living.keys():
        raise RuntimeError(f"process {ended} has ended: nothing was measured")
    added = tree
    while added:
        added = {child for child, (parent, _) in living.items() if parent in added} - tree
        tree = tree | added
    return sum(living[member][1] for member in tree) / _TICKS_PER_S


def _living() -> dict[int, tuple[int, int]]:
    """Every process with its parent and the ticks that it used."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()  # the name before may hold anything
            found[int(stat.parent.name)] = (int(fields[1]), int(fields[11]) + int(fields[12]))
    return found
