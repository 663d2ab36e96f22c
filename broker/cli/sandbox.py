"""``broker sandbox``: the bundled upstream, for who has no account at a real one."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import typer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.base.ending import until_told
from broker.cli.alone import InUse
from broker.cli.failing import fail
from broker.cli.hosting import SANDBOX_FOLDER
from broker.cli.output import say
from broker.cli.sandbox_folder import FolderUnusable, SandboxFolder, opened, read
from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running

_FIRST = "acme"
# For so long one command has the folder that another one of the same moment needs.
_PATIENCE_S = 2.0
_AGAIN_S = 0.05


class PortTaken(Exception):
    """Nobody can listen there, as somebody else does, or it isn't allowed; the text says which."""


def run(*, mint: str | None, providers: bool, port: int | None, folder: Path, as_json: bool) -> None:
    """``broker sandbox``."""
    try:
        if mint is not None:
            _tell_key(_minted(folder, mint), as_json)
        elif providers:
            found = str(_provided(folder, port))
            typer.echo(json.dumps({"providers_dir": found}) if as_json else found)
        else:
            asyncio.run(_serve(folder, port, as_json))
    except FolderUnusable as error:
        fail(str(error))
    except PortTaken as error:
        fail(f"{error}. Stop what listens there, or name another port with --port.")
    except InUse:
        found_there = read(folder)
        where = f", {found_there.url}" if found_there else ""
        fail(f"{folder}: a sandbox serves from this folder already{where}. --mint ORG makes a key there.")


@asynccontextmanager
async def serving(folder: Path, port: int | None) -> AsyncIterator[SandboxFolder]:
    """The sandbox of a folder, served on ``port`` until the context closes.

    Raises:
        InUse: another process serves it.
        PortTaken, FolderUnusable: the port or the folder can't be used.
    """
    with opened(folder, patience=_PATIENCE_S) as kept, _bound(kept.port if port is None else port) as bound:
        kept.lead_to(bound.getsockname()[1])
        app = _Keeping(create_sandbox(kept.admin_token, kept.state), kept.keep)
        async with running(app, bound=bound):
            yield kept


class _Keeping:
    """Keeps what a call changed before the call is answered."""

    def __init__(self, app: ASGIApp, keep: Callable[[], None]) -> None:
        self._app = app
        self._keep = keep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._try_to_keep()
            await send(message)

        reads = scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}
        await self._app(scope, receive, send if reads else sending)

    def _try_to_keep(self) -> None:
        try:
            self._keep()
        except FolderUnusable as error:
            say(f"{error} Until then, what changes is lost when the sandbox ends.", err=True)


async def _serve(folder: Path, port: int | None, as_json: bool) -> None:
    async with serving(folder, port) as kept:
        minted = None if kept.state.organizations else kept.mint(_FIRST)
        typer.echo(_as_json(kept, minted) if as_json else _words(kept, minted))
        await until_told()


def _as_json(kept: SandboxFolder, minted: dict[str, str] | None) -> str:
    tenants = [{"id": one.id, "name": one.name} for one in kept.state.organizations.values()]
    told = {"url": kept.url, "providers_dir": str(kept.providers), "organizations": tenants, "minted": minted}
    return json.dumps(told)


def _words(kept: SandboxFolder, minted: dict[str, str] | None) -> str:
    own = "" if kept.path == SANDBOX_FOLDER else f" --dir {kept.path.absolute()}"
    if minted:
        keys = f"Its organization {minted['organization']} has this key, which is shown this once:\n\n{minted['key']}"
    else:
        names = ", ".join(one.name for one in kept.state.organizations.values())
        keys = f"Organizations and keys from before are there as they were: {names}."
    return (
        f"The sandbox serves {kept.url} in place of Raptor Comply; Ctrl-C ends it.\n\n"
        f"A broker uses it that is started with its provider file:\n\n"
        f"    BROKER_PROVIDERS_DIR={kept.providers} broker serve\n\n"
        f"{keys}\n\n"
        f"Another key, or another organization's: broker sandbox{own} --mint ORG\n"
    )


def _minted(folder: Path, organization: str) -> dict[str, str]:
    """A new key, from the process that serves the folder, or by this one if none does."""
    if not organization.strip() or not organization.isprintable():
        fail("--mint: write the organization's name, such as acme.")
    until = time.monotonic() + _PATIENCE_S
    while (minted := _try_to_mint(folder, organization)) is None:
        if time.monotonic() > until:
            fail(f"{folder}: another process has it and doesn't answer. If it is a sandbox that hangs, end it.")
        time.sleep(_AGAIN_S)  # it begins or ends just now
    return minted


def _try_to_mint(folder: Path, organization: str) -> dict[str, str] | None:
    if (kept := read(folder)) is None:
        fail(
            f"{folder.absolute()}: there is no sandbox. Start one with `broker sandbox`, run this in the folder where "
            "you did, or name its own folder with --dir."
        )
    try:
        with opened(folder) as mine:
            return mine.mint(organization)
    except InUse:
        return _asked(kept, organization)


def _asked(kept: SandboxFolder, organization: str) -> dict[str, str] | None:
    """A new key, from the process that serves; None if it doesn't answer."""
    headers = {"X-Admin-Token": kept.admin_token}
    try:
        with httpx2.Client(base_url=kept.url, headers=headers, trust_env=False) as http:
            answer = http.post("/_admin/keys", json={"organization": organization})
            return dict(answer.json()) if answer.status_code == 201 else None
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
        return None


def _tell_key(minted: dict[str, str], as_json: bool) -> None:
    typer.echo(json.dumps(minted) if as_json else minted["key"])


def _provided(folder: Path, port: int | None) -> Path:
    """The provider file's folder; the file is there before a sandbox serves for the first time."""
    if port == 0:
        fail("--providers: name the port that the sandbox will have.")
    try:
        with opened(folder) as kept:
            kept.lead_to(port or kept.port)
            return kept.providers
    except InUse:
        return folder.absolute() / "providers"


def _bound(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise PortTaken(f"http://127.0.0.1:{port}: {os.strerror(error.errno or 0)}") from None
