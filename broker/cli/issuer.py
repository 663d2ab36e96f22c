"""``broker issuer``: who signs the tokens that jobs bring."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from broker.cli.api import call, pages
from broker.cli.asking import Yes, insist
from broker.cli.failing import fail
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, show, tell_beside
from broker.cli.saving import keep

if TYPE_CHECKING:
    from broker.issuers.files import IssuerFile
    from broker.issuers.published import Published

app = typer.Typer(no_args_is_help=True, help="Who signs the tokens that jobs bring, declared in TOML.")

Issuer = Annotated[str, typer.Argument(help="Its id; `broker issuer list` shows it.")]
Reason = Annotated[str, typer.Option(help="For the record.")]
Offline = Annotated[bool, typer.Option("--offline", help="Don't ask for its keys.")]

_DIRECTORY = "BROKER_ISSUERS_DIR"


@app.command("list")
@prints_list(Columns("id state title", "issuer audience answered_at failing_since"))
def list_() -> Iterable[Item]:
    """The issuers that the broker knows, and whether their tokens count."""
    return pages("/v1/issuers")


@app.command("show")
def show_(issuer: Issuer, as_json: AsJson = False) -> None:
    """One issuer, and what a trust in its tokens has to bind."""
    _show(call("GET", f"/v1/issuers/{issuer}"), as_json)


def _show(found: Item, as_json: bool) -> None:
    """Print an issuer; people read which claims stand for each other."""
    show(found if as_json else {**found, "required": [" or ".join(group) for group in found["required"]]}, as_json)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The issuer's file, in TOML.")],
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Check an issuer's file, and whether its keys can be had from here; says what is wrong, and the fix."""
    _insist_on_the_server()
    from broker.issuers import files  # noqa: PLC0415 - a job's machine may lack the server's parts

    try:
        one = files.check(file)
    except files.IssuersUnusable as wrong:
        _wrong(str(wrong), as_json)
    keys = None if offline else _keys(one, str(file), as_json)
    if as_json:
        say(json.dumps({"valid": True, "id": one.id, **_published(keys)}))
    else:
        say(f"{file}: {one.id} ({one.kind.title}) is valid{_counted(keys)}.")


