"""Commands of the command line, each in a process of its own.

No process has to start Python and import the program.  One process imports the program once, and becomes a copy of
itself for each command.  The copy has the environment, the directory and the standard streams that the command is
given, runs ``broker.__main__`` and ends.  So nothing that a command sets outlives it.  The tests' process, which serves
the broker meanwhile, is never the command's.  Rejected: commands in the tests' process, which has one environment, one
directory and one set of streams for all its threads.

What a copy can't show (imports, the start and the end of the interpreter) is for tests of the program itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pty
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

# Only a command that hangs takes it; the first one waits for the imports, too.
_ENDS_WITHIN_S = 90.0
_ROOT = Path(__file__).parents[2]
# What a process needs to start. The environment of whoever runs the tests doesn't decide how the program writes.
MINIMAL = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT)}
_LARGEST_REQUEST = 1 << 17
_LARGEST_INPUT = 1 << 15  # a pipe takes this much from one who doesn't wait for its reader
_one_at_a_time = threading.Lock()


def run(
    *words: str,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    given: bytes = b"",
    typed: bool = False,
    into: int | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """``broker WORDS`` to its end.

    ``given`` is its standard input: a pipe, or a terminal if it is ``typed``.  Its standard output is kept, or is
    ``into``.
    """
    assert len(given) <= _LARGEST_INPUT
    request = {
        "words": words,
        "environment": dict(os.environ if environment is None else environment),
        "directory": str(directory or Path.cwd()),
    }
    with _one_at_a_time, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        writing, reading = pty.openpty() if typed else reversed(os.pipe())
        try:
            os.write(writing, given)
            if not typed:  # a terminal that is closed would hang up
                os.close(writing)
            status = _served(
                json.dumps(request).encode(), [reading, output.fileno() if into is None else into, errors.fileno()]
            )
        finally:
            os.close(reading)
            if typed:
                os.close(writing)
        output.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(words, status, output.read(), errors.read())


def _served(request: bytes, streams: list[int]) -> int:
    process, control = _copying()
    try:
        socket.send_fds(control, [request], streams)
        answer = control.recv(64)
        if not answer:
            raise ConnectionError("the process that runs commands has ended")
    except OSError:  # it took too long, too
        _end(process, control)
        _copying.cache_clear()
        raise
    return int(answer)


@cache
def _copying() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process that commands are copies of, and what it is asked over."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_ENDS_WITHIN_S)
    with theirs:
        command = [sys.executable, "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(
            command,
            env=MINIMAL,
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    atexit.register(_end, process, ours)
    return process, ours


def _end(process: subprocess.Popen[bytes], control: socket.socket) -> None:
    """End it with whatever it runs.  Idempotent."""
    control.close()
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _copy(control: socket.socket) -> NoReturn:
    """Run each command that is asked for in a copy of this process, until nobody asks any more."""
    # What commands import when they run.
    for late in (
        *(f"broker.cli.{source.stem}" for source in (_ROOT / "broker/cli").glob("*.py")),
        "broker.client.client",
        "httpcore2",
        "typer._adapters",
        "typer.rich_utils",
        "sqlalchemy.dialects.sqlite.aiosqlite",
    ):
        import_module(late)
    gc.collect()
    gc.freeze()
    while True:
        message, streams, *_ = socket.recv_fds(control, _LARGEST_REQUEST, 3)
        if not message:
            os._exit(0)
        child = os.fork()
        if not child:
            control.close()
            _become(json.loads(message), streams)
        for stream in streams:
            os.close(stream)
        _, how = os.waitpid(child, 0)
        control.send(str(os.waitstatus_to_exitcode(how)).encode())


def _become(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """Be the command, as ``python -m broker`` is.

    Only the end of the interpreter, which takes longer, is left out.
    """
    status = 1
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.argv[1:] = request["words"]
        runpy.run_module("broker", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _copy(socket.socket(fileno=int(sys.argv[1])))
