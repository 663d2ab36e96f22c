"""``broker keystore``: look after master keys, and move everything to another keystore."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated

import typer
from rich.progress import Progress

from broker import app as composition
from broker.app import Broker
from broker.cli.output import AsJson, listing
from broker.cli.process import run_or_fail, settings_of_process
from broker.cli.session import fail
from broker.config import Settings
from broker.keystore.keyring import OWN, name_of
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import MasterKeys
from broker.keystore.strays import sweep
from broker.rewrap import Advance, rewrap_all

keystore = typer.Typer(no_args_is_help=True, help="Master keys, and where they or the keys themselves are kept.")


class Name(StrEnum):
    """Keystores by name."""

    LOCAL = "local"
    TRANSIT = "vault-transit"
    KV = "vault-kv"


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.add_typer(keystore, name="keystore")


@keystore.command("status")
def status(as_json: AsJson = False) -> None:
    """Master keys by id, how many sealed values each still holds, and values in Vault that are yet to be destroyed."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            _show(await rewrap_all(broker.services, count_only=True), as_json)

    run_or_fail(run())


@keystore.command("rotate")
def rotate() -> None:
    """Add a fresh master key and make it the active one; running brokers take it up by themselves."""
    settings = settings_of_process()
    chosen = Name(settings.keystore)
    if chosen is Name.TRANSIT:
        path = f"{settings.vault_transit_mount}/keys/{settings.vault_transit_key}"
        fail(
            "The master key is Vault's, and the broker has no right to change it. Rotate it there, then run "
            f"`broker keystore rewrap`:  bao write -f {path}/rotate"
        )
    if chosen is Name.LOCAL:
        keys = MasterKeys.from_file(settings.key_file()).with_new_key()
        keys.write_file(settings.key_file())
        typer.echo(f"Active master key: {keys.active}. Back the file up, then run `broker keystore rewrap`.")
        return

    async def run() -> None:
        async with composition.running(settings) as broker:
            assert broker.keystores.kv_keys is not None
            typer.echo(f"Active master key: {await broker.keystores.kv_keys.rotate()}. Run `broker keystore rewrap`.")

    run_or_fail(run())


@keystore.command("rewrap")
def rewrap() -> None:
    """Move every sealed value to the active master key, online; can be stopped and run again."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            with _progress("Re-wrapping") as advance:
                held = await rewrap_all(broker.services, advance=advance)
            _show(held, as_json=False)

    run_or_fail(run())


@keystore.command("migrate")
def migrate(
    to: Annotated[Name, typer.Option(help="Keystore that everything is moved to.")],
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old keystore's master keys.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move every sealed value to another keystore, online, each opened again before its old form goes.

    Set BROKER_KEYSTORE to the new one on every broker first, the old one's settings staying as they are. Can be
    stopped and run again.
    """
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            if to not in broker.keystores.stores:
                fail(f"{to} is not set up; set the BROKER_VAULT_… settings (`broker doctor --settings` lists them).")
            with _progress(f"Moving to {to}") as advance:
                held = await rewrap_all(broker.services, to=broker.keystores.chosen(to), advance=advance)
            there = {to.value} if to is Name.LOCAL else {to.value, OWN}
            left = sum(count for kek_id, count in held.items() if name_of(kek_id) not in there)
            strays = await _sweep_all(broker)
            _show(held, as_json)
            if left or strays:
                fail(f"{left} values are not moved, {strays} old copies in Vault not destroyed yet; run this again.")
            if Name(settings.keystore) is not to:
                fail(
                    f"Everything is moved, but brokers still seal what is new with {settings.keystore}: set "
                    f"BROKER_KEYSTORE={to} on every broker, restart them one by one, and run this again."
                )
            if not keep_old:
                await _destroy_old_keys(broker, settings, to)

    run_or_fail(run())


@keystore.command("drop")
def drop(kek_id: str) -> None:
    """Remove a master key that no sealed value needs any more."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            held = await rewrap_all(broker.services, count_only=True)
            if held.get(kek_id):
                fail(f"{held[kek_id]} sealed values still need {kek_id!r}; run `broker keystore rewrap` first.")
            if name_of(kek_id) == Name.TRANSIT:
                fail("That version is Vault's: raise the transit key's min_decryption_version there.")
            if name_of(kek_id) == Name.KV:
                assert broker.keystores.kv_keys is not None
                await broker.keystores.kv_keys.drop(kek_id)
            else:
                MasterKeys.from_file(settings.key_file()).without(kek_id).write_file(settings.key_file())
        typer.echo(f"Removed {kek_id}. Copies of it in backups stay secret-bearing: destroy them in their time.")

    run_or_fail(run())


async def _sweep_all(broker: Broker) -> int:
    """Destroy every value in Vault that nothing refers to any more; how many are left."""
    services = broker.services
    before, left = -1, 0
    while before != left:
        before, left = left, await sweep(services.db, services.keystore, services.clock())
    return left


async def _destroy_old_keys(broker: Broker, settings: Settings, to: Name) -> None:
    """Destroy the master keys that nothing needs any more: old forms in backups open no more without a copy."""
    path = settings.key_file()
    if to is not Name.LOCAL and settings.master_keys is not None:
        typer.echo("Nothing needs BROKER_MASTER_KEYS any more: take it out of every broker's environment.")
    elif to is not Name.LOCAL and path.exists():
        MasterKeys.destroy_file(path)
        typer.echo(f"Destroyed {path}.")
    kv_keys = broker.keystores.kv_keys
    if to is Name.KV or kv_keys is None:
        return
    try:
        number = await kv_keys.end()
    except KeystoreUnavailable as problem:
        if problem.cause not in {"permission", "not_set_up"}:
            raise
        return  # a broker that has no right there never kept anything there
    if number:
        typer.echo(f"Destroyed the broker's master keys in Vault, {number} stored forms.")


@contextmanager
def _progress(what: str) -> Iterator[Advance]:
    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _show(held: Mapping[str, int], as_json: bool) -> None:
    rows = [
        {"master key": kek_id, "keystore": name_of(kek_id), "sealed values": count}
        for kek_id, count in sorted(held.items())
    ]
    listing(rows, ["master key", "keystore", "sealed values"], as_json)
