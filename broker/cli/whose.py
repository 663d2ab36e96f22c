"""Which broker a command calls, and with whose token.

A stored token goes to no broker but its account's.
"""

from __future__ import annotations

import os
import re

from broker.base import variables
from broker.cli import account
from broker.cli.account import DEFAULT, AccountUnusable

DEFAULT_URL = "http://localhost:8080"
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9.-]+)(:[0-9]{1,5})?/?")
# What a header can carry; every token is of these.
_CAN_BE_SENT = re.compile(r"[!-~]+")


def address() -> str:
    """The broker's address: BROKER_URL, the stored account's, or this machine's default.

    Raises:
        AccountUnusable: none of them can be used; the text names the fix.
    """
    if url := os.environ.get(variables.URL):
        return _whole(url).rstrip("/")
    if kept := account.stored():
        return kept.url.rstrip("/")
    if (name := account.profile()) != DEFAULT:
        raise AccountUnusable(f"There is no account in the profile {name}. {_makes_one(name)}")
    return DEFAULT_URL


def token() -> str:
    """The caller's token: BROKER_TOKEN, or the stored account's.

    Raises:
        AccountUnusable: there is none for the broker that is called, or it is none.
    """
    if given := os.environ.get(variables.TOKEN):
        if account.is_chosen():
            raise AccountUnusable("BROKER_TOKEN is set, and --profile names another token: leave one of them out.")
        return fit_to_send(given, variables.TOKEN)
    name = account.profile()
    kept = account.stored()
    if kept is None:
        raise AccountUnusable(
            "Nobody is signed in here. Run `broker login`; a program sets BROKER_TOKEN, and the first admin runs "
            "`broker operator bootstrap`."
            if name == DEFAULT
            else f"Nobody is signed in under the profile {name}. {_makes_one(name)}"
        )
    if not kept.is_for(address()):
        raise AccountUnusable(
            f"The stored token is for {kept.url}, and BROKER_URL names another broker, which doesn't get it. Set "
            "BROKER_TOKEN to a token of that broker, run `broker login` there (with `--profile`, this account stays), "
            "or leave BROKER_URL out."
        )
    return fit_to_send(kept.token, str(account.account_file()))


def fit_to_send(token: str, where: str) -> str:
    """The token, if a header can carry it.

    Raises:
        AccountUnusable: it has characters that no token has; the text names ``where`` it is from, never the token.
    """
    if not _CAN_BE_SENT.fullmatch(token):
        raise AccountUnusable(
            f"{where}: this is no token: in it is a space, a line's end or a character that is not ASCII. Copy the "
            "token again, without what stands around it."
        )
    return token


def _makes_one(name: str) -> str:
    return f"`broker profile list` shows where there is one; BROKER_URL=… `broker login --profile {name}` makes it."


def _whole(url: str) -> str:
    """An address that can be called.

    Raises:
        AccountUnusable: it is none; the text says how it is written.
    """
    import httpx2  # noqa: PLC0415 - help and completion need no HTTP client

    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme in {"http", "https"} and parsed.host:
        return url
    meant = ""
    if found := _HOST_AND_PORT.fullmatch(url):
        scheme = "http" if found[1] == "localhost" or found[1].startswith("127.") else "https"
        meant = f" Did you mean {scheme}://{url}?"
    raise AccountUnusable(
        f"BROKER_URL: write the whole address, with https:// before it (http:// for this machine's alone).{meant}"
    )
