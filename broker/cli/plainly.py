"""How the program ends if the machine fails under a command.

That is a full disk, a closed pipe, a folder that can't be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from broker.cli.output import say

_INTERRUPTED = 130


@contextmanager
def plainly() -> Iterator[None]:
    """End the program with a line that says what failed, and never with a trace.

    What can't be written because its reader went away is nobody's loss, and nothing is said of it.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError):  # a name that the encoding lacks is no reason to fail
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # a stream of another kind lacks it
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        raise SystemExit(1) from None
    except OSError as error:
        _drop(sys.stdout)
        with suppress(OSError):
            say(f"error: {error.filename or 'standard output'}: {error.strerror or error}", err=True, fg="red")
        _drop(sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None


def _drop(stream: TextIO) -> None:
    """Lose what the stream still holds, which Python would try to write once more at its end."""
    with suppress(OSError, ValueError, AttributeError):
        stream.flush()
        return
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
