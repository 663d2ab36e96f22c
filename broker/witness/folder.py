"""The folder of a witness that is served: its key, what it saw, and what it found out."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

from broker.base import closed
from broker.base.clock import now_ms
from broker.formats.checkpoint import Checkpoint
from broker.formats.cosignature import Cosigner
from broker.formats.signed_note import KeyUnreadable, Verifier, is_name
from broker.witness.memory import Memory
from broker.witness.witness import Witness

_log = structlog.get_logger()


class FolderUnusable(Exception):
    """The folder's key can't be used; the text names the fix."""


def cosigner(folder: Path, name: str | None) -> Cosigner:
    """The key of the folder's witness, which is made if there is none, under ``name``.

    Raises:
        FolderUnusable: there is none and no name, or one of another name.
        closed.OpenToOthers, OSError: the file can't be used.
    """
    file = folder / "witness.key"
    if name is not None and not file.exists():
        if not is_name(name) or not name.isprintable():
            raise FolderUnusable("--name: has no spaces and no +; write one such as witness.customer.example.")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Of two that start at once, the first one's key is that of both.
        with suppress(FileExistsError):
            closed.create(file, f"{Cosigner(name, secrets.token_bytes(32)).secret()}\n".encode())
    try:
        found = Cosigner.read(closed.read(file).decode().removesuffix("\n"))
    except FileNotFoundError:
        raise FolderUnusable(
            f"{file}: there is no key yet; name the witness with --name, such as witness.customer.example."
        ) from None
    except (KeyUnreadable, UnicodeDecodeError):
        raise FolderUnusable(
            f"{file}: is not the key that a witness writes there. Put it back, or use another folder with --dir: that "
            "is another witness, whose key the vendor has to be given."
        ) from None
    if name not in {None, found.name}:
        raise FolderUnusable(f"--name: the witness of {folder} is {found.name}; leave it out, or use another --dir.")
    return found


@contextmanager
def opened(folder: Path, key: Cosigner, logs: list[Verifier]) -> Iterator[Witness]:
    """The folder's witness of these logs, while the context is open.

    Raises:
        OSError, sqlite3.Error: the folder can't be used.
    """
    memory = Memory(folder / "witness.db")

    def found_out(checkpoint: Checkpoint, first: bytes, second: bytes) -> None:
        """Keep two notes that prove that their log has two histories."""
        named = hashlib.sha256(checkpoint.origin.encode()).hexdigest()[:16]
        file = folder / f"two-histories-{named}-{checkpoint.size}.txt"
        with suppress(FileExistsError):
            closed.create(file, first + b"\n\n" + second)
        _log.critical("witness.two_histories", origin=checkpoint.origin, size=checkpoint.size, kept=str(file))

    try:
        yield Witness(key, logs, memory, now_ms, found_out)
    finally:
        memory.close()
