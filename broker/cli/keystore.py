"""What ``broker keystore`` does; ``cli/hosting`` has what it can be told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import typer

from broker import app as composition
from broker import database, keystore_setup, kv_audit, schema
from broker.app import Broker
from broker.base.errors import BrokerError
from broker.cli.failing import fail
from broker.cli.keystore_move import Tell, destroy_old_keys, open_local, refuse_if_stuck, settled, swept
from broker.cli.keystore_names import Act, Name
from broker.cli.output import Columns, listing, tell
from broker.cli.process import run_or_fail, settings_of_process
from broker.cli.progress import progress
from broker.config import Settings
from broker.keystore.keyring import name_of
from broker.keystore.local import MasterKeys
from broker.keystore.orphans import waiting
from broker.keystore.vault.values import Values
from broker.kv_audit import Orphan
from broker.rewrap import Moved, held_by, note, rewrap_all


def status(as_json: bool) -> None:
    """``broker keystore status``."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            _show(await held_by(broker.services.parts.db), as_json)
            if left := await waiting(broker.services.parts.db):
                _teller(as_json)(f"{left} values in Vault are yet to be destroyed; the worker does it.")

    run_or_fail(run())


def init() -> None:
    """``broker keystore init``."""
    settings = settings_of_process()
    path = settings.key_file()
    if Name(settings.keystore) is not Name.LOCAL or settings.master_keys is not None:
        fail("The master keys are not in a file here; BROKER_KEYSTORE or BROKER_MASTER_KEYS says where they are.")

    async def run() -> None:
        db = database.open_database(settings)
        try:
            async with schema.alone(db):
                if path.exists():
                    fail(f"{path} is there already; `broker keystore rotate` adds a master key.")
                if not await keystore_setup.nothing_sealed(db):
                    fail(f"{path} is missing, and values in the database need its keys; restore it from your backup.")
                MasterKeys({}, "").with_new_key().write_file(path)
        finally:
            await db.close()
        tell(f"Made {path}. Give every broker this file, and back it up apart from the database.", path=str(path))

    run_or_fail(run())


def rotate() -> None:
    """``broker keystore rotate``."""
    settings = settings_of_process()
    chosen = Name(settings.keystore)
    if chosen is Name.TRANSIT:
        path = f"{settings.vault_transit_mount}/keys/{settings.vault_transit_key}"
        fail(
            "The master key is Vault's, and the broker has no right to change it. Rotate it there, then run "
            f"`broker keystore rewrap`:  bao write -f {path}/rotate"
        )
    if chosen is Name.LOCAL and settings.master_keys is not None:
        fail(
            "BROKER_MASTER_KEYS holds the keys: put id:base64 of a new one (`openssl rand -base64 32`) before the "
            "others on every broker, restart each, then run `broker keystore rewrap`."
        )

    async def run() -> None:
        async with composition.running(settings) as broker:
            if chosen is Name.LOCAL:
                keys = MasterKeys.from_file(settings.key_file()).with_new_key()
                await note(broker.services, "keystore.rotated", {chosen.value}, keys.active)
                keys.write_file(settings.key_file())
                text = f"Active master key: {keys.active}. Back the file up, then run `broker keystore rewrap`."
                tell(text, active=keys.active)
                return
            assert broker.keystores.kv_keys is not None
            active = await broker.keystores.kv_keys.rotate()
            await note(broker.services, "keystore.rotated", {chosen.value}, active)
            tell(f"Active master key: {active}. Run `broker keystore rewrap`.", active=active)

    run_or_fail(run())


