"""Run mutants, each in a copy of the tree: the working tree is never touched."""

from __future__ import annotations

import compileall
import json
import multiprocessing
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.mutants.kept import ROOT, Mutant, Stale

# What a run knows of earlier ones; a change of the list, the file or its tests makes it run again.
RESULTS = ROOT / "var" / "mutants.json"
_TEST_S = 60
_MUTANT_S = 400
_BROKEN = 3
# Loaded once, then forked: a test that takes a second needn't wait three for its imports.
_PRELOADED = ["sqlalchemy.ext.asyncio", "fastapi", "authlib.oauth2", "alembic", "asyncpg", "joserfc.jwt"]

Outcome = Literal["killed", "survived", "stale", "broken"]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one mutant; ``said`` is what the tests wrote, or why it could not be applied."""

    mutant: Mutant
    outcome: Outcome
    seconds: float
    said: str = ""


def known() -> dict[str, Outcome]:
    """The outcomes of earlier runs, by the state that they hold for."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(outcomes: dict[str, Outcome]) -> None:
    """Remember outcomes for the next run."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(outcomes, indent=0))


def run(mutants: Sequence[Mutant], processes: int) -> Iterator[Result]:
    """Run these, so many at once; results as they come."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    with ExitStack() as stack:
        trees: queue.Queue[Path] = queue.Queue()
        for _ in range(processes):
            trees.put(_copied(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutant-")))))
        pool = stack.enter_context(ThreadPoolExecutor(processes))

        def one(mutant: Mutant) -> Result:
            tree = trees.get()
            try:
                return _tried(mutant, tree)
            finally:
                trees.put(tree)

        for done in as_completed([pool.submit(one, mutant) for mutant in mutants]):
            yield done.result()


def _copied(directory: Path) -> Path:
    """What Git knows of the tree, as it is now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, directory / name)
    # Told by the text, not by the time: a mutant and its original may be of one second and one length.
    compileall.compile_dir(directory / "broker", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    return directory


def _tried(mutant: Mutant, tree: Path) -> Result:
    began, path = time.monotonic(), tree / mutant.file
    original, log = path.read_text(), tree / "said.txt"
    try:
        path.write_text(mutant.applied(original))
    except Stale as stale:
        return Result(mutant, "stale", 0, str(stale))
    try:
        context = multiprocessing.get_context("forkserver")
        process = context.Process(target=_test, args=(str(tree), str(log), mutant.tests, mutant.select))
        process.start()
        process.join(_MUTANT_S)
        if process.is_alive():  # a loop without an end, which its tests don't leave by themselves
            process.kill()
            process.join()
            return Result(mutant, "killed", time.monotonic() - began, "hung")
    finally:
        path.write_text(original)
    outcomes: dict[int | None, Outcome] = {pytest.ExitCode.OK: "survived", pytest.ExitCode.TESTS_FAILED: "killed"}
    said = log.read_text(errors="replace")
    return Result(mutant, outcomes.get(process.exitcode, "broken"), time.monotonic() - began, said)


def _test(tree: str, log: str, tests: Sequence[str], select: str) -> None:
    """In a process of its own: pytest over the copy."""
    with Path(log).open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(tree)
    for name in [name for name in sys.modules if name.partition(".")[0] in {"broker", "tests"}]:
        del sys.modules[name]
    sys.path[:] = [tree, *(entry for entry in sys.path if entry not in {"", str(ROOT)})]
    os.environ["PYTHONPATH"] = tree  # of programs that tests start
    named = [f"tests/{one}" for one in tests]
    # Timed out is failed; and nothing of this process need be left in order.
    # Some of what is preloaded is a plugin as well.
    plugins = ["-p", "no:cacheprovider", "-p", "no:xdist", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    options = ["-x", "-q", *plugins, f"--timeout={_TEST_S}", "--timeout-method=thread"]
    code = _BROKEN  # which is no test's doing
    try:
        code = int(pytest.main([*options, "-k", select, *named]))
    except BaseException:  # noqa: BLE001 - told in the log
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
