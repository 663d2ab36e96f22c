"""``broker scan``: our keys in files, archives, logs and a repository's history."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any, NamedTuple, NoReturn, cast

import typer
from rich.console import Console

from broker.base.shown import shown
from broker.cli.api import call, client_proxy, send
from broker.cli.failing import fail
from broker.cli.output import AsJson, Columns, listing, say
from broker.cli.unfailing import unfailing
from broker.client.errors import CallFailed
from broker.leaks import patterns, repository, sources
from broker.leaks.candidates import Finder, Hit, scan
from broker.leaks.kept import GitFailed
from broker.leaks.sources import Skipped, Source
from broker.providers.recognition import MASK, masking

# The broker takes so many candidates in a request, and so many bytes.
_AT_ONCE = 200
_BODY_MAX = 60_000
_PLACE_MAX = 200
_TROUBLE = 2
# So many candidates are kept, and one file may fill half of the room that is left. No file system has longer names.
_KEPT_MAX = 200_000
_COLUMNS = Columns("where provider ours organization", "count key credential version state")
_NAME_MAX = 4_096


class _Found(NamedTuple):
    """A candidate, how often it is there, and what is known of it.

    ``ours`` is None if nobody was asked.  ``where`` is for people.  ``told`` is for the broker: in it, even what is
    hardly a key is masked.
    """

    where: str
    told: str
    hit: Hit
    times: int = 1
    ours: bool | None = None
    match: dict[str, Any] | None = None

    @property
    def location(self) -> str:
        """The place as the broker hears it; cut at the front, because the end says most."""
        return f"{self.told}:{self.hit.line}"[-_PLACE_MAX:]

    def candidates(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Each text that this may be, and the question to the broker about it."""
        often = {"count": self.times} if self.times > 1 else {}
        for text in (self.hit.text, *self.hit.readings):
            yield text, {"digest": hashlib.sha256(text).hexdigest(), "place": self.location, **often}

    def known(self, text: bytes, match: dict[str, Any]) -> _Found:
        """This candidate, which the broker knows: ``text`` is our key, and ``match`` says which."""
        return self._replace(where=self.told, hit=self.hit._replace(text=text), ours=True, match=match)

    def shown(self) -> dict[str, Any]:
        """The fields for people and machines, never the key."""
        match = self.match or {}
        return {
            "where": self.where,
            "line": self.hit.line,
            "column": self.hit.column,
            "count": self.times,
            "provider": self.hit.provider,
            "key": self.hit.masked,
            "ours": self.ours,
            **{name: match.get(name) for name in ("organization", "credential", "version", "state")},
        }