def rewrap(as_json: bool) -> None:
    """``broker keystore rewrap``."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            with progress("Re-wrapping") as advance:
                done = await rewrap_all(
                    broker.services, to=broker.keystores.moving_to(settings.keystore), advance=advance
                )
            _show(done.held, as_json)
            refuse_if_stuck(done)

    run_or_fail(run())


def migrate(to: Name, *, keep_old: bool, settle: float, as_json: bool) -> None:
    """``broker keystore migrate``."""
    settings = settings_of_process()
    opened_with = settings
    if to is Name.LOCAL and settings.vault_url and settings.master_keys is None and not settings.key_file().exists():
        opened_with = settings.model_copy(update={"keystore": Name.TRANSIT.value})  # until there is a key file

    async def run() -> None:
        async with composition.running(opened_with) as broker:
            await _move(broker, settings, to, keep_old=keep_old, settle=settle, as_json=as_json)

    run_or_fail(run())


async def _move(broker: Broker, settings: Settings, to: Name, *, keep_old: bool, settle: float, as_json: bool) -> None:
    tell = _teller(as_json)
    if to is Name.LOCAL:
        await open_local(broker, settings)
    if to not in broker.keystores.stores:
        fail(f"{to} is not set up; set the BROKER_VAULT_… settings (`broker doctor --settings` lists them).")
    with progress(f"Moving to {to}") as advance:
        done = await rewrap_all(broker.services, to=broker.keystores.moving_to(to), advance=advance)
    left = await swept(broker)
    _show(done.held, as_json)
    refuse_if_stuck(done)
    if left:
        fail(f"Everything is moved, but {left} old copies in Vault are not destroyed yet; run this again.")
    _tell_what_left(done, settings, tell)
    if Name(settings.keystore) is not to:
        fail(
            f"Everything is moved, but brokers still seal what is new with {settings.keystore}: set "
            f"BROKER_KEYSTORE={to} on every broker, restart them one by one, and run this again."
        )
    if not keep_old:
        await destroy_old_keys(broker, settings, to, settle, tell)


def _tell_what_left(done: Moved, settings: Settings, tell: Tell) -> None:
    if done.outside:
        tell(f"Destroyed {done.outside} old copies of customers' keys in Vault.")
    if any(name_of(kek_id) == Name.TRANSIT for kek_id in done.moved) and Name(settings.keystore) is not Name.TRANSIT:
        key = f"{settings.vault_transit_mount}/keys/{settings.vault_transit_key}"
        tell(
            f"The transit key is Vault's and stays, for backups of the database from before. Once they are gone:  "
            f"bao write {key}/config deletion_allowed=true && bao delete {key}"
        )


def drop(kek_id: str, settle: float) -> None:
    """``broker keystore drop``."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            if name_of(kek_id) == Name.TRANSIT:
                fail("That version is Vault's: raise the transit key's min_decryption_version there.")
            fix = "Run `broker keystore rewrap`, then this again."
            for wait in (0.0, settle):
                await settled(broker, wait, partial(str.__eq__, kek_id), typer.echo, fix)
            if name_of(kek_id) == Name.KV:
                if broker.keystores.kv_keys is None:
                    fail(f"{kek_id} is in Vault, which is not set up here; set the BROKER_VAULT_… settings.")
                await broker.keystores.kv_keys.drop(kek_id)
            else:
                MasterKeys.from_file(settings.key_file()).without(kek_id).write_file(settings.key_file())
            await note(broker.services, "keystore.master_key_dropped", {name_of(kek_id)}, kek_id)
        text = f"Removed {kek_id}. Copies of it in backups stay secret-bearing: destroy them in their time."
        tell(text, removed=kek_id)

    run_or_fail(run())


def audit(token_file: Path, *, act: Act | None, only: list[str] | None, yes: bool, as_json: bool) -> None:
    """``broker keystore audit``."""
    settings = settings_of_process()
    if not settings.vault_url:
        fail("BROKER_VAULT_URL is not set, so no customer's key is in Vault.")

    async def run() -> int:
        async with (
            composition.running(settings) as broker,
            keystore_setup.values_as(settings, token_file) as listing_as,
        ):
            values = broker.keystores.values
            assert values is not None
            found = [one async for one in kv_audit.orphans(broker.services.parts.db, values, listing_as)]
            chosen = [one for one in found if only is None or f"{one.path}:{one.number}" in only]
            if act is not None and chosen and not yes:
                told = f"{act.value.capitalize()} {len(chosen)} of the {len(found)} values that no row refers to?"
                typer.confirm(told, abort=True, err=True)
            rows = [await _done(broker, values, one, act if one in chosen else None) for one in found]
        listing(rows, Columns("customer provider label state value"), as_json)
        return sum(row["state"] not in _SETTLED for row in rows)

    if run_or_fail(run()):
        raise typer.Exit(1)


_SETTLED = {"destroyed", "attached: active", "attached: held", "attached: unreachable"}


async def _done(broker: Broker, values: Values, one: Orphan, act: Act | None) -> dict[str, str]:
    """Do what ``act`` says with a value; returns a line about both."""
    state = "left"
    try:
        if act is Act.DESTROY:
            await kv_audit.destroy(broker, values, one)
            state = "destroyed"
        elif act is Act.ATTACH:
            state = f"attached: {await kv_audit.attach(broker, values, one)}"
    except BrokerError as refused:
        state = f"left: {refused.public}"
    where = {"value": f"{one.path}:{one.number}", "customer": one.customer or one.organization}
    return {**where, "provider": one.provider, "label": one.label, "state": state}


def _teller(as_json: bool) -> Tell:
    """Says sentences on standard output, or beside it if that is for machines."""
    return partial(typer.echo, err=as_json)


def _show(held: Mapping[str, int], as_json: bool) -> None:
    rows = [
        {"master_key": kek_id, "keystore": name_of(kek_id), "sealed_values": count}
        for kek_id, count in sorted(held.items())
    ]
    listing(rows, Columns("master_key keystore sealed_values"), as_json)
