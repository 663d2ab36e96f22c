"""``broker login``: who you are, by a browser, by a one-time link, or by a token.

The browser's way is RFC 8252: the broker's own page asks the person, then sends the browser to a port of this machine
with a code that only this process can redeem (RFC 7636).  So the identity provider never hears of the command line.
"""

from __future__ import annotations

import re
import secrets
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import typer

from broker.base.pairing import challenge_of, code_of
from broker.cli.account import AccountUnusable, account_file, remember
from broker.cli.api import broker_url, send
from broker.cli.by_code import token_by_code
from broker.cli.failing import fail
from broker.cli.operator import insist_on_keeping, read_secret
from broker.cli.output import AsJson, say, tell
from broker.cli.whose import fit_to_send

WAIT_S: Final = 300
_LINK = re.compile(r"kbe_[A-Za-z0-9_-]{49}")
_ANSWER = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Keybroker</title>"
    "<p>{}</p><p>You can close this window.</p></html>"
)


def register(app: typer.Typer) -> None:
    """Add this command to ``app``."""
    app.command()(login)


def login(
    device: Annotated[
        bool, typer.Option("--device", help="By a code, in a browser on another machine; the broker has to allow it.")
    ] = False,
    _as_json: AsJson = False,
) -> None:
    """Sign in, in the browser.  A one-time link or a machine's token on standard input is taken instead."""
    if device:
        insist_on_keeping()
        _keep_by_code(token_by_code())
        return
    if sys.stdin.isatty():
        insist_on_keeping()
        _keep_session(_by_browser())
        return
    given = read_secret("A one-time link or a token")
    if found := _LINK.search(given):
        insist_on_keeping()
        _keep_session(send("POST", "/v1/sessions", json={"secret": found[0]}))
    else:
        _keep_token(given)


def _keep_session(begun: dict[str, Any]) -> None:
    _keep(begun["token"], begun["operator"], begun["ends_at"])


def _keep_by_code(token: str) -> None:
    me = send("GET", "/v1/operators/me", headers={"Authorization": f"Bearer {token}"})
    _keep(token, me, me["session"]["ends_at"])


def _keep_token(given: str) -> None:
    try:
        token = fit_to_send(given, "standard input")
    except AccountUnusable as error:
        fail(str(error))
    me = send("GET", "/v1/operators/me", headers={"Authorization": f"Bearer {token}"})
    _keep(token, me, me["expires_at"])


def _keep(token: str, me: dict[str, Any], until: str | None) -> None:
    try:
        path = remember(broker_url(), token)
    except AccountUnusable as error:
        fail(str(error))
    except OSError as error:
        fail(f"{account_file()}: can't be written ({error.strerror}). Make it writable, or set BROKER_TOKEN instead.")
    lasts = f", until {until}" if until else ""
    text = f"You are {me['name']} ({', '.join(me['roles'])}){lasts}. Token kept in {path}."
    tell(text, **{**me, "until": until}, kept_in=str(path))


def _by_browser() -> dict[str, Any]:
    """The session that a person begins in the browser."""
    verifier, state = secrets.token_urlsafe(32), secrets.token_urlsafe(16)
    challenge = challenge_of(verifier)
    with _Answers(state) as answers:
        asked = {"port": answers.server_port, "state": state, "challenge": challenge, "host": _host()}
        page = f"{broker_url()}/login/cli?{urlencode(asked)}"
        say(f"Sign in in the browser; its page has to show the code {code_of(challenge)}. If none opens, open this:\n")
        say(f"{page}\n")
        _open(page)
        code = answers.wait()
    return send("POST", "/v1/sessions", json={"secret": code, "verifier": verifier})


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname())[:64] or "this-machine"


def _open(page: str) -> None:
    import webbrowser  # noqa: PLC0415 - only a person at a terminal needs it

    webbrowser.open(page)


class _Answers(HTTPServer):
    """Waits on a port of this machine for the browser to come back."""

    def __init__(self, state: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.state, self.code, self.refused = state, "", False
        self.timeout = 0.5

    def wait(self) -> str:
        """The code that the browser brings; ends the command if it brings none."""
        until, shown = time.monotonic() + WAIT_S, sys.stderr.isatty()
        while not self.code and not self.refused:
            left = until - time.monotonic()
            if left <= 0:
                fail("Nobody signed in within 5 minutes; run `broker login` again.")
            if shown:
                typer.echo(f"\rWaiting for the browser … {int(left):3d} s ", err=True, nl=False)
            self.handle_request()
        if shown:
            say("", err=True)
        if self.refused:
            fail("The sign-in was refused in the browser.")
        return self.code


class _Answer(BaseHTTPRequestHandler):
    server: _Answers

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if not secrets.compare_digest(asked.get("state", [""])[0].encode(), self.server.state.encode()):
            self.send_error(404)
            return
        self.server.code, self.server.refused = asked.get("code", [""])[0], "refused" in asked
        said = "Nothing was allowed." if self.server.refused else "You are signed in on the command line."
        body = _ANSWER.format(said).encode()
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Content-Security-Policy", "default-src 'none'"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the code stands in the request's line."""
