"""Commands for whoever runs the server: what they can be told.

What they do is imported when one of them runs, as that takes seconds: help and completion need none of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from broker.cli.keystore_names import SETTLE_S, Act, Name
from broker.cli.output import AsJson

_keystore = typer.Typer(no_args_is_help=True, help="Master keys, and where they or the keys themselves are kept.")
_witness = typer.Typer(no_args_is_help=True, help="A witness of a broker's log, on a machine that isn't the vendor's.")
_record = typer.Typer(no_args_is_help=True, help="Archives of the record: signed files, a month each.")

SANDBOX_FOLDER = Path("var/sandbox")
DESTROY = "--yes-destroy-the-record"
WITNESS_FOLDER = Path("var/witness")
WitnessName = Annotated[
    str | None,
    typer.Option("--name", help="Who it is, such as witness.customer.example; kept with its key, so said once."),
]
WitnessFolder = Annotated[Path, typer.Option("--dir", help="Where it keeps its key, and what it saw.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]
Settle = Annotated[
    float,
    typer.Option(
        min=0, help="Seconds to wait, before keys are destroyed, for what is being stored; 0 only while no broker runs."
    ),
]


def register(app: typer.Typer) -> None:
    """Add these commands to ``app``."""
    app.command()(serve)
    app.command()(worker)
    app.command()(migrate)
    app.command()(doctor)
    app.command()(sandbox)
    app.command()(demo)
    app.command()(restored)
    app.add_typer(_keystore, name="keystore")
    app.add_typer(_record, name="record")
    app.add_typer(_witness, name="witness")


def serve(
    with_worker: Annotated[bool, typer.Option("--worker/--no-worker", help="Do the periodic work here too.")] = True,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes on one port.")] = 1,
    _as_json: AsJson = False,
) -> None:
    """Run the broker."""
    from broker.cli import server

    server.serve(with_worker=with_worker, workers=workers)


def worker(_as_json: AsJson = False) -> None:
    """Do the periodic work in a process of its own (beside `broker serve --no-worker`)."""
    from broker.cli import server

    server.worker()


def migrate(
    revision: Annotated[str, typer.Argument(help="Revision to go to.")] = "head",
    down: Annotated[
        bool, typer.Option("--down", help="Go down to the revision; loses what it drops, and asks before.")
    ] = False,
    new_token: Annotated[
        bool,
        typer.Option("--new-token", help="Give out a new one-time token, as `broker operator recover` does."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --down, of a database without events: don't ask.")] = False,
    destroy: Annotated[
        str, typer.Option(DESTROY, metavar="NAME", help="With --down, of the database NAME: don't ask.")
    ] = "",
    _as_json: AsJson = False,
) -> None:
    """Bring the database to this version's schema; gives out the one-time token where there is no operator.

    On a terminal it is printed, else put into the file first-admin-token in BROKER_STATE_DIR.
    """
    from broker.cli import migrate

    migrate.run(revision, down=down, new_token=new_token, yes=yes, destroy=destroy)


def doctor(
    settings_only: Annotated[bool, typer.Option("--settings", help="Only list the settings.")] = False,
    all_rights: Annotated[bool, typer.Option("--rights", help="List rights that the broker didn't give.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, schema, keystore, providers and who answers at the address, each with its fix."""
    from broker.cli import server

    server.doctor(settings_only=settings_only, all_rights=all_rights, as_json=as_json)


def sandbox(
    mint: Annotated[
        str | None, typer.Option("--mint", metavar="ORG", help="Print a new key of that organization, and end.")
    ] = None,
    providers: Annotated[
        bool, typer.Option("--providers", help="Print the folder of its provider file, and end.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port; left out, the one before, at first 8090. 0: any."),
    ] = None,
    folder: Annotated[
        Path, typer.Option("--dir", help="Where it keeps what it knows, and its provider file.")
    ] = SANDBOX_FOLDER,
    as_json: AsJson = False,
) -> None:
    """Serve a stand-in for the upstream Raptor Comply, to try the broker with.

    It has an organization and a key.  A broker uses it with BROKER_PROVIDERS_DIR set to the folder that is printed.
    Organizations and keys outlive the process, which may serve or not when --mint makes a key.
    """
    from broker.cli import sandbox

    sandbox.run(mint=mint, providers=providers, port=port, folder=folder, as_json=as_json)


def demo(
    exit_: Annotated[
        bool, typer.Option("--exit", help="End after the story, status 0 only if every step held.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the demo's broker; another one if it is taken.")
    ] = 8080,
    _as_json: AsJson = False,
) -> None:
    """Play the whole story against the bundled sandbox, then keep serving."""
    from broker.cli import server

    server.demo(exit_=exit_, port=port)


