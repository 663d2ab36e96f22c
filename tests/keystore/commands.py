"""``broker keystore …`` in a process of its own, like people's, without its second of imports each time.

A process that has imported what the commands need, and done nothing else, is forked for each.  So a command shares
neither memory nor file locks with the broker that is at work in the test's process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

_ENDS_WITHIN_S = 300

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["broker.cli.server", "broker.cli.keystore", __name__])


def run(words: Sequence[str], environment: Mapping[str, str]) -> CompletedProcess[str]:
    """What ``python -m broker`` with these words and this environment does and says."""
    with tempfile.TemporaryDirectory(prefix="kb-command-") as directory:
        files = Path(directory, "stdout"), Path(directory, "stderr")
        process = _processes.Process(target=_run, args=(tuple(words), dict(environment), files))
        process.start()
        process.join(_ENDS_WITHIN_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{words}: {files[1].read_text()[-2000:]}")
        output, errors = (file.read_text() for file in files)
        return CompletedProcess(words, process.exitcode, output, errors)


def _run(words: Sequence[str], environment: Mapping[str, str], files: Sequence[Path]) -> None:
    """In the forked process: the program's entry point."""
    from broker.cli import main

    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["broker", *words]
    main()
