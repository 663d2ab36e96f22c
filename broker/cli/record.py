"""What ``broker record`` does; ``cli/hosting`` has what it can be told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import typer

from broker import app as composition
from broker.archiving import Archived, Archiving
from broker.audit.archive_file import ArchiveFile
from broker.cli.alone import InUse, alone_in
from broker.cli.discreet import unsaid
from broker.cli.failing import fail
from broker.cli.output import Columns, Item, listing, tell
from broker.cli.process import run_or_fail, settings_of_process
from broker.cli.progress import progress
from broker.config import Settings
from broker.formats.archive import ArchiveRefused
from broker.formats.signed_note import KeyUnreadable, Verifier

_COLUMNS = Columns("month file first events")


def archive(before: str, to: Path, *, yes: bool, as_json: bool) -> None:
    """``broker record archive``."""
    month = _month(before)
    settings = settings_of_process()
    if not yes:
        typer.confirm(
            f"Every month of the record before {before} is written to {to}, verified there, and then removed from the "
            "database: searches don't find it any more, and nothing puts it back. Go on?",
            abort=True,
            err=True,
        )
    done: list[Archived] = []
    try:
        with alone_in(to):
            run_or_fail(_archive(settings, month, to, done))
    except InUse:
        fail(f"{to}: another `broker record archive` is at work there; wait for it.")
    finally:
        if done or as_json:
            listing([_row(one) for one in done], _COLUMNS, as_json)
    if not done and not as_json:
        tell(f"The record has no month before {before}.")


def _month(text: str) -> int:
    found = re.fullmatch(r"([0-9]{4})-(0[1-9]|1[0-2])", text)
    if found is None:
        fail(f"--before: '{unsaid(text)}' is no month; write it as 2026-08.")
    return int(found[1] + found[2])


async def _archive(settings: Settings, month: int, to: Path, done: list[Archived]) -> None:
    with progress("Archiving") as advance:
        async with composition.running(settings) as broker:
            async for one in Archiving(broker, to, advance).before(month):
                done.append(one)  # noqa: PERF401 - what is done is told also if the next one fails


def _row(one: Archived) -> Item:
    return {"month": one.month, "file": str(one.file), "first": one.first, "events": one.events}


def verify(files: Sequence[Path], key: str | None, *, as_json: bool) -> None:
    """``broker record verify``."""
    if key is None:
        verifier = run_or_fail(_own_key(settings_of_process()))
    else:
        try:
            verifier = Verifier.read(key)
        except KeyUnreadable:
            fail("--key: is not what `broker record key` prints.")
    listing([_verified(ArchiveFile.named(path), verifier) for path in files], _COLUMNS, as_json)


def _verified(file: ArchiveFile, verifier: Verifier) -> Item:
    try:
        manifest = file.manifest(verifier)
        with progress(f"Verifying {file.lines.name}") as advance:
            for done in file.verified(manifest):
                advance(done, manifest.span.count)
    except ArchiveRefused as refused:
        fail(f"{file.lines if refused.line else file.note}: {refused}.")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}.")
    span = manifest.span
    return _row(Archived(span.month, file.lines, span.first, span.count))


def key() -> None:
    """``broker record key``."""
    line = run_or_fail(_own_key(settings_of_process())).line()
    tell(line, key=line)


async def _own_key(settings: Settings) -> Verifier:
    async with composition.running(settings) as broker:
        return broker.services.parts.keys.archives.verifier()
