"""A sandbox's folder: what it knows from day to day, and the provider file that leads to it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from broker.base import closed
from broker.cli.alone import alone_in
from broker.sandbox.state import State

_PORT = 8090
_NAME = "sandbox.json"
_PROVIDER = "raptor-comply.toml"


class FolderUnusable(Exception):
    """A sandbox's folder can't be used; the text names it and the fix."""


def sandbox_provider(directory: Path, upstream: str) -> Path:
    """The bundled Raptor Comply file, in which only the address is the sandbox's."""
    directory.mkdir(parents=True, exist_ok=True)
    bundled = files("broker.providers").joinpath("definitions", _PROVIDER).read_text(encoding="utf-8")
    path = directory / _PROVIDER
    path.write_text(
        bundled.replace('base_url = "https://api.raptormaps.com"', f'base_url = "{upstream}"\nprivate = true')
    )
    return path


@dataclass
class SandboxFolder:
    """What a sandbox knows, and where it is kept.

    ``port`` is where it serves, or did last; ``admin_token`` opens its ``/_admin``.
    """

    path: Path
    port: int
    admin_token: str
    state: State

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def providers(self) -> Path:
        """The folder for BROKER_PROVIDERS_DIR."""
        return self.path.absolute() / "providers"

    def lead_to(self, port: int) -> None:
        """Let the provider file lead to ``port``, and keep everything; raises FolderUnusable."""
        self.port = port
        with _usable(self.path):
            sandbox_provider(self.providers, self.url)
        self.keep()

    def keep(self) -> None:
        """Keep everything, in one step; raises FolderUnusable."""
        document = {"port": self.port, "admin_token": self.admin_token, **self.state.document()}
        with _usable(self.path):
            closed.replace(self.path / _NAME, json.dumps(document).encode())

    def mint(self, organization: str) -> dict[str, str]:
        """A new key of the organization of that name, made if there is none; raises FolderUnusable."""
        tenant = self.state.organization_named(organization)
        key, text = self.state.add_key(tenant)
        self.keep()
        return {"organization": tenant.name, "id": key.id, "key": text}


def read(path: Path) -> SandboxFolder | None:
    """What a sandbox kept in that folder; None if there was none.

    Raises:
        FolderUnusable: it can't be read, or is something else's.
    """
    file = path / _NAME
    with _usable(path):
        try:
            text = closed.read(file)
        except FileNotFoundError:
            return None
    try:
        document = json.loads(text)
        return SandboxFolder(path, int(document["port"]), str(document["admin_token"]), State.restored(document))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise FolderUnusable(f"{file}: is not a sandbox's; move it away, or name another folder.") from None


@contextmanager
def opened(path: Path, *, patience: float = 0) -> Iterator[SandboxFolder]:
    """A folder's sandbox, which is new if there was none, for this process alone.

    Args:
        path: the folder.
        patience: seconds to wait for whoever has it.

    Raises:
        InUse: another process has it.
        FolderUnusable: it can't be read or written, or holds something else.
    """
    with ExitStack() as having:
        with _usable(path):
            having.enter_context(alone_in(path, patience=patience))
        yield read(path) or SandboxFolder(path, _PORT, secrets.token_urlsafe(24), State())


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise FolderUnusable(f"{where}: {error.strerror}; make it usable for you, or name another folder.") from None
    except closed.OpenToOthers as error:
        raise FolderUnusable(str(error)) from None
