"""The intake page's part without a browser: for scripted senders and customers who don't trust pages."""

from __future__ import annotations

import base64
import re
from typing import Any

import httpx2

from broker.client.connecting import caller
from broker.client.errors import CallFailed, answer, unreachable
from broker.formats import linksecret, sealed

_LINK = re.compile(r"[<(\[\"']*((?i:https?)://[^/?#]+(?:/[^?#]*)?/intake/(int_[0-9a-f]{32}))(.*)")


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
        link: the whole of it; what a mail program added, wrapped or encoded is put right.
        key: as the upstream gave it.
        variables: what the upstream needs beside the key, by name.
        timeout: seconds that a call may wait for the broker.
        proxy: URL of the HTTP proxy that leads to the broker; left out, none, whatever the environment says.

    Raises:
        ProxyUnusable: ``proxy`` is no such URL.
        CallFailed: the link is none, cut off, altered or over, or the key was refused; the text says what to do.
    """
    page, intake, secret = _parts(link)
    proof = linksecret.proof(secret)
    try:
        with caller(timeout=timeout, proxy=proxy) as http:
            opened = answer(http.post(f"{page}/open", json={"proof": proof}))
            if opened["state"] != "open":
                raise CallFailed("A key was submitted over this link before.", code="intake_spent")
            context = opened["seal"]["context"]
            if context["intake"] != intake:
                raise CallFailed("The broker answered for another link.", code="wrong_intake")
            message = sealed.seal(key, _bytes(opened["seal"]["public_key"]), sealed.SealContext(**context))
            body = {"proof": proof, "sealed": _text(message), "variables": variables or {}}
            return answer(http.post(f"{page}/submit", json=body))
    except httpx2.HTTPError as error:
        raise unreachable(page, error, proxy) from None


def _parts(link: str) -> tuple[str, str, str]:
    """The page's address, the request's id and the secret of a link, however it came."""
    visible = "".join(character for character in link if character.isprintable() and not character.isspace())
    found = _LINK.match(visible)
    if found is None:
        raise CallFailed("That is no link to a page for a key; copy the whole one that you got.", code="link_invalid")
    page, intake, rest = found.groups()
    secret = linksecret.find(rest)
    if secret is None and linksecret.cut_off(rest):
        raise CallFailed("The link is cut off; copy the whole of it.", code="link_cut_off")
    if secret is None:
        raise CallFailed("A character in the link is wrong or missing; copy it again.", code="link_altered")
    return page, intake, secret


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
