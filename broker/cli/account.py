"""An operator's account on this machine: a token, and the broker that it is for."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from broker.base import closed

_PORTS = {"https": 443, "http": 80}


class AccountUnusable(Exception):
    """The account's file can't be trusted or read; the text names the fix."""


@dataclass(frozen=True, slots=True, repr=False)
class Account:
    """The broker that the token is for, and the token."""

    url: str
    token: str

    def is_for(self, url: str) -> bool:
        """Whether the token is for the broker at ``url``: the same scheme, host and port."""
        return _origin(url) == _origin(self.url)


def account_file() -> Path:
    """The file in which ``broker operator bootstrap`` and ``broker login`` keep the account."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "keybroker" / "account.json"


def insist_on_a_place() -> None:
    """Refuse to go on if no account can be stored here: what it would hold is given out once.

    Raises:
        AccountUnusable: the file can't be written.
    """
    path = account_file().with_suffix(".try")
    try:
        closed.replace(path, b"")
        path.unlink()
    except OSError as error:
        raise AccountUnusable(
            f"{path.parent}: can't be written ({error.strerror}), so the account's token could not be kept. Nothing "
            "was sent. Make it writable, name another folder (XDG_CONFIG_HOME), or add --print."
        ) from None


def remember(url: str, token: str) -> Path:
    """Store the account in a file that only its owner can read.

    Returns:
        The path of the file.
    """
    path = account_file()
    closed.replace(path, json.dumps({"url": url, "token": token}).encode())
    return path


def remember_or_show(url: str, token: str, *, show_it: bool) -> str:
    """Store the account; what to say of it.

    If it can't be stored, or ``show_it``, the text has the token itself.
    """
    if not show_it:
        try:
            return f"Token kept in {remember(url, token)}."
        except OSError as error:
            failed = f"{account_file()}: can't be written ({error.strerror}). "
    else:
        failed = ""
    return f"{failed}The token, printed this once; set BROKER_TOKEN to it, or give it to `broker login`:\n\n{token}\n"


def stored() -> Account | None:
    """The account that :func:`remember` stored; None if there is none.

    Whoever writes the file decides where secrets go.  So nobody else may write to the file or its folder.  If a link is
    in its place, the same holds for what it leads to.

    Raises:
        AccountUnusable: it is not its owner's alone, or can't be read.
    """
    path = account_file()
    try:
        document = json.loads(closed.read(path))
        _insist_on_ours(path)
        return Account(str(document["url"]), str(document["token"]))
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
    except OSError as error:
        raise AccountUnusable(f"{path}: {error.strerror}; make it readable for you, or remove it.") from None
    except closed.OpenToOthers as error:
        raise AccountUnusable(str(error)) from None


def _insist_on_ours(path: Path) -> None:
    """Refuse a file that somebody else decides on, and such a link to it.

    Raises:
        AccountUnusable: somebody else owns the file or its folder, or can put files into the folder.
    """
    for place in (path, path.parent):
        if place.stat().st_uid not in {0, os.geteuid()}:
            raise AccountUnusable(f"{place}: belongs to somebody else, who decides what is in it; remove the account.")
    if path.parent.stat().st_mode & 0o022:
        raise AccountUnusable(f"{path.parent}: others can put files into it; run: chmod go-w {path.parent}")
    if path.is_symlink():
        _insist_on_ours(path.parent / path.readlink())


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port, as the HTTP client reads them."""
    import httpx2  # noqa: PLC0415 - help and completion need no HTTP client

    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    return parsed.scheme, parsed.host, parsed.port or _PORTS.get(parsed.scheme)
