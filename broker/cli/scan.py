"""``broker scan``: our keys in files, archives, logs and a repository's history."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, cast

import typer
from rich.console import Console

from broker.base.shown import shown
from broker.cli.output import AsJson, listing, say
from broker.cli.session import call, client_proxy, send
from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.identity import IdentityUnusable, read
from broker.leaks import patterns, repository, sources
from broker.leaks.candidates import Finder, Hit, scan
from broker.leaks.repository import GitFailed
from broker.leaks.sources import Skipped, Source
from broker.providers.sighting import MASK, masking

# So many candidates fit into a request with the longest places, whatever these are written in.
_AT_ONCE = 50
_PLACE_MAX = 200
_TROUBLE = 2


class _Found(NamedTuple):
    """A candidate and what is known of it; ``ours`` None where nobody was asked."""

    where: str
    hit: Hit
    ours: bool | None = None
    match: dict[str, Any] | None = None

    @property
    def place(self) -> str:
        """For the broker: the end of it says most."""
        return f"{self.where}:{self.hit.line}"[-_PLACE_MAX:]

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


@dataclass(slots=True)
class _Scan:
    """What was found; ``whole`` False where something could not be read, which was told."""

    masked: Callable[[str], str]
    console: Console
    found: list[_Found] = field(default_factory=list)
    whole: bool = True

    def skipped(self, where: str, why: str) -> None:
        """Tell what could not be read."""
        self.whole = False
        said = f"skipped {self._shown(where)}: {self._shown(why)}"
        self.console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def look(self, finder: Finder, source: Source) -> None:
        """Keep every hit as it comes: what was packed may turn out to be broken, or too much."""
        hits: list[Hit] = []
        try:
            hits.extend(scan(finder, source.stream))
        except sources.UNREADABLE as error:
            self.skipped(source.where, sources.said(error))
        where = self._shown(source.where)
        for text in {hit.text.decode("ascii") for hit in hits}:
            where = where.replace(text, MASK)
        self.found += [_Found(where, hit) for hit in hits]

    def _shown(self, text: str) -> str:
        """A name may be a key itself, or steer a terminal."""
        return self.masked(shown(text))


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
    """Find our keys where they should not be.

    Ends with 1 where one is found; with 2 where none is but something could not be read, or the scan failed.
    """
    if expose and (offline or identity is not None):
        _fail("--expose needs an operator's account: leave out --offline and --identity.")
    try:
        done = _scanned(path, history, staged, providers)
        found = done.found if offline else _recognised(done.found, identity)
    except typer.Exit:
        raise typer.Exit(_TROUBLE) from None
    except (IdentityUnusable, CallFailed, OSError, ValueError) as error:
        _fail(str(error))
    wanted = [one for one in found if offline or one.ours]
    _print(wanted, done.whole, as_json)
    if expose and not _expose(wanted, yes):
        raise typer.Exit(_TROUBLE)
    if wanted:
        raise typer.Exit(1)
    raise typer.Exit(0 if done.whole else _TROUBLE)


def _fail(text: str) -> NoReturn:
    say(f"error: {text}", err=True, fg="red")
    raise typer.Exit(_TROUBLE)


def _scanned(path: str, history: bool, staged: bool, providers: Path | None) -> _Scan:
    declared = patterns.declared(providers)
    finder, console = Finder(declared), Console(stderr=True)
    done = _Scan(masking(one.pattern for one in declared), console)
    if path != "-" and not Path(path).exists():
        raise FileNotFoundError(f"{path}: there is nothing; name a file, a folder, or - for standard input")
    with console.status("Scanning …") as status:
        try:
            for count, source in enumerate(_sources(path, history, staged, done.skipped), 1):
                done.look(finder, source)
                if count % 50 == 0:
                    status.update(f"Scanning … {count} files, {len(done.found)} candidates")
        except (GitFailed, *sources.UNREADABLE) as error:  # what was found until then is told all the same
            done.skipped(path, str(error))
    return done


def _sources(path: str, history: bool, staged: bool, skipped: Skipped) -> Iterator[Source]:
    if path == "-":
        return sources.whole(Source("-", cast("BufferedIOBase", sys.stdin.buffer)), skipped)
    if history:
        return repository.history(Path(path), skipped)
    return repository.staged(Path(path), skipped) if staged else sources.files(Path(path), skipped)


def _recognised(found: list[_Found], identity: Path | None) -> list[_Found]:
    """The candidates with what the broker knows of them; only their digests leave this machine."""
    asked: list[_Found] = []
    for start in range(0, len(found), _AT_ONCE):
        part = found[start : start + _AT_ONCE]
        answer = _ask({"candidates": [{"digest": one.hit.digest, "place": one.place} for one in part]}, identity)
        asked += [
            one._replace(ours=match["ours"], match=match) for one, match in zip(part, answer["items"], strict=True)
        ]
    return asked


def _ask(body: dict[str, Any], identity: Path | None) -> dict[str, Any]:
    if identity is None:
        return call("POST", "/v1/leaks/check", json=body)
    with Client(read(identity), proxy=client_proxy()) as job:
        return send("POST", "/v1/leaks/check", json=body, headers={"Authorization": f"Bearer {job.token()}"})


def _expose(found: list[_Found], yes: bool) -> bool:
    """Cut off what is ours, asking first; whether all went well.  One that fails keeps no other one in use."""
    known = {
        (one.match["credential"], one.match["version"]): one
        for one in found
        if one.match is not None and one.match.get("credential")
    }
    well = True
    for (credential, version), one in known.items():
        question = f"Cut off version {version} of {credential}, found at {one.where}?"
        if not yes and not typer.confirm(question, err=True):
            continue
        body = {"version": version, "found_by": "broker scan", "where": one.place}
        try:
            call("POST", f"/v1/credentials/{credential}/exposure", json=body)
        except typer.Exit:  # why was told
            say(f"Version {version} of {credential} is NOT cut off.", err=True, fg="red")
            well = False
            continue
        say(f"Version {version} of {credential} is cut off.", err=True)
    return well


def _print(found: list[_Found], whole: bool, as_json: bool) -> None:
    if as_json:
        for one in found:
            typer.echo(json.dumps(one.shown()))
        return
    if not found:
        typer.echo("No key was found." if whole else "No key was found in what could be read.")
        return
    rows = [{**one.shown(), "where": f"{one.where}:{one.hit.line}:{one.hit.column}"} for one in found]
    listing(rows, ["where", "provider", "key", "ours", "organization", "credential", "version", "state"], False)
