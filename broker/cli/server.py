"""Commands of whoever runs the server: ``serve``, ``worker``, ``migrate``, ``doctor``, ``keystore``, ``demo``."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
import uvicorn
import uvloop
from rich.progress import Progress
from starlette.types import ASGIApp

from broker import app as composition
from broker import schema
from broker.base.diagnostics import configure
from broker.base.errors import BrokerError
from broker.cli.demo.story import play
from broker.cli.output import AsJson, listing
from broker.cli.session import fail
from broker.config import Settings, SettingsUnusable, load
from broker.keystore.keystore import CannotOpen
from broker.keystore.local import MasterKeys, MasterKeysUnusable
from broker.rewrap import rewrap_all

keystore = typer.Typer(no_args_is_help=True, help="Master keys.")


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(serve)
    app.command()(worker)
    app.command()(migrate)
    app.command()(doctor)
    app.command()(demo)
    app.add_typer(keystore, name="keystore")


def _settings() -> Settings:
    try:
        settings = load()
    except SettingsUnusable as error:
        fail(str(error))
    configure(settings.log_level)
    return settings


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run ``work``; what keeps the broker from starting ends the command with its mend, not with a trace."""
    try:
        uvloop.run(work)
    except (schema.SchemaUnusable, MasterKeysUnusable, SettingsUnusable) as error:
        fail(str(error))
    except BrokerError as error:
        fail(error.public)
    except CannotOpen:
        fail("The master keys that are loaded did not seal this database; restore the right master key file.")
    except OSError as error:
        fail(f"BROKER_DATABASE_URL: the database can't be reached ({type(error).__name__}: {error.strerror or ''}).")
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _announce(token: str | None, settings: Settings) -> None:
    if token is None:
        return
    typer.echo("\nThere is no operator yet. Within 24 hours, make the first admin with this one-time token:\n")
    typer.echo(f"  {token}\n")
    typer.echo(f"  BROKER_URL={settings.public_url} broker operator bootstrap --name YOU   (and paste the token)\n")


def serve(
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Do the periodic work here too.")] = True,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes on one port; needs PostgreSQL.")] = 1,
) -> None:
    """Run the broker."""
    settings = _settings()

    async def run() -> None:
        async with composition.running(settings) as broker:
            if workers > 1 and broker.services.db.dialect == "sqlite":
                fail("--workers: several processes need PostgreSQL; set BROKER_DATABASE_URL, or leave --workers out.")
            _announce(await composition.bootstrap_token(broker.services), settings)
            typer.echo(f"Keybroker serves {settings.public_url}; Ctrl-C ends it.")
            if workers == 1:
                _, edge = composition.asgi(broker, with_worker=with_worker)
                await uvicorn.Server(uvicorn.Config(edge, **_uvicorn(settings))).serve()

    _run(run())
    if workers > 1:
        factory = f"{__name__}:{(served if with_worker else served_without_worker).__name__}"
        uvicorn.run(factory, factory=True, workers=workers, **_uvicorn(settings))


def served() -> ASGIApp:
    """What each of several processes serves; called in it."""
    return composition.Served(_settings(), with_worker=True)


def served_without_worker() -> ASGIApp:
    """As :func:`served`, the periodic work being done elsewhere."""
    return composition.Served(_settings(), with_worker=False)


def _uvicorn(settings: Settings) -> dict[str, Any]:
    """How uvicorn runs the broker: its own access log is off, as it would write query strings."""
    return {
        "host": settings.host,
        "port": settings.port,
        "access_log": False,
        "log_level": "warning",
        "server_header": False,
        "date_header": True,
        "proxy_headers": True,
        "forwarded_allow_ips": settings.trusted_proxies,
        "timeout_graceful_shutdown": 10,
    }


def worker() -> None:
    """Do the periodic work in a process of its own (beside ``serve --no-worker``)."""
    settings = _settings()

    async def run() -> None:
        async with composition.running(settings) as broker:
            typer.echo("Keybroker's worker runs; Ctrl-C ends it.")
            await broker.worker.run()

    _run(run())


