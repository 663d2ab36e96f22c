"""How much memory a process has in RAM, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def resident(pid: int) -> int:
    """Bytes at this moment."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """Bytes at most since :func:`forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Begin to look for a peak."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"this system doesn't tell a process's {name}")
