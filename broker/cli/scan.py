"""``broker scan``: our keys in files, archives, logs and a repository's history."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console

from broker.cli.output import AsJson, listing
from broker.cli.session import call, send
from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.identity import IdentityUnusable, read
from broker.leaks import patterns, sources
from broker.leaks.candidates import Finder, Hit, scan
from broker.leaks.sources import GitFailed, Source

_AT_ONCE = 1_000
_TROUBLE = 2


class _Found(NamedTuple):
    """A candidate and what is known of it; ``ours`` None where nobody was asked."""

    where: str
    hit: Hit
    ours: bool | None = None
    match: dict[str, Any] | None = None

    def shown(self) -> dict[str, Any]:
        """For people and machines: never the key."""
        match = self.match or {}
        return {
            "where": self.where,
            "line": self.hit.line,
            "column": self.hit.column,
            "provider": self.hit.provider,
            "key": self.hit.masked,
            "ours": self.ours,
            **{name: match.get(name) for name in ("organization", "credential", "version", "state")},
        }


def run(
    path: Annotated[str, typer.Argument(help="A file or folder; - for standard input.")] = ".",
    history: Annotated[bool, typer.Option(help="Every object of the Git repository at PATH, also deleted.")] = False,
    staged: Annotated[bool, typer.Option(help="What is about to be committed in the repository at PATH.")] = False,
    offline: Annotated[bool, typer.Option(help="Only candidates, by their form; asks no broker.")] = False,
    providers: Annotated[Path | None, typer.Option(help="Folder of further provider files.")] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Ask as a job, with its file from `broker workload add`.")
    ] = None,
    expose: Annotated[bool, typer.Option(help="Cut off every key of ours that is found: it was exposed.")] = False,
    yes: Annotated[bool, typer.Option(help="Don't ask before cutting off.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find our keys where they should not be; ends with 1 where one is found, and 2 where the scan failed."""
    try:
        found = _scanned(path, history, staged, providers)
        if not offline:
            found = _recognised(found, identity)
        if expose:
            _expose(found, yes)
    except typer.Exit:
        raise typer.Exit(_TROUBLE) from None
    except (GitFailed, IdentityUnusable, CallFailed, OSError, ValueError) as error:
        typer.secho(f"error: {error}", err=True, fg="red")
        raise typer.Exit(_TROUBLE) from None
    wanted = [one for one in found if offline or one.ours]
    _print(wanted, as_json)
    raise typer.Exit(1 if wanted else 0)


def _scanned(path: str, history: bool, staged: bool, providers: Path | None) -> list[_Found]:
    finder = Finder(patterns.declared(providers))
    console = Console(stderr=True)
    found: list[_Found] = []
    if path != "-" and not Path(path).exists():
        raise FileNotFoundError(f"{path}: there is nothing; name a file, a folder, or - for standard input")
    with console.status("Scanning …") as status:
        for count, source in enumerate(_sources(path, history, staged, console), 1):
            try:
                found += [_Found(source.where, hit) for hit in scan(finder, source.stream)]
            except sources.UNREADABLE as error:  # what was packed turns out to be broken, or too much
                _skipped(console)(source.where, sources.said(error))
            if count % 50 == 0:
                status.update(f"Scanning … {count} files, {len(found)} candidates")
    return found


def _sources(path: str, history: bool, staged: bool, console: Console) -> Iterator[Source]:
    skipped = _skipped(console)
    if path == "-":
        return sources.unpacked(Source("-", sys.stdin.buffer), sources.Budget(), skipped)
    if history:
        return sources.history(Path(path), skipped)
    return sources.staged(Path(path), skipped) if staged else sources.files(Path(path), skipped)


def _skipped(console: Console) -> Callable[[str, str], None]:
    def skipped(where: str, why: str) -> None:
        console.print(f"skipped {where}: {why}", style="yellow", markup=False, highlight=False)

    return skipped


def _recognised(found: list[_Found], identity: Path | None) -> list[_Found]:
    """The candidates with what the broker knows of them; only their digests leave this machine."""
    asked: list[_Found] = []
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        candidates = [
            {"digest": one.hit.digest, "place": _printable(f"{one.where}:{one.hit.line}")[-200:]} for one in part
        ]
        answer = _ask({"candidates": candidates}, identity)
        asked += [
            one._replace(ours=match["ours"], match=match) for one, match in zip(part, answer["items"], strict=True)
        ]
    return asked


def _ask(body: dict[str, Any], identity: Path | None) -> dict[str, Any]:
    if identity is None:
        return call("POST", "/v1/leaks/check", json=body)
    with Client(read(identity)) as job:
        return send("POST", "/v1/leaks/check", json=body, headers={"Authorization": f"Bearer {job.token()}"})


def _expose(found: list[_Found], yes: bool) -> None:
    known = {
        (one.match["credential"], one.match["version"]): one
        for one in found
        if one.match is not None and one.match.get("credential")
    }
    for (credential, version), one in known.items():
        question = f"Cut off version {version} of {credential}, found at {one.where}?"
        if not yes and not typer.confirm(question, err=True):
            continue
        body = {
            "version": version,
            "found_by": "broker scan",
            "where": _printable(f"{one.where}:{one.hit.line}")[-200:],
        }
        call("POST", f"/v1/credentials/{credential}/exposure", json=body)
        typer.echo(f"Version {version} of {credential} is cut off.", err=True)


def _print(found: list[_Found], as_json: bool) -> None:
    if as_json:
        for one in found:
            typer.echo(json.dumps(one.shown()))
        return
    if not found:
        typer.echo("No key was found.")
        return
    rows = [{**one.shown(), "where": f"{one.where}:{one.hit.line}:{one.hit.column}"} for one in found]
    listing(rows, ["where", "provider", "key", "ours", "organization", "credential", "version", "state"], False)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