def migrate(
    revision: Annotated[str, typer.Argument(help="Revision to go to.")] = "head",
    down: Annotated[bool, typer.Option("--down", help="Go down to the revision; loses what it drops.")] = False,
) -> None:
    """Bring the database to this version's schema; prints the one-time token where there is no operator."""
    settings = _settings()

    async def run() -> None:
        db = composition.open_database(settings)
        try:
            may_create = settings.database_url is None and await schema.is_empty(db)
            if down:
                await schema.downgrade(db, revision)
                typer.echo(f"The database is at {revision}.")
                return
            # The first migration is the moment at which a missing key file is no loss.
            composition.local_keystore(settings, may_create=may_create)
            await schema.upgrade(db, revision)
            typer.echo(f"The database is at {revision}.")
        finally:
            await db.close()
        async with composition.running(settings) as broker:
            _announce(await composition.bootstrap_token(broker.services), settings)

    _run(run())


def doctor(
    settings_only: Annotated[bool, typer.Option("--settings", help="Only list the settings.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, schema, keystore and providers, each with its mend."""
    if settings_only:
        rows = [
            {"setting": f"BROKER_{name.upper()}", "default": str(field.default), "meaning": field.description}
            for name, field in Settings.model_fields.items()
        ]
        listing(rows, ["setting", "default", "meaning"], as_json)
        return
    settings = _settings()

    async def run() -> None:
        async with composition.running(settings) as broker:
            services = broker.services
            rows = [
                {"part": "database", "state": "ok", "what": services.db.dialect},
                {"part": "keystore", "state": "ok", "what": settings.keystore},
                {"part": "providers", "state": "ok", "what": f"{len(list(services.catalog))} declared"},
                {"part": "public address", "state": "ok", "what": services.public_url},
            ]
            listing(rows, ["part", "state", "what"], as_json)

    _run(run())


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the story, status 0 only if every step held.")
    ] = False,
    port: Annotated[int, typer.Option(help="Port of the demo's broker; 0 for any free one.")] = 8080,
) -> None:
    """Play the whole story against the bundled sandbox, then keep serving."""
    configure("error")
    if not asyncio.run(play(port=port, stay=not exit_)):
        raise typer.Exit(1)


@keystore.command("status")
def status(as_json: AsJson = False) -> None:
    """Master keys by id, and how many sealed values each still holds."""
    _rewrap(count_only=True, as_json=as_json)


@keystore.command("rotate")
def rotate() -> None:
    """Add a fresh master key to the file and make it the active one; running brokers take it up by themselves."""
    settings = _settings()
    try:
        keys = MasterKeys.from_file(settings.key_file()).with_new_key()
        keys.write_file(settings.key_file())
    except MasterKeysUnusable as error:
        fail(str(error))
    typer.echo(f"Active master key: {keys.active}. Back the file up, then run `broker keystore rewrap`.")


@keystore.command("rewrap")
def rewrap() -> None:
    """Move every sealed value to the active master key, online; can be stopped and run again."""
    _rewrap(count_only=False, as_json=False)


@keystore.command("drop")
def drop(kek_id: str) -> None:
    """Remove a master key that no sealed value needs any more from the file."""
    settings = _settings()

    async def run() -> None:
        async with composition.running(settings) as broker:
            held = await rewrap_all(broker.services, count_only=True)
        if held.get(kek_id):
            fail(f"{held[kek_id]} sealed values still need {kek_id!r}; run `broker keystore rewrap` first.")
        MasterKeys.from_file(settings.key_file()).without(kek_id).write_file(settings.key_file())
        typer.echo(f"Removed {kek_id}. Copies of it in backups stay secret-bearing: destroy them in their time.")

    _run(run())


def _rewrap(*, count_only: bool, as_json: bool) -> None:
    settings = _settings()

    async def run() -> None:
        async with composition.running(settings) as broker:
            with Progress(disable=count_only, transient=True) as progress:
                task = progress.add_task("Re-wrapping", total=None)

                def advance(done: int, total: int) -> None:
                    progress.update(task, completed=done, total=total)

                held = await rewrap_all(broker.services, count_only=count_only, advance=advance)
            rows = [{"master key": kek_id, "sealed values": count} for kek_id, count in sorted(held.items())]
            listing(rows, ["master key", "sealed values"], as_json)

    _run(run())
