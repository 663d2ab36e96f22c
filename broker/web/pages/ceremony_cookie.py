"""What binds a passkey's ceremony to the browser that began it.

Without it, somebody could have another browser finish a ceremony of theirs, and so sign in to their account there.
"""

from __future__ import annotations

import secrets

from fastapi import Request
from fastapi.responses import Response

from broker.identity.challenges import LASTS_MS, CeremonyOver
from broker.web import cookies


def _name(public_url: str) -> str:
    return f"{cookies.name(public_url)}-ceremony"


def new() -> str:
    """A secret that no other browser has."""
    return secrets.token_urlsafe(32)


def keep(response: Response, holder: str, public_url: str) -> None:
    """Let the browser keep the secret ``holder`` for as long as a ceremony lasts."""
    response.set_cookie(
        _name(public_url),
        holder,
        max_age=LASTS_MS // 1000,
        path="/",
        secure=public_url.startswith("https:"),
        httponly=True,
        samesite="strict",
    )


def holder(request: Request, public_url: str) -> str:
    """The browser's secret; raises CeremonyOver if it began no ceremony, or long ago."""
    if found := request.cookies.get(_name(public_url)):
        return found
    raise CeremonyOver


def forget(response: Response, public_url: str) -> None:
    """Let the browser forget it, as its ceremony is finished."""
    response.delete_cookie(
        _name(public_url), path="/", secure=public_url.startswith("https:"), httponly=True, samesite="strict"
    )