@app.command()
def add(
    preset: Annotated[str, typer.Argument(help="Its platform, such as kubernetes; oidc for one that isn't known.")],
    id_: Annotated[str, typer.Option("--id", help="What trusts call it, such as prod-cluster.")],
    issuer: Annotated[str, typer.Option(help="What `iss` of its tokens has, to the last slash; SPIFFE: spiffe://…")],
    audience: Annotated[str, typer.Option(help="What its tokens are for; left out, the broker's address.")] = "",
    jwks: Annotated[Path | None, typer.Option(help="A file with its keys, where nobody can ask it.")] = None,
    keys_url: Annotated[str, typer.Option(help="Where its keys are, where it doesn't say so itself.")] = "",
    host: Annotated[list[str] | None, typer.Option(help="Another host for its keys; may be repeated.")] = None,
    private: Annotated[bool, typer.Option("--private", help="Its host has a private address.")] = False,
    ca_file: Annotated[str, typer.Option(help="The authority that vouches for its host, on the server.")] = "",
    bearer_file: Annotated[str, typer.Option(help="A token to ask it with, on the server.")] = "",
    shared: Annotated[bool, typer.Option("--shared", help="It signs for everybody on its platform.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; left out, standard output.")] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Write the file that declares an issuer, once it was checked and asked for its keys."""
    _insist_on_the_server()
    text = _toml(
        {"id": id_, "version": 1, "preset": preset, "issuer": issuer, "audience": audience, "shared": shared},
        {
            "from": "file" if jwks else "url" if keys_url else "discovery",
            "url": keys_url,
            "file": jwks.name if jwks else "",
            "hosts": host or [],
            "private": private,
            "ca_file": ca_file,
            "bearer_file": bearer_file,
        },
    )
    name = f"{id_}.toml"
    one = _drafted(text, (jwks.parent if jwks else Path()) / name, as_json)
    keys = None if offline else _keys(one, name, as_json)
    if out is not None or not as_json:
        keep(out, text.encode())
    if as_json:
        say(json.dumps({"id": one.id, "file": str(out) if out else None, "toml": text, **_published(keys)}))
    beside = f", and {jwks} beside it" if jwks else ""
    where = str(out) if out else "this"
    tell = f"{one.id} is valid{_counted(keys)}. Put {where} into the folder that {_DIRECTORY} names{beside}, on every "
    say(f"{tell}server, and restart the brokers.", err=True)


def _insist_on_the_server() -> None:
    try:
        import pydantic  # noqa: F401, PLC0415 - the server's
    except ImportError:
        fail("Checking issuers' files needs the server's parts: install keybroker[server].")


def _toml(top: dict[str, Any], keys: dict[str, Any]) -> str:
    """A file of these fields, without those that say nothing."""
    lines = [f"{name} = {_value(value)}" for name, value in top.items() if value]
    told = [f"{name} = {_value(value)}" for name, value in keys.items() if value and value != "discovery"]
    return "\n".join(lines + (["", "[keys]", *told] if told else [])) + "\n"


def _value(value: str | int | list[str]) -> str:
    # TOML's texts, whole numbers, truths and lists are JSON's, but for pairs of surrogates.
    return json.dumps(value, ensure_ascii=False)


def _drafted(text: str, file: Path, as_json: bool) -> IssuerFile:
    from broker.issuers import files  # noqa: PLC0415 - as in `check`

    try:
        return files.draft(text, file)
    except files.IssuersUnusable as wrong:
        _wrong(str(wrong), as_json)


def _keys(one: IssuerFile, named: str, as_json: bool) -> Published:
    """The keys that the issuer publishes; ends the command if it gives none."""
    from broker.issuers.fetching import NotHad  # noqa: PLC0415 - as in `check`

    try:
        return asyncio.run(_asked(one))
    except NotHad as fault:
        _wrong(f"{named}: keys: they can't be had from here: {fault}; fix that, or add --offline", as_json)


async def _asked(one: IssuerFile) -> Published:
    from broker.base.clock import now_ms  # noqa: PLC0415 - as in `check`
    from broker.base.outbound import Outbound  # noqa: PLC0415 - as in `check`
    from broker.issuers.issuer import Issuer as Asked  # noqa: PLC0415 - as in `check`

    outbound = Outbound(connect_timeout=5, total_timeout=10)
    try:
        return await Asked(one.declared, outbound, now_ms).ask()
    finally:
        await outbound.close()


def _published(keys: Published | None) -> dict[str, Any]:
    if keys is None:
        return {"keys": None, "dropped": None}
    return {"keys": list(keys.names), "dropped": dict(keys.dropped)}


def _counted(keys: Published | None) -> str:
    """What was heard of its keys, for the end of a sentence."""
    if keys is None:
        return ""
    names = [name or "one without a name" for name in keys.names]
    dropped = sum(keys.dropped.values())
    left = f"; {dropped} of other kinds are left aside" if dropped else ""
    return f", and its keys are there: {', '.join(names)}{left}"


def _wrong(lines: str, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"valid": False, "faults": lines.splitlines()}))
        raise typer.Exit(1)
    fail(lines)


@app.command()
def refresh(issuer: Issuer, as_json: AsJson = False) -> None:
    """Have every broker ask an issuer for its keys again: one that it withdrew verifies nothing any more."""
    found = call("POST", f"/v1/issuers/{issuer}/refresh")
    if found["failing_since"]:
        tell_beside("It gave no usable answer; what it said before stays. The broker's log says why.")
    _show(found, as_json)


@app.command()
def suspend(issuer: Issuer, reason: Reason = "", yes: Yes = False, as_json: AsJson = False) -> None:
    """Have no token of an issuer count: what they proved ends, and calls in flight are cut."""
    insist(
        f"Cutting off what tokens of {issuer} proved",
        "Every such access token and lease ends, and no token of it counts until `broker issuer resume`.",
        yes=yes,
    )
    _show(call("POST", f"/v1/issuers/{issuer}/suspend", json={"reason": reason}), as_json)


@app.command()
def resume(issuer: Issuer, reason: Reason = "", as_json: AsJson = False) -> None:
    """Have an issuer's tokens count again."""
    _show(call("POST", f"/v1/issuers/{issuer}/resume", json={"reason": reason}), as_json)
