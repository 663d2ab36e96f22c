"""``broker login --device``: a person types a code into a browser elsewhere (RFC 8628)."""

from __future__ import annotations

import sys
import time
from typing import Any, Final

import typer

from broker.base.pairing import DEVICE_CLIENT, DEVICE_GRANT
from broker.cli.api import post_form
from broker.cli.failing import fail, fail_call
from broker.cli.output import say
from broker.client.errors import CallFailed

# So much longer the command waits each time that it is told to, or isn't answered (RFC 8628 §3.5).
_LONGER_S: Final = 5


def token_by_code() -> str:
    """The token of a session that a person allows elsewhere; ends the command if nobody does."""
    try:
        asked = post_form("/oauth/device_authorization", client_id=DEVICE_CLIENT)
    except CallFailed as error:
        fail_call(error)
    say(f"Open this in a browser, on any machine, and sign in:\n\n{asked['verification_uri']}\n")
    say(f"Type this code there, and give it to nobody: {asked['user_code']}\n")
    return _wait(asked)


def _wait(asked: dict[str, Any]) -> str:
    apart, until = asked["interval"], time.monotonic() + asked["expires_in"]
    while True:
        _pause(apart, until)
        if time.monotonic() >= until:
            _end_line()
            fail("Nobody typed the code in its time; run `broker login --device` again.")
        try:
            given = post_form(
                "/oauth/token", grant_type=DEVICE_GRANT, client_id=DEVICE_CLIENT, device_code=asked["device_code"]
            )
        except CallFailed as error:
            if error.code == "slow_down" or error.transient:
                apart += _LONGER_S
            elif error.code != "authorization_pending":
                _end_line()
                fail_call(error)
        else:
            _end_line()
            return str(given["access_token"])


def _pause(seconds: float, until: float) -> None:
    """Wait, and let a person at a terminal see that, and for how long the code still works."""
    over = min(time.monotonic() + seconds, until)
    while (now := time.monotonic()) < over:
        if sys.stderr.isatty():
            typer.echo(f"\rWaiting for the browser … {int(until - now):3d} s ", err=True, nl=False)
        time.sleep(min(over - now, 1))


def _end_line() -> None:
    if sys.stderr.isatty():
        say("", err=True)
