"""The broker as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from broker.cli.sandbox_folder import sandbox_provider
from tests.support.processes import listens

# Several start at once on a slow machine.
_STARTS_WITHIN_S = 90.0


class Program:
    """``broker serve`` with ``options``, or another ``command``.

    ``more`` are environment variables of its own.
    """

    def __init__(
        self,
        directory: Path,
        database_url: str,
        upstream: str,
        port: int,
        *,
        command: Sequence[str] = (sys.executable, "-m", "broker"),
        options: Sequence[str] = (),
        more: Mapping[str, str] | None = None,
    ) -> None:
        sandbox_provider(directory / "providers", upstream)
        self.directory = directory
        self.url = f"http://127.0.0.1:{port}"
        self.log = directory / "log.txt"
        environment = {
            **os.environ,
            "BROKER_STATE_DIR": str(directory),
            "BROKER_DATABASE_URL": database_url,
            "BROKER_PROVIDERS_DIR": str(directory / "providers"),
            "BROKER_PUBLIC_URL": self.url,
            "BROKER_PORT": str(port),
            "BROKER_LOG_LEVEL": "debug",
            "BROKER_REVEAL_APPROVAL": "off",
            "PYTHONUNBUFFERED": "1",
            **(more or {}),
        }
        self.environment = environment
        self.output = self.log.open("ab")
        told = self.log.stat().st_size
        whole = [*command, "serve", *options]
        self.process = subprocess.Popen(whole, env=environment, stdout=self.output, stderr=subprocess.STDOUT)
        until = time.monotonic() + _STARTS_WITHIN_S
        while self.process.poll() is None and time.monotonic() < until:
            if b"serves" in self.log.read_bytes()[told:] and listens(port):
                return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(self.log.read_text())

    @cached_property
    def bootstrap(self) -> str:
        """The one-time token, which is gone once it is used."""
        return (self.directory / "first-admin-token").read_text().strip()

    def kill(self) -> None:
        """End it as a crash does.  Idempotent."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.output.close()

    def stop(self) -> None:
        """Let it end in order."""
        self.process.terminate()
        self.process.wait(20)
        self.output.close()
