"""``broker audit``: receipts, exports and checkpoints, which are verified without a broker."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.api import fetch
from broker.cli.failing import Status, fail
from broker.cli.output import AsJson
from broker.cli.saving import Out, keep, save
from broker.formats import merkle
from broker.formats.checkpoint import Checkpoint, NoCheckpoint
from broker.formats.tile import WIDTH, Tile, whole_by

Personal = Annotated[
    bool, typer.Option("--personal", help="With names, addresses, paths and notes; nobody can take them back.")
]
_LOG = "/v1/audit/log"


def register(app: typer.Typer) -> None:
    """Add these commands to the group."""
    for command in (receipt, export, checkpoint, consistency):
        app.command()(command)
    app.command("log-key")(log_key)


def receipt(
    event_id: Annotated[str, typer.Argument(help="Its id, evt_…; `broker audit search --json` shows it.")],
    personal: Personal = False,
    out: Out = None,
    _as_json: AsJson = False,
) -> None:
    """Get one event's receipt: a file that proves to anybody that it is in the log."""
    save(f"/v1/audit/receipts/{event_id}", out, personal=personal)


def export(
    org: Annotated[
        str | None, typer.Option("--org", help="Organization: slug or id; left out, all of the log.")
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 time, such as 2027-01-31T09:00:00Z.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time; left out, now.")] = None,
    personal: Personal = False,
    out: Out = None,
    _as_json: AsJson = False,
) -> None:
    """Export all events of an organization, or all of the log, and show that none is missing."""
    if org is None and (since or until):
        fail("--from and --to go with --org; all of the log is exported from its beginning.", Status.USAGE, "usage")
    if org is None:
        save(f"{_LOG}/export", out, personal=personal)
    else:
        save(f"/v1/audit/organizations/{org}/export", out, since=since, until=until, personal=personal)


def checkpoint(out: Out = None, _as_json: AsJson = False) -> None:
    """Get the log's newest checkpoint; kept elsewhere, it shows later if the log was rewritten."""
    note = fetch(f"{_LOG}/checkpoint")
    keep(out, note)


def log_key(out: Out = None, _as_json: AsJson = False) -> None:
    """Get the keys that verify checkpoints, receipts and exports; keep them elsewhere."""
    keys = fetch(f"{_LOG}/key")
    keep(out, keys)


def consistency(
    saved: Annotated[Path, typer.Argument(help="A checkpoint that you saved before.")],
    out: Out = None,
    _as_json: AsJson = False,
) -> None:
    """Get the proof that the log only grew since a checkpoint that was saved, made of its tiles."""
    try:
        before = _read(saved.read_bytes())
    except OSError as error:
        fail(f"{saved}: {error.strerror}.")
    if before is None:
        fail(f"{saved} is no checkpoint; `broker audit checkpoint` gets one.")
    note = fetch(f"{_LOG}/checkpoint")
    now = _read(note)
    if now is None:
        fail("What the broker answers is no checkpoint; check its address.")
    proof = [] if before.size in {0, now.size} else _proof(before.size, now.size)
    lines = [f"old {before.size}", *(base64.b64encode(each).decode() for each in proof), "", ""]
    keep(out, "\n".join(lines).encode() + note)


def _proof(old: int, size: int) -> list[bytes]:
    if old > size:
        fail(f"The saved checkpoint has {old} events, and the log has {size} now: its end was cut off.")
    tiles: dict[Tile, bytes] = {}

    def hashes(level: int, number: int) -> bytes:
        tile = Tile(level, number, min(WIDTH, (size >> 8 * level) - number * WIDTH))
        if tile not in tiles:
            tiles[tile] = fetch(f"{_LOG}/{tile.path()}")
        return tiles[tile]

    return merkle.consistency(old, size, whole_by(hashes))


def _read(note: bytes) -> Checkpoint | None:
    """What a checkpoint says, of which the signature is verified with the proof."""
    try:
        return Checkpoint.read(note.decode().partition("\n\n")[0] + "\n")
    except (NoCheckpoint, UnicodeDecodeError):
        return None
