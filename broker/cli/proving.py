"""How a command proves whose it is: by a job's identity file, or by its platform's token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer._click.exceptions import UsageError

from broker.base import variables
from broker.cli.failing import fail, fail_call
from broker.cli.job import usable
from broker.cli.signature import Options, take_options
from broker.client.errors import CallFailed

if TYPE_CHECKING:
    from broker.client.identity import Identity
    from broker.client.keyless import KeylessIdentity

_FORM: Options = {
    "identity": (
        Annotated[
            Path | None,
            typer.Option(
                "--identity",
                envvar=variables.IDENTITY,
                help="The job's file, as `broker workload add` writes it.",
            ),
        ],
        None,
    ),
    "ambient": (
        Annotated[
            bool, typer.Option("--ambient", help="Instead of a key: the token of the platform that this runs on.")
        ],
        False,
    ),
    "token_from": (
        Annotated[
            str,
            typer.Option(
                metavar="SOURCE",
                help="The same from file:PATH, env:NAME, spiffe-file:PATH, github, gcp, azure or aws.",
            ),
        ],
        "",
    ),
    "workload": (
        Annotated[str, typer.Option(envvar=variables.WORKLOAD, help="The job's id, wkl_…, where no file has it.")],
        "",
    ),
    "audience": (
        Annotated[str, typer.Option(help="Whom the platform's token is for; default the broker's address.")],
        "",
    ),
}


@dataclass(frozen=True, slots=True)
class Job:
    """What a command line says of the job whose command it is."""

    file: Path | None
    ambient: bool
    token_from: str
    workload: str
    audience: str

    def who(self) -> Identity | KeylessIdentity:
        """The job; ends the command, and says why, if it can't prove who it is."""
        if not self.ambient and not self.token_from:
            return self._of_file()
        from broker.client.identity import IdentityUnusable  # noqa: PLC0415 - help needs no client

        try:
            return self._surrounded() if self.file is None else self._without_key(self.file)
        except IdentityUnusable as error:
            fail(str(error))
        except CallFailed as error:
            fail_call(error)

    def _of_file(self) -> Identity | KeylessIdentity:
        if self.file is None:
            raise UsageError(
                "Say whose command this is: --identity FILE, or --ambient with --workload where the job's platform "
                "gives it tokens."
            )
        if self.audience:
            raise UsageError("--audience goes with --ambient or --token-from.")
        return usable(self.file)

    def _surrounded(self) -> KeylessIdentity:
        from broker.client import ambience  # noqa: PLC0415 - likewise

        return ambience.identity(workload=self.workload, token_from=self.token_from, audience=self.audience)

    def _without_key(self, file: Path) -> KeylessIdentity:
        """The job of the file, with another source where the line names one."""
        from broker.client import ambience  # noqa: PLC0415 - likewise
        from broker.client.keyless import KeylessIdentity  # noqa: PLC0415 - likewise

        found = usable(file)
        if not isinstance(found, KeylessIdentity):
            fail(f"{file}: has a private key, which proves who the job is: leave the file out, or --ambient.")
        if self.workload and self.workload != found.client_id:
            fail(f"{file}: is another job's than --workload or {variables.WORKLOAD}: leave one of them out.")
        source = ambience.source_named(self.token_from) if self.token_from else found.source
        return replace(found, source=source, audience=self.audience or found.audience)


def proves_itself(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say whose it is; it gets them as ``_job``."""

    @wraps(command)
    def proving(
        identity: Path | None, ambient: bool, token_from: str, workload: str, audience: str, **options: Any
    ) -> None:
        command(_job=Job(identity, ambient, token_from, workload, audience), **options)

    take_options(proving, command, before=_FORM)
    return proving
