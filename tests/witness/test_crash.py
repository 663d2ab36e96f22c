"""However a witness ends, it goes on from what it cosigned: it signs no second history."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from broker.formats.cosignature import WitnessKey, cosigned_at
from broker.formats.witness_request import size_of
from tests.support.commands import MINIMAL
from tests.support.logs import SIGNER, MadeLog

KILLS = 20


@contextmanager
def serving(folder: Path) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client, WitnessKey]]:
    """``broker witness serve`` in a process of its own, until it is killed."""
    options = ["--dir", str(folder), "--name", "w.example", "--log", SIGNER.verifier().line(), "--port", "0", "--json"]
    command = [sys.executable, "-m", "broker", "witness", "serve", *options]
    with (
        (folder.parent / "log.txt").open("ab") as log,
        subprocess.Popen(command, env=MINIMAL, cwd=folder.parent, stdout=subprocess.PIPE, stderr=log, text=True) as run,
    ):
        try:
            assert run.stdout is not None
            said = json.loads(run.stdout.readline() or "{}")
            with httpx2.Client(base_url=said["serves"], trust_env=False, timeout=20) as http:
                yield run, http, WitnessKey.read(said["key"])
        finally:
            run.kill()


class Asker:
    """Has the witness cosign one history after another, and notes what it cosigned."""

    def __init__(self) -> None:
        self.signed: dict[int, bytes] = {}
        self.entries: tuple[str, ...] = ()

    def go_on(self, http: httpx2.Client, key: WitnessKey, killer: threading.Timer) -> None:
        """Offer two histories of each size until nobody answers; the killer begins once one is cosigned."""
        with contextlib.suppress(httpx2.HTTPError):
            while True:
                two = [MadeLog(*self.entries, f"{which}{len(self.entries)}") for which in "ab"]
                random.shuffle(two)
                taken = [log for log in two if self._is_cosigned(http, key, log, len(self.entries))]
                # What was taken before it could be told, and the process was killed.
                if not taken and self._size(http) > len(self.entries):
                    taken = [log for log in two if self._is_cosigned(http, key, log, log.size)]
                assert len(taken) == 1, "one of two histories is cosigned"
                self.entries = taken[0].entries
                if killer.ident is None:
                    killer.start()

    def _is_cosigned(self, http: httpx2.Client, key: WitnessKey, log: MadeLog, old: int) -> bool:
        answer = http.post("/add-checkpoint", content=log.request(old).encode())
        if answer.status_code != 200:
            assert answer.status_code == 409, answer.text
            return False
        assert cosigned_at(log.note() + answer.content, key)
        assert self.signed.setdefault(log.size, log.checkpoint().root) == log.checkpoint().root
        assert log.size == max(self.signed)
        return True

    def _size(self, http: httpx2.Client) -> int:
        return size_of(http.post("/add-checkpoint", content=MadeLog("x").request(0).encode()).content)


@pytest.mark.timeout(300)
def test_killed_again_and_again_it_cosigns_one_history(tmp_path: Path) -> None:
    asker = Asker()
    for _ in range(KILLS):
        with serving(tmp_path / "w") as (process, http, key):
            asker.go_on(http, key, threading.Timer(random.uniform(0, 0.3), process.kill))
    # and nobody can sign what it didn't see: the sizes follow each other
    assert sorted(asker.signed) == [*range(1, len(asker.signed) + 1)]
