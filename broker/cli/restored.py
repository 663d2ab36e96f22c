"""What ``broker restored`` does; ``cli/hosting`` has what it can be told."""

from __future__ import annotations

import json

import typer

from broker import app as composition
from broker import database, restored
from broker.base.clock import Millis, parse_rfc3339, rfc3339
from broker.cli.discreet import unsaid
from broker.cli.failing import fail
from broker.cli.output import Columns, listing
from broker.cli.process import run_or_fail, settings_of_process
from broker.config import Settings

_COLUMNS = Columns("what id name of")


def run(*, since: str | None, list_: bool, confirm: bool, yes: bool, as_json: bool) -> None:
    """``broker restored``."""
    if [since is not None, list_, confirm].count(True) != 1:
        fail("Name one of --since TIME (after a restore), --list and --confirm.")
    settings = settings_of_process()
    if list_:
        run_or_fail(_list(settings, as_json))
    elif confirm:
        run_or_fail(_confirm(settings))
    else:
        assert since is not None
        run_or_fail(_go_on(settings, _moment(since), yes=yes, as_json=as_json))


def _moment(text: str) -> Millis:
    try:
        return parse_rfc3339(text)
    except ValueError:
        fail(f"--since: '{unsaid(text)}' is no time with its offset; write it as 2026-11-23T09:00:00Z.")


async def _go_on(settings: Settings, since: Millis, *, yes: bool, as_json: bool) -> None:
    if not yes:
        typer.confirm(
            "Every lease ends, open links close, nobody is shown a key until you confirm, and the record begins a new "
            "series. Is every broker stopped, and was the database restored?",
            abort=True,
            err=True,
        )
    db = database.open_database(settings)
    try:
        base = await restored.size(db)
    finally:
        await db.close()
    await database.migrate(settings, restored=True)
    async with composition.running(settings, restored=True) as broker:
        done = await restored.go_on(broker, base, since)
        found = [row async for row in restored.to_confirm(broker.services.parts.db)]
    lost = "nothing outside tells how many events,"
    if done.lost_to is not None:
        lost = f"{done.lost_to - base} event{'s' if done.lost_to - base != 1 else ''}"
    if as_json:
        told = {"series": rfc3339(done.began_at), "base": base, "lost_to": done.lost_to, "leases": done.leases}
        typer.echo(json.dumps({**told, "links": done.links, "to_confirm": found}))
        return
    typer.echo(
        f"Lost: {lost} from number {base} on. Ended: {done.leases} leases, {done.links} open links.\n"
        "What follows is in force as the backup has it; somebody may have ended it since:\n"
    )
    listing(found, _COLUMNS, as_json)
    typer.echo(
        "\nNow start the brokers. End what has to be ended; ask customers for the keys that were given since; with\n"
        "BROKER_KEYSTORE=vault-kv run `broker keystore audit`. `broker restored --list` shows this list once more;\n"
        "`broker restored --confirm` lets jobs see keys again."
    )


async def _list(settings: Settings, as_json: bool) -> None:
    async with composition.running(settings) as broker:
        listing([row async for row in restored.to_confirm(broker.services.parts.db)], _COLUMNS, as_json)


async def _confirm(settings: Settings) -> None:
    async with composition.running(settings) as broker:
        if await restored.confirm(broker):
            typer.echo("Jobs may see keys again, as their grants say.")
        else:
            typer.echo("No restore waits to be confirmed.")
