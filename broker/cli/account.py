"""Operators' accounts on this machine: each is a token, and the broker that it is for.

A *profile* is the name that one account is kept under.  Whoever works with one broker has one profile, ``default``.
"""

from __future__ import annotations

import json
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from broker.base import closed, variables

DEFAULT = "default"
_PORTS = {"https": 443, "http": 80}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_chosen: ContextVar[str] = ContextVar("_chosen", default="")


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


def choose(name: str) -> None:
    """Let the profile ``name`` count for this command; empty for none.

    Raises:
        AccountUnusable: there can be no such profile.
    """
    _chosen.set(_checked(name, "--profile") if name else "")


def is_chosen() -> bool:
    """Whether the command itself names its profile."""
    return bool(_chosen.get())


def profile() -> str:
    """The profile that counts.

    ``--profile`` names it, or BROKER_PROFILE, or ``broker profile use``; else it is the default.

    Raises:
        AccountUnusable: what names it can't be read or trusted, or names none.
    """
    if name := _chosen.get():
        return name
    if name := os.environ.get(variables.PROFILE, ""):
        return _checked(name, variables.PROFILE)
    path = _in_use_file()
    kept = _trusted(path)
    return DEFAULT if kept is None else _checked(kept.decode(errors="replace").strip(), str(path))


def profiles() -> list[str]:
    """The names under which accounts are kept."""
    others = sorted(file.stem for file in (_folder() / "accounts").glob("*.json") if _NAME.fullmatch(file.stem))
    return [DEFAULT] * _account_file(DEFAULT).exists() + others


def use(name: str) -> None:
    """Let the profile ``name`` count where nothing else names one.

    Raises:
        OSError: that can't be kept.
    """
    if name == DEFAULT:
        _in_use_file().unlink(missing_ok=True)
    else:
        closed.replace(_in_use_file(), name.encode() + b"\n")


def forget(name: str) -> bool:
    """Remove the account under ``name``; whether there was one.

    Raises:
        AccountUnusable, OSError: it can't be removed.
    """
    path = _account_file(name)
    there = path.exists() or path.is_symlink()
    path.unlink(missing_ok=True)
    if _trusted(_in_use_file()) == name.encode() + b"\n":
        use(DEFAULT)
    return there


def account_file() -> Path:
    """The file in which ``broker operator bootstrap`` and ``broker login`` keep the account.

    Raises:
        AccountUnusable: see :func:`profile`.
    """
    return _account_file(profile())


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


def remember_or_show(url: str, token: str, *, show_it: bool) -> tuple[str | None, str]:
    """Store the account; the path of its file, and what to say of it.

    If it can't be stored, or ``show_it``, there is no path, and the text has the token itself.
    """
    failed = ""
    if not show_it:
        try:
            path = str(remember(url, token))
        except OSError as error:
            failed = f"{account_file()}: can't be written ({error.strerror}). "
        except AccountUnusable as error:
            failed = f"{error} "
        else:
            return path, f"Token kept in {path}."
    text = f"The token, printed this once; set BROKER_TOKEN to it, or give it to `broker login`:\n\n{token}\n"
    return None, failed + text


def stored(name: str = "") -> Account | None:
    """The account of the profile that counts, or of ``name``; None if there is none.

    Raises:
        AccountUnusable: it is not its owner's alone, or can't be read, or is no account.
    """
    path = _account_file(name) if name else account_file()
    kept = _trusted(path)
    if kept is None:
        return None
    try:
        document = json.loads(kept)
        url, token = document["url"], document["token"]
        if not isinstance(url, str) or not isinstance(token, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise AccountUnusable(f"{path}: is not an account; remove the file, then run `broker login`.") from None
    return Account(url, token)


def _checked(name: str, where: str) -> str:
    if not _NAME.fullmatch(name):
        raise AccountUnusable(f"{where}: a profile's name has letters, digits, '.', '_' and '-', such as acme-test.")
    return name


def _folder() -> Path:
    try:
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "keybroker"
    except RuntimeError:
        raise AccountUnusable("There is no home directory to keep accounts in; set XDG_CONFIG_HOME or HOME.") from None


def _account_file(name: str) -> Path:
    return _folder() / "account.json" if name == DEFAULT else _folder() / "accounts" / f"{name}.json"


def _in_use_file() -> Path:
    return _folder() / "profile"


def _trusted(path: Path) -> bytes | None:
    """What a file holds that decides where secrets go; None if there is none.

    Whoever writes it decides that.  So nobody else may write to the file or its folder.  If a link is in its place, the
    same holds for what it leads to.

    Raises:
        AccountUnusable: it is not its owner's alone, or can't be read.
    """
    try:
        kept = closed.read(path)
        _insist_on_ours(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AccountUnusable(f"{path}: {error.strerror}; make it readable for you, or remove it.") from None
    except closed.OpenToOthers as error:
        raise AccountUnusable(str(error)) from None
    return kept


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
