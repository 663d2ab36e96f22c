"""``broker provider``: the upstreams that are declared."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from broker.cli.api import call, pages
from broker.cli.failing import fail
from broker.cli.lists import prints_list
from broker.cli.output import AsJson, Columns, Item, say, show

if TYPE_CHECKING:
    from broker.providers.definition import Definition

app = typer.Typer(no_args_is_help=True, help="Upstreams, declared in TOML.")


@app.command("list")
@prints_list(Columns("id title", "base_url placement rotation_days"))
def list_() -> Iterable[Item]:
    """The upstreams that the broker knows."""
    return pages("/v1/providers")


@app.command("show")
def show_(
    provider: Annotated[str, typer.Argument(help="Its id; `broker provider list` shows it.")], as_json: AsJson = False
) -> None:
    """One upstream."""
    show(call("GET", f"/v1/providers/{provider}"), as_json)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="The provider file, in TOML.")],
    offline: Annotated[bool, typer.Option("--offline", help="Don't ask the host for its certificate.")] = False,
    variable: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE of a part of the host, to ask a customer's; may be repeated.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a provider file, and whether its host's certificate is trusted; says what is wrong, and the fix.

    No key is sent to the host.
    """
    # The schema comes with the server's parts, which a job's machine may lack.
    try:
        from broker.base.errors import Invalid  # noqa: PLC0415 - see above
        from broker.base.outbound import Unreachable, Untrusted  # noqa: PLC0415 - see above
        from broker.providers import catalog  # noqa: PLC0415 - see above
    except ImportError:
        fail("Checking provider files needs the server's parts: install keybroker[server].")
    try:
        definition = catalog.check(file)
    except catalog.ProviderInvalid as error:
        _wrong(error.public, as_json)
    values = dict(text.partition("=")[::2] for text in variable or [])
    if not offline and (values or not definition.host.variables):
        try:
            asyncio.run(_asked(definition, values))
        except Invalid as error:
            fail(f"--{error.public.replace('variables.', 'variable ')}")
        except Untrusted as error:
            fix = "name another authority" if definition.host.ca_file else "where it is a private one's, name that"
            _wrong(f"{file.name}: host.ca_file: the host's certificate is not trusted: {error}; {fix}", as_json)
        except Unreachable as error:
            say(f"Its host could not be asked for its certificate ({error}).", err=True)
    say(json.dumps({"valid": True, "id": definition.id}) if as_json else f"{file}: {definition.title} is valid.")


def _wrong(lines: str, as_json: bool) -> NoReturn:
    if as_json:
        typer.echo(json.dumps({"valid": False, "faults": lines.splitlines()}))
        raise typer.Exit(1)
    fail(lines)


async def _asked(definition: Definition, values: Mapping[str, str]) -> None:
    """Ask the host for anything, without a key.

    Raises:
        Unreachable, Untrusted: it can't be asked. Invalid: part of its address can't be used.
    """
    from broker.base.outbound import Outbound  # noqa: PLC0415 - as above

    host, outbound = definition.host, Outbound(connect_timeout=5, total_timeout=10)
    try:
        async with outbound.call("HEAD", definition.url(values), headers=(), private=host.private, tls=host.tls):
            pass
    finally:
        await outbound.close()
