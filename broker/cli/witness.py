"""What ``broker witness`` does; ``cli/hosting`` has what it can be told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import uvicorn

from broker.base import closed
from broker.base.logs import configure
from broker.cli import listening
from broker.cli.alone import InUse, alone_in
from broker.cli.discreet import unsaid
from broker.cli.failing import fail
from broker.cli.output import tell
from broker.cli.saying import SayingServer
from broker.formats.cosignature import Cosigner
from broker.formats.ml_dsa import MlDsaKey
from broker.formats.signed_note import KeyUnreadable, Verifier
from broker.wire.server import Connection, Limits
from broker.witness.folder import FolderUnusable, cosigner, opened
from broker.witness.serving import Served

# A log has a connection or two; others are strangers.
_UVICORN: Final[dict[str, Any]] = {
    "http": partial(Connection, limits=Limits(connections=256)),
    "lifespan": "off",
    "access_log": False,
    "log_config": None,
    "log_level": "warning",
    "server_header": False,
    "timeout_graceful_shutdown": 5,
}


def serve(named: Sequence[str], file: Path | None, *, name: str | None, folder: Path, host: str, port: int) -> None:
    """``broker witness serve``."""
    configure("info")
    logs = [*_logs("--log", named), *(_logs(f"{file}", _lines(file)) if file is not None else ())]
    if not logs:
        fail("--log: name the key of a log to watch, or a file of such keys with --logs.")
    with _failing(folder), alone_in(folder):
        key = cosigner(folder, name)
        asyncio.run(_serve(key, logs, folder, host, port))


def key(name: str | None, folder: Path) -> None:
    """``broker witness key``."""
    with _failing(folder):
        try:
            with alone_in(folder):
                line = cosigner(folder, name).key().line()
        except InUse:  # the one that serves has made it
            line = cosigner(folder, name).key().line()
    tell(line, key=line)


async def _serve(key: Cosigner, logs: list[Verifier], folder: Path, host: str, port: int) -> None:
    sockets = listening.taken("--port", host, port, of_host="--host")
    url = "http://{}:{}".format(*sockets[0].getsockname()[:2])
    line, origins = key.key().line(), sorted({log.name for log in logs})
    text = f"The witness {key.name} watches {', '.join(origins)} at {url}; Ctrl-C ends it.\nIts key: {line}"
    with opened(folder, key, logs) as witness:
        config = uvicorn.Config(Served(witness), **_UVICORN)
        await SayingServer(config, partial(tell, text, serves=url, key=line, watches=origins)).serve(sockets)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        fail(f"--logs: {file} can't be read ({error.strerror}).")
    except UnicodeDecodeError:
        fail(f"--logs: {file} is not a text of keys, one a line.")
    return [line for each in text.splitlines() if (line := each.strip()) and not line.startswith("#")]


def _logs(where: str, lines: Sequence[str]) -> Iterator[Verifier]:
    for line in lines:
        try:
            yield Verifier.read(line)
        except KeyUnreadable:
            if _is_ml_dsa(line):  # which stands beside the Ed25519 key of the same log
                continue
            fail(f"{where}: '{unsaid(line)}' is no line of what the broker has at /v1/audit/log/key.")


def _is_ml_dsa(line: str) -> bool:
    try:
        MlDsaKey.read(line)
    except KeyUnreadable:
        return False
    return True


@contextmanager
def _failing(folder: Path) -> Iterator[None]:
    """End the command with what is wrong with the folder or the port."""
    try:
        yield
    except InUse:
        fail(f"{folder}: a witness serves from this folder already.")
    except (FolderUnusable, closed.OpenToOthers, listening.PortUnusable) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror}; the witness needs it, so make it usable for its user.")
    except sqlite3.Error as error:
        fail(f"{folder / 'witness.db'}: can't be used ({error}); use another --dir, which makes another witness.")
