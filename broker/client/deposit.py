"""The intake page's part without a browser: for scripted senders and customers who don't trust pages."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

import httpx2

from broker.client.connecting import caller
from broker.client.errors import CallFailed, answer, unreachable
from broker.formats import linksecret, sealed


def deposit(
    link: str,
    key: bytes,
    variables: dict[str, str] | None = None,
    *,
    timeout: float = 60,
    proxy: str | None = None,
) -> dict[str, Any]:
    """Seal ``key`` to the request behind a one-time link and submit it; the receipt.

    Args:
        link: the whole of it.
        key: as the upstream gave it.
        variables: what the upstream needs beside the key, by name.
        timeout: seconds that a call may wait for the broker.
        proxy: URL of the HTTP proxy that leads to the broker; left out, none, whatever the environment says.

    Raises:
        ProxyUnusable: ``proxy`` is no such URL.
        CallFailed: the link is cut off or over, or the key was refused; the text says what to do.
    """
    url = urlsplit(link)
    if not linksecret.check(url.fragment):
        raise CallFailed("The link is cut off; copy the whole of it.", code="link_cut_off")
    proof = linksecret.proof(url.fragment)
    page = f"{url.scheme}://{url.netloc}{url.path}"
    try:
        with caller(timeout=timeout, proxy=proxy) as http:
            opened = answer(http.post(f"{page}/open", json={"proof": proof}))
            if opened["state"] != "open":
                raise CallFailed("A key was submitted over this link before.", code="intake_spent")
            context = opened["seal"]["context"]
            if context["intake"] != url.path.rsplit("/", 1)[-1]:
                raise CallFailed("The broker answered for another link.", code="wrong_intake")
            message = sealed.seal(key, _bytes(opened["seal"]["public_key"]), sealed.SealContext(**context))
            body = {"proof": proof, "sealed": _text(message), "variables": variables or {}}
            return answer(http.post(f"{page}/submit", json=body))
    except httpx2.HTTPError as error:
        raise unreachable(page, error, proxy) from None


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
