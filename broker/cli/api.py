"""An operator's calls from the command line: which broker, whose token, and the answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from broker.base import variables
from broker.cli import running, whose
from broker.cli.account import Account, AccountUnusable
from broker.cli.failing import fail, fail_call
from broker.client.errors import CallFailed, answer, token_answer, unreachable

if TYPE_CHECKING:
    import httpx2

PROXY = variables.CLIENT_PROXY
_PAGE = 500
_GLANCE_S = 2.0


def broker_url() -> str:
    """The broker's address: BROKER_URL, the stored account's, or this machine's default."""
    try:
        return whose.address()
    except AccountUnusable as error:
        fail(str(error))


def client_proxy() -> str | None:
    """The HTTP proxy that leads to the broker, if BROKER_CLIENT_PROXY names one."""
    return os.environ.get(PROXY) or None


def call(method: str, path: str, **options: Any) -> dict[str, Any]:
    """One call as the operator; if it fails, this ends the command with a plain text."""
    headers = {**_authorization(), **options.pop("headers", {})}
    return send(method, path, headers=headers, **options)


def download(path: str, take: Callable[[bytes], object], params: Mapping[str, Any] | None = None) -> None:
    """Hand every piece of a long answer to ``take``; ends the command if the call fails."""
    with _asking() as http, http.stream("GET", path, params=params, headers=_authorization()) as response:
        if response.status_code != 200:
            response.read()
            answer(response)
        for piece in response.iter_bytes():
            take(piece)


def fetch(path: str) -> bytes:
    """A file of the broker's that anybody may have; ends the command if the call fails."""
    with _asking() as http:
        response = http.get(path)
        if response.status_code != 200:
            answer(response)
        return response.content


def ask(method: str, path: str, **options: Any) -> dict[str, Any]:
    """One call as the operator; raises CallFailed."""
    with _calling() as http:
        return _Answered(answer(http.request(method, path, headers=_authorization(), **options)))


def post_form(path: str, **fields: str) -> dict[str, Any]:
    """One call of OAuth's endpoints, without an account; raises CallFailed, with OAuth's code."""
    with _calling() as http:
        return _Answered(token_answer(http.post(path, data=fields)))


@contextmanager
def _asking() -> Iterator[httpx2.Client]:
    """A client for calls of the broker; ends the command if one fails."""
    try:
        with _calling() as http:
            yield http
    except CallFailed as error:
        fail_call(error)


@contextmanager
def _calling() -> Iterator[httpx2.Client]:
    """A client for calls of the broker; raises CallFailed if one fails."""
    # Help and completion need no HTTP client.
    import httpx2  # noqa: PLC0415 - see above

    from broker.client.connecting import ProxyUnusable, caller  # noqa: PLC0415 - see above

    url, proxy = broker_url(), client_proxy()
    try:
        with caller(url, timeout=60, proxy=proxy) as http:
            yield http
    except httpx2.HTTPError as error:
        raise unreachable(url, error, proxy, named_by="BROKER_URL names another place.") from None
    except ProxyUnusable as error:
        fail(f"{PROXY}: {error}")


def _authorization() -> dict[str, str]:
    try:
        return {"Authorization": f"Bearer {whose.token()}"}
    except AccountUnusable as error:
        fail(str(error))


def glance(path: str, who: Account, *, method: str = "GET", **params: str) -> dict[str, Any]:
    """What a call as ``who`` answers at once.

    Whatever keeps it from that, this is empty, and nothing is said.
    """
    import httpx2  # noqa: PLC0415 - as in `_asking`

    from broker.client.connecting import ProxyUnusable, caller  # noqa: PLC0415 - as in `_asking`

    headers = {"Authorization": f"Bearer {who.token}"}
    try:
        with caller(who.url, timeout=_GLANCE_S, proxy=client_proxy()) as http:
            return answer(http.request(method, path, params=params, headers=headers))
    except (httpx2.HTTPError, httpx2.InvalidURL, CallFailed, ProxyUnusable, ValueError):
        return {}


def send(method: str, path: str, **options: Any) -> dict[str, Any]:
    """One call without an account; ends the command if it fails."""
    with _asking() as http:
        return _Answered(answer(http.request(method, path, **options)))


class _Answered(dict[str, Any]):
    """An answer.  If it lacks what is asked for, another service gave it, and the command ends."""

    def __missing__(self, name: str) -> NoReturn:
        text = f"{broker_url()} answers, but not as a Keybroker: {name!r} is missing. Check the address."
        fail_call(CallFailed(text, code="not_a_broker"))


def pages(
    path: str, first: Callable[[Mapping[str, Any]], None] | None = None, /, **params: Any
) -> Iterator[dict[str, Any]]:
    """The items of a list, asked for page by page as they are taken.

    ``first`` gets the first page, for what it says of the list.
    """
    wanted = {name: value for name, value in params.items() if value is not None}
    size, cursor = min(_PAGE, running.limit() or _PAGE), ""
    while True:
        found = call("GET", path, params={**wanted, "limit": size, "cursor": cursor})
        if first is not None and not cursor:
            first(found)
        yield from found["items"]
        if not found["next"]:
            return
        cursor = found["next"]