@dataclass(slots=True)
class _Scan:
    """What was found; ``whole`` is False if something could not be read."""

    masked: Callable[[str], str]
    console: Console
    found: list[_Found] = field(default_factory=list)
    whole: bool = True

    def skipped(self, where: str, why: str) -> None:
        """Say that something could not be read."""
        self.whole = False
        said = f"skipped {self._shown(where)}: {self._shown(why)}"
        self.console.print(said, style="yellow", markup=False, highlight=False, soft_wrap=True)

    def look(self, finder: Finder, source: Source) -> None:
        """Keep every hit as it comes: a packed file may turn out to be broken, or too large."""
        hits: dict[bytes, tuple[Hit, int]] = {}  # each key once, at its first place
        room = (_KEPT_MAX - len(self.found)) // 2
        try:
            for hit in scan(finder, source.stream):
                if len(hits) >= room and hit.text not in hits:
                    raise ValueError(f"holds more than {room} candidates")
                first, count = hits.get(hit.text, (hit, 0))
                hits[hit.text] = (first if first.sure or not hit.sure else hit, count + 1)
        except sources.UNREADABLE as error:
            self.skipped(source.where, sources.said(error))
        if not hits:
            return
        where = told = self._shown(source.where)
        for hit, _ in hits.values():
            if hit.beginning not in told:
                continue
            for text in (hit.text, *reversed(hit.readings)):
                told = told.replace(text.decode("ascii"), MASK)
                where = where.replace(text.decode("ascii"), MASK) if hit.sure else where
        self.found += [_Found(where, told, hit, count) for hit, count in hits.values()]

    def _shown(self, text: str) -> str:
        """A name fit to show: it may be a key itself, steer a terminal, or be made to take long."""
        if len(text) > _NAME_MAX:
            outer = text.partition("!")[0]
            text = f"{outer if len(outer) < _NAME_MAX else ''}!… ({len(text)} characters)"
        return self.masked(shown(text))


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("scan")(run)


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

    Ends with 1 where one is found; with 2 where none is but something could not be read, or the scan failed, or not
    all could be shown.
    """
    from broker.client.identity import IdentityUnusable  # noqa: PLC0415 - help and completion need no cryptography

    with unfailing() as streams:
        if expose and (offline or identity is not None):
            _fail("--expose needs an operator's account: leave out --offline and --identity.")
        try:
            done = scanned(path, history, staged, providers)
            # If a candidate hardly looks like a key, only the broker can tell.
            found = [one for one in done.found if one.hit.sure] if offline else _recognised(done.found, identity)
        except typer.Exit:
            raise typer.Exit(_TROUBLE) from None
        except (IdentityUnusable, CallFailed, OSError, ValueError) as error:
            _fail(str(error))
        wanted = [one for one in found if offline or one.ours]
        well = not expose or _expose(wanted, yes)  # this comes first, as nobody may be there to see what is shown
        if not (history or staged) and (Path(path) / ".git").exists():
            say("This is the working tree alone; --history looks at everything that the repository holds.", err=True)
        _print(wanted, done.whole, as_json)
    if streams.lost or not well:
        raise typer.Exit(_TROUBLE)
    if wanted:
        raise typer.Exit(1)
    raise typer.Exit(0 if done.whole else _TROUBLE)


def _fail(text: str) -> NoReturn:
    fail(text, _TROUBLE, "not_scanned")


def scanned(path: str, history: bool, staged: bool, providers: Path | None) -> _Scan:
    """What stands in a file, a folder or a repository; raises FileNotFoundError."""
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
        except (GitFailed, *sources.UNREADABLE) as error:  # what was found before is shown all the same
            done.skipped(path, str(error))
    return done


def _sources(path: str, history: bool, staged: bool, skipped: Skipped) -> Iterator[Source]:
    if path == "-":
        return sources.whole(Source("-", cast("BufferedIOBase", sys.stdin.buffer)), skipped)
    if history:
        return repository.history(Path(path), skipped)
    return repository.staged(Path(path), skipped) if staged else sources.files(Path(path), skipped)


def _recognised(found: list[_Found], identity: Path | None) -> list[_Found]:
    """The candidates with what the broker knows of them.

    Only digests leave this machine.  One that isn't ours is asked about once.
    """
    known, foreign = [one._replace(ours=False) for one in found], set[str]()
    for part in _parts(found, foreign):
        answer = _ask({"candidates": [candidate for _, _, candidate in part]}, identity)
        for (number, text, _), match in zip(part, answer["items"], strict=True):
            if match["ours"]:
                known[number] = known[number].known(text, match)
            else:
                foreign.add(match["digest"])
    return known


_Asked = tuple[int, bytes, dict[str, Any]]


def _parts(found: list[_Found], foreign: Container[str]) -> Iterator[list[_Asked]]:
    """The questions, in parts that fit into one request each.

    Each has the number of a candidate, a text that it may be, and what the broker is asked.
    """
    part: list[_Asked] = []
    size = 0
    for number, one in enumerate(found):
        for text, candidate in one.candidates():
            if candidate["digest"] in foreign:
                continue
            long = len(json.dumps(candidate))
            if part and (len(part) >= _AT_ONCE or size + long > _BODY_MAX):
                yield part
                part, size = [], 0
            part.append((number, text, candidate))
            size += long + 1
    if part:
        yield part


def _ask(body: dict[str, Any], identity: Path | None) -> dict[str, Any]:
    if identity is None:
        return call("POST", "/v1/leaks/check", json=body)
    from broker.client.client import Client  # noqa: PLC0415 - as in `run`
    from broker.client.identity import read  # noqa: PLC0415 - as in `run`

    with Client(read(identity), proxy=client_proxy()) as job:
        return send("POST", "/v1/leaks/check", json=body, headers={"Authorization": f"Bearer {job.token()}"})


def _expose(found: list[_Found], yes: bool) -> bool:
    """Ask for each key if it shall be cut off, and do so.

    If one can't be cut off, the others still are.

    Returns:
        Whether all went well.
    """
    known = {
        (one.match["credential"], one.match["version"]): one
        for one in found
        if one.match is not None and one.match.get("credential")
    }
    ends: list[tuple[str, bool]] = []
    for (credential, version), one in known.items():
        question = f"Cut off version {version} of {credential}, found at {one.where}?"
        if not yes and not _confirmed(question):
            continue
        body = {"version": version, "found_by": "broker scan", "where": one.location}
        try:
            call("POST", f"/v1/credentials/{credential}/exposure", json=body)
        except typer.Exit:  # the reason is already printed
            ends.append((f"Version {version} of {credential} is NOT cut off.", False))
        else:
            ends.append((f"Version {version} of {credential} is cut off.", True))
    for text, well in ends:
        say(text, err=True, fg=None if well else "red")
    return all(well for _, well in ends)


def _confirmed(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # nobody is there to ask, but the findings still have to be shown
        return False


def _print(found: list[_Found], whole: bool, as_json: bool) -> None:
    if as_json:
        listing([one.shown() for one in found], _COLUMNS, as_json)
        return
    if not found:
        typer.echo("No key was found." if whole else "No key was found in what could be read.")
        return
    rows = [{**one.shown(), "where": f"{one.where}:{one.hit.line}:{one.hit.column}"} for one in found]
    listing(rows, _COLUMNS, as_json)
