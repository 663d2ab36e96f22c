"""What the commands do that run the server; ``cli/hosting`` has what they can be told."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from typing import Any

import typer
import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from broker import app as composition
from broker import rights, serving
from broker.audit.through_parent import written
from broker.audit.timekeeping import CAUSES
from broker.base.accepting import Loop
from broker.base.ending import handling
from broker.base.logs import configure
from broker.base.one_writer import OneWriter
from broker.base.parent import Parent
from broker.cli import listening, onetime, running
from broker.cli.demo.stage import StageUnusable
from broker.cli.demo.story import play
from broker.cli.failing import fail
from broker.cli.one_of_several import OneOfSeveral
from broker.cli.output import Columns, listing, tell
from broker.cli.process import run_or_fail, settings_of_process
from broker.cli.public_address import answers
from broker.cli.saying import SayingServer
from broker.config import Settings
from broker.credentials.due import undeclared

# So many new objects bring about a garbage collection. With Python's own 700 there was one every forty proxied calls.
# With this number there is one every five hundred.
_GARBAGE = 2_000
# As uvicorn imports it in each of several processes.
_LOOP = f"{Loop.__module__}:{Loop.__name__}"


def serve(*, with_worker: bool, workers: int) -> None:
    """``broker serve``."""
    settings = settings_of_process()
    if workers > 1 and settings.metrics_port:
        fail("BROKER_METRICS_PORT: several processes can't share one; leave it out, or run brokers without --workers.")

    text = f"Keybroker serves {settings.public_url}; Ctrl-C ends it."
    says = partial(tell, text, serves=settings.public_url)

    async def run() -> tuple[list[socket.socket], Path | None]:
        async with composition.running(settings) as broker:
            _, edge = serving.asgi(broker, with_worker=with_worker)
            _collect_seldom()
            sockets = _taken("BROKER_PORT", settings.host, settings.port)
            shown = _taken("BROKER_METRICS_PORT", settings.host, settings.metrics_port) if settings.metrics_port else []
            await onetime.offer(broker, settings)
            if settings.reveal_approval == "off":
                typer.echo(_APPROVAL["off"] + ".", err=True)
            if workers == 1:
                server = SayingServer(uvicorn.Config(edge, **_uvicorn(settings)), says)
                await _serve_and_show(broker, server, settings, sockets, shown)
            return sockets, broker.services.parts.db.file

    sockets, file = run_or_fail(run())
    if workers > 1:
        with OneWriter(file, written).running() if file is not None else nullcontext() as entrance:
            one = OneOfSeveral(with_worker, entrance)
            config = uvicorn.Config(one, factory=True, workers=workers, loop=_LOOP, **_uvicorn(settings))
            several = _Several(config, sockets, says)
            several.run()
        if several.never_started:
            raise typer.Exit(1)


def _taken(setting: str, host: str, port: int) -> list[socket.socket]:
    """The sockets of a port; ends the command if something else has it."""
    try:
        return listening.taken(setting, host, port)
    except listening.PortUnusable as error:
        fail(str(error))


def served(*, with_worker: bool, entrance: socket.socket | None) -> ASGIApp:
    """What each of several processes serves; it is called in that process.

    ``entrance`` leads to the parent, which writes for all of them on SQLite.  Without a parent it ends.
    """
    _collect_seldom()
    parent = None if entrance is None else Parent(entrance, lambda: signal.raise_signal(signal.SIGTERM))
    return serving.Served(settings_of_process(), with_worker=with_worker, parent=parent)


def _collect_seldom() -> None:
    """Leave the objects of the start out of garbage collections, and have fewer collections.

    None of these objects becomes garbage, and a look through all of them stops every call for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE)


def _uvicorn(settings: Settings) -> dict[str, Any]:
    """How uvicorn runs the broker; its access log is off, as it would write query strings."""
    return {
        "http": serving.protocol(settings),
        "access_log": False,
        "log_config": None,  # its log lines go through the one pipeline
        "log_level": "warning",
        "server_header": False,
        "date_header": True,
        "proxy_headers": True,
        "forwarded_allow_ips": settings.trusted_proxies,
        # Proxied calls are drained, and then cut, in less than this.
        "timeout_graceful_shutdown": math.ceil(settings.proxy_drain_seconds) + 2,
    }


class _Several(Multiprocess):
    """Several processes on one port, of which it is said that they serve once one does."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], says: Callable[[], None]) -> None:
        super().__init__(config, sockets)
        self._says: Callable[[], None] | None = says

    @property
    def never_started(self) -> bool:
        """Whether a process could not serve at all, which ended them all."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        if self._says is not None and any(process.is_ready() for process in self.processes):
            self._says()
            self._says = None


class _Beside(uvicorn.Server):
    """A server that ends with another one, which hears the signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve_and_show(
    broker: composition.Broker,
    server: SayingServer,
    settings: Settings,
    sockets: list[socket.socket],
    shown: list[socket.socket],
) -> None:
    """Serve; if there are ``shown`` sockets, probes and metrics on them to the last call's end."""
    if not shown:
        await server.serve(sockets)
        return
    beside = _Beside(uvicorn.Config(serving.probes(broker), **_uvicorn(settings)))
    showing = asyncio.create_task(beside.serve(shown), name="metrics")
    try:
        await server.serve(sockets)
    finally:
        beside.should_exit = True
        await showing


_works = partial(tell, "Keybroker's worker runs; Ctrl-C ends it.", works=True)