def restored(
    since: Annotated[str | None, typer.Option(help="When the backup was made, such as 2026-11-23T09:00:00Z.")] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List what the backup brought back, and change nothing.")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Let keys be shown again: all that is listed was looked at.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a database that was restored from a backup: end what was under way, and list what to look through.

    Stop every broker first, and start them again afterwards.
    """
    from broker.cli import restored

    restored.run(since=since, list_=list_, confirm=confirm, yes=yes, as_json=as_json)


@_keystore.command("status")
def keystore_status(as_json: AsJson = False) -> None:
    """Master keys by id, how many sealed values each still holds, and values in Vault that are yet to be destroyed."""
    from broker.cli import keystore

    keystore.status(as_json)


@_keystore.command("init")
def keystore_init(_as_json: AsJson = False) -> None:
    """Make the first master key file of a new deployment; where anything was ever sealed, none is made."""
    from broker.cli import keystore

    keystore.init()


@_keystore.command("rotate")
def keystore_rotate(_as_json: AsJson = False) -> None:
    """Add a fresh master key and make it the active one; running brokers take it up by themselves."""
    from broker.cli import keystore

    keystore.rotate()


@_keystore.command("rewrap")
def keystore_rewrap(as_json: AsJson = False) -> None:
    """Move every sealed value to the active master key, online; can be stopped and run again."""
    from broker.cli import keystore

    keystore.rewrap(as_json)


@_keystore.command("migrate")
def keystore_migrate(
    to: Annotated[Name, typer.Option(help="Keystore that everything is moved to.")],
    keep_old: Annotated[bool, typer.Option("--keep-old", help="Leave the old keystore's master keys.")] = False,
    settle: Settle = SETTLE_S,
    as_json: AsJson = False,
) -> None:
    """Move every sealed value to another keystore, online, each opened again before its old form goes.

    First give every broker the settings of both keystores and restart it; then set BROKER_KEYSTORE to the new one on
    every broker and restart each again. Can be stopped and run again.
    """
    from broker.cli import keystore

    keystore.migrate(to, keep_old=keep_old, settle=settle, as_json=as_json)


@_keystore.command("drop")
def keystore_drop(
    kek_id: Annotated[str, typer.Argument(help="The master key's id; `broker keystore status` lists them.")],
    settle: Settle = SETTLE_S,
    _as_json: AsJson = False,
) -> None:
    """Remove a master key that no sealed value needs any more."""
    from broker.cli import keystore

    keystore.drop(kek_id, settle)


@_keystore.command("audit")
def keystore_audit(
    token_file: Annotated[
        Path, typer.Option(help="File with a token of Vault's that may list (deploy/vault/keybroker-audit.hcl).")
    ],
    act: Annotated[
        Act | None, typer.Option("--do", help="Destroy what is found, or take it as a key that was given.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="PATH:NUMBER of what to do it with; repeat.")] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """List customers' keys in Vault that no row refers to, as a restored backup leaves them.

    Ends with 1 where any is left. The broker itself may list nothing in Vault, so this needs somebody's token.
    """
    from broker.cli import keystore

    keystore.audit(token_file, act=act, only=only, yes=yes, as_json=as_json)


@_record.command("archive")
def record_archive(
    before: Annotated[str, typer.Option(help="Month until which all are archived, itself left out, such as 2026-08.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Folder that the archives are put into.")],
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move months of the record out of the database, into signed files that are verified before anything is removed.

    Brokers go on meanwhile. Can be stopped and run again. On PostgreSQL it needs the role that owns the schema.
    """
    from broker.cli import record

    record.archive(before, to, yes=yes, as_json=as_json)


@_record.command("verify")
def record_verify(
    files: Annotated[list[Path], typer.Argument(help="Archives, such as record-202607.ndjson.gz.")],
    key: Annotated[
        str | None, typer.Option(metavar="VKEY", help="What `broker record key` printed; else this broker's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check archives: who signed them, and that every event is there as it was recorded; names the first bad line.

    With --key it needs no broker, no database and no settings.
    """
    from broker.cli import record

    record.verify(files, key, as_json=as_json)


@_record.command("key")
def record_key(_as_json: AsJson = False) -> None:
    """Print the key that verifies this broker's archives; keep it where the archives' readers trust it."""
    from broker.cli import record

    record.key()


@_witness.command("serve")
def witness_serve(
    log: Annotated[
        list[str] | None, typer.Option("--log", metavar="VKEY", help="Key of a log that it watches; repeat.")
    ] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", help="File of such keys, one a line, as /v1/audit/log/key has them.")
    ] = None,
    name: WitnessName = None,
    folder: WitnessFolder = WITNESS_FOLDER,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8085,
    _as_json: AsJson = False,
) -> None:
    """Cosign the checkpoints of logs, as long as each goes on from the one before.

    It needs no broker, no database and no settings: its key and what it saw are in one folder.
    """
    from broker.cli import witness

    witness.serve(log or [], logs, name=name, folder=folder, host=host, port=port)


@_witness.command("key")
def witness_key(name: WitnessName = None, folder: WitnessFolder = WITNESS_FOLDER, _as_json: AsJson = False) -> None:
    """Print the key that verifies this witness's cosignatures; give it to the vendor, and to who reads the log."""
    from broker.cli import witness

    witness.key(name, folder)
