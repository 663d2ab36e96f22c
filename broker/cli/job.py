"""A job's own calls from the command line: as whom, by what way, and how they end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from broker.base import variables
from broker.cli.api import PROXY
from broker.cli.failing import fail, fail_call
from broker.client.errors import CallFailed

if TYPE_CHECKING:
    from broker.client.client import Client
    from broker.client.identity import Identity
    from broker.client.keyless import KeylessIdentity

Proxy = Annotated[
    str | None,
    typer.Option(
        "--proxy", envvar=PROXY, help="HTTP proxy that leads to the broker; http_proxy and its like are not read."
    ),
]
Told = TypeVar("Told")


def as_job(who: Identity | KeylessIdentity, proxy: str | None, work: Callable[[Client], Told]) -> Told:
    """What ``work`` returns for the job's client; ends the command, and says why, if it can't."""
    with client_of(who, proxy) as client:
        return work(client)


@contextmanager
def client_of(who: Identity | KeylessIdentity, proxy: str | None) -> Iterator[Client]:
    """The job's client; ends the command, and says why, if it can't be had or its call fails."""
    # Help and completion need no client.
    from broker.client.client import Client  # noqa: PLC0415 - see above
    from broker.client.connecting import ProxyUnusable  # noqa: PLC0415 - see above

    try:
        with Client(who, proxy=proxy) as client:
            yield client
    except ProxyUnusable as error:
        fail(str(error))
    except CallFailed as error:
        fail_call(error)


def usable(file: Path, *, registered: bool = True) -> Identity | KeylessIdentity:
    """The identity in that file, at BROKER_URL if that is set.

    Ends the command if it cannot be used.  ``registered`` is False for one that has no id yet.
    """
    from broker.client.identity import IdentityUnusable, read  # noqa: PLC0415 - as in `client_of`

    try:
        return read(file, broker=os.environ.get(variables.URL) or None, registered=registered)
    except IdentityUnusable as error:
        fail(str(error))


def usable_key(file: Path, *, registered: bool = True) -> Identity:
    """The same for a job that has a key; ends the command if it has none."""
    from broker.client.identity import Identity  # noqa: PLC0415 - as in `client_of`

    found = usable(file, registered=registered)
    if not isinstance(found, Identity):
        fail(f"{file}: its job proves who it is by its platform's token, and has no key; name another file.")
    return found