def worker() -> None:
    """``broker worker``."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            if settings.worker_port:
                await _work_and_show(broker, settings)
            else:
                await _work(broker)

    run_or_fail(run())


async def _work(broker: composition.Broker) -> None:
    """Work until told to end."""
    working = asyncio.create_task(broker.worker.run(), name="worker")
    loop = asyncio.get_running_loop()
    with handling(lambda _number, _frame: loop.call_soon_threadsafe(working.cancel)), suppress(asyncio.CancelledError):
        _works()
        await working


async def _work_and_show(broker: composition.Broker, settings: Settings) -> None:
    """Work, and serve probes and metrics meanwhile; when one ends, so does the other."""
    sockets = _taken("BROKER_WORKER_PORT", settings.host, settings.worker_port)
    server = SayingServer(uvicorn.Config(serving.probes(broker), **_uvicorn(settings)), _works)

    def end(_work: asyncio.Task[None]) -> None:
        server.should_exit = True

    working = asyncio.create_task(broker.worker.run(), name="worker")
    working.add_done_callback(end)
    try:
        await server.serve(sockets)
    finally:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def doctor(*, settings_only: bool, all_rights: bool, as_json: bool) -> None:
    """``broker doctor``."""
    if settings_only:
        rows = [
            {"setting": f"BROKER_{name.upper()}", "default": str(field.default), "meaning": field.description}
            for name, field in Settings.model_fields.items()
        ]
        listing(rows, Columns("setting default meaning"), as_json)
        return
    settings = settings_of_process()
    if all_rights:
        _list_altered(settings, as_json)
        return

    async def run() -> None:
        async with composition.running(settings) as broker:
            services = broker.services
            await services.parts.keystore.check()
            rows = [
                {"part": "database", "state": "ok", "what": services.parts.db.dialect},
                {"part": "keystore", "state": "ok", "what": settings.keystore},
                {"part": "providers", "state": "ok", "what": f"{len(list(services.parts.catalog))} declared"},
                {
                    "part": "clock",
                    "state": services.timekeeping.state,
                    "what": CAUSES.get(services.timekeeping.state, "goes with the record's and the database's"),
                },
                await _public_address(broker),
                *_texts(broker),
                await _head_kept(broker),
                await _admins(broker),
                {
                    "part": "second person",
                    "state": settings.reveal_approval,
                    "what": _APPROVAL[settings.reveal_approval],
                },
            ]
            rows += [
                {
                    "part": f"provider {provider}",
                    "state": "missing",
                    "what": f"credentials in force: {count}; put {provider}.toml back, or revoke them",
                }
                for provider, count in (await undeclared(services.parts.db, services.parts.catalog)).items()
            ]
            listing(rows, Columns("part state what"), as_json)

    run_or_fail(run())


async def _admins(broker: composition.Broker) -> dict[str, str]:
    count = await composition.admins(broker.services)
    nobody = "nobody can sign in who administers every customer; `broker operator recover` lets somebody in"
    return {
        "part": "admins",
        "state": "ok" if count else "missing",
        "what": f"{count} can sign in" if count else nobody,
    }


async def _public_address(broker: composition.Broker) -> dict[str, str]:
    services = broker.services
    state, what = await asyncio.to_thread(answers, services.options.public_url, services.signing.public())
    return {"part": "public address", "state": state, "what": what}


async def _head_kept(broker: composition.Broker) -> dict[str, str]:
    await broker.heads.look(broker.services.parts.audit, broker.worker.election)
    kept = await broker.heads.kept_in()
    nowhere = "nothing outside tells whether the database is restored; make BROKER_STATE_DIR writable, or use Vault"
    return {"part": "head of the record", "state": "ok" if kept else "missing", "what": " and ".join(kept) or nowhere}


def _texts(broker: composition.Broker) -> list[dict[str, str]]:
    texts = broker.services.options.texts
    whole = [{"part": "page texts", "state": "ok", "what": ", ".join(texts.languages)}]
    return whole + [
        {"part": "page texts", "state": "incomplete", "what": f"{file} has no {', '.join(names)}: shown in English"}
        for file, names in texts.missing.items()
    ]


_APPROVAL = {
    "on": "approves grants to see keys, and admins",
    "off": "BROKER_REVEAL_APPROVAL=off: one person alone can read a key",
}


def _list_altered(settings: Settings, as_json: bool) -> None:
    """List rows that give rights but that something else than the broker wrote.

    If there are any, the command ends with 1.
    """

    async def run() -> list[dict[str, str]]:
        async with composition.running(settings) as broker:
            services = broker.services
            return [row._asdict() async for row in rights.altered(services.parts.db, services.parts.clock())]

    found = run_or_fail(run())
    if not found and not as_json:
        typer.echo("Every right is as the broker gave it.")
        return
    listing(found, Columns("table id", "organization"), as_json)
    if found:
        typer.echo(
            "Something else than the broker wrote these rows; they give nobody anything. Find out who did it, then "
            "revoke them, and make anew what is wanted.",
            err=True,
        )
        raise typer.Exit(1)


def demo(*, exit_: bool, port: int) -> None:
    """``broker demo``."""
    configure("error")
    # The story is for people: a machine is told how it ended.
    with redirect_stdout(sys.stderr) if running.prints_json() else nullcontext():
        try:
            held = asyncio.run(play(port=port, stay=not exit_))
        except StageUnusable as error:
            fail(str(error))
    if running.prints_json():
        tell("", held=held)
    if not held:
        raise typer.Exit(1)
