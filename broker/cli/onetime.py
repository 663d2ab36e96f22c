"""The one-time token that an admin begins with.

Whoever starts the broker gets it, and no log does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from broker import app as composition
from broker.app import Broker
from broker.base import closed
from broker.cli.output import tell, tell_beside
from broker.cli.process import run_or_fail, settings_of_process
from broker.config import Settings

_FIRST = "There is no operator yet. Within 24 hours, make the first admin"
_SECOND = "Every operator is told.  Within 24 hours, somebody becomes an admin, whom no account made,"
_GIVEN_OUT = (
    "\nThere is no operator yet. The one-time token for the first admin was given out by an earlier start or "
    "`broker migrate`,\npossibly on another replica; `broker operator recover` gives out a new one, which ends "
    "that one.\n"
)


def recover() -> None:
    """``broker operator recover``: give one out, whoever has an account."""
    settings = settings_of_process()

    async def run() -> None:
        async with composition.running(settings) as broker:
            if given := await _given(broker, settings, replace=True):
                tell(given.text, **given.facts)

    run_or_fail(run())


@dataclass(frozen=True, slots=True)
class _Given:
    """What is said of a token: to people, and to machines."""

    text: str
    facts: Mapping[str, str]


async def offer(broker: Broker, settings: Settings, *, replace: bool = False) -> None:
    """Give out the one-time token for the first operator, or say what became of it.

    If there is an operator already, this does neither.  With ``replace`` a token is always given out: then it is for a
    second person if there are operators.
    """
    if given := await _given(broker, settings, replace=replace):
        tell_beside(given.text)


async def _given(broker: Broker, settings: Settings, *, replace: bool) -> _Given | None:
    first = not await composition.has_operators(broker.services)
    token = await composition.bootstrap_token(broker.services, replace=replace)
    if token is not None:
        return _give(token, settings, _FIRST if first else _SECOND)
    if not await composition.awaits_bootstrap(broker.services):  # it was used over another replica, or has expired
        _remove(settings)
    elif first:
        return _Given(_GIVEN_OUT, {})
    return None


def _give(token: str, settings: Settings, who: str) -> _Given:
    """Print the token if standard output is a terminal, else put it into a file.

    Anything but a terminal, such as a journal or a container's log, is kept.
    """
    begin = _command(settings)
    if sys.stdout.isatty():
        _remove(settings)
        text = f"\n{who} with this one-time token:\n\n  {token}\n\n  {begin}   (and paste the token)\n"
        return _Given(text, {"token": token, "command": begin})
    file = settings.one_time_token_file()
    again = "`broker operator recover`, on a terminal, prints another one instead.\n"
    try:
        closed.replace(file, f"{token}\n".encode())
    except OSError as error:
        return _Given(f"\n{who} with a one-time token.\n{file} can't be written ({error.strerror}); {again}", {})
    text = f"\n{who} with the one-time token in {file}:\n\n  {begin} < {file}\n\n{again}"
    return _Given(text, {"token_file": str(file), "command": begin})


def _command(settings: Settings) -> str:
    """The command that makes the admin, by the broker's address on this machine.

    A site before the broker may hand no one-time token on.
    """
    url = settings.public_url
    if url.startswith("http:"):
        return f"BROKER_URL={url} broker operator bootstrap --name YOU"
    return f"BROKER_URL=http://127.0.0.1:{settings.port} broker operator bootstrap --name YOU --for {url}"


def _remove(settings: Settings) -> None:
    """Take away the file of a token that does nothing any more."""
    with suppress(OSError):
        settings.one_time_token_file().unlink()
