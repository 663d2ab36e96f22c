"""Processes of a benchmark's own.

They are started, waited for, and stopped whatever happens, with all that they started.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 15.0

# A port that was found free is held by UDP's port of that number until somebody listens on it: other processes see
# that, too. After so many more ports it has long been listened on.
_HELD = 64
_claims: deque[int] = deque()


class DidNotStart(Exception):
    """A process ended, or was silent for too long, instead of listening.

    The text has what it wrote last.
    """


def free_port() -> int:
    """A port that nobody listens on, and that this function gave to nobody else until now.

    That holds in whatever process.  The port is below those that the system gives to outgoing connections, which may
    come next.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
            if len(_claims) == _HELD:
                os.close(_claims.popleft())
            _claims.append(claim.detach())
            return port


def listens(port: int) -> bool:
    """Whether anybody listens on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def spawned(pid: int) -> set[int]:
    """The processes that serve beside each other, which ``pid`` has started."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(one) for one in found if b"spawn_main" in _command_line(one)}


def _command_line(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it is gone
        return b""


@contextmanager
def running(
    arguments: Sequence[str], *, port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on ``port``; its output goes to the end of ``log``.

    Raises:
        DidNotStart: it ended or was silent instead.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            arguments, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _wait(process, port, log)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOPS_WITHIN_S)
        with suppress(ProcessLookupError):  # what it left behind is in its session still
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _STARTS_WITHIN_S
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise DidNotStart(f"{log.name}: {log.read_text(errors='replace')[-2000:]}")
