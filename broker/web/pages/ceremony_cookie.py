"""What binds a passkey's ceremony to the browser that began it.

Without it, somebody could have another browser finish a ceremony of theirs, and so sign in to their account there.
"""

from __future__ import annotations

import secrets
from typing import Final

from fastapi import Request
from fastapi.responses import Response

from broker.identity.challenges import LASTS_MS, CeremonyOver
from broker.web import cookies

_PURPOSE: Final = "ceremony"


def new() -> str:
    """A secret that no other browser has."""
    return secrets.token_urlsafe(32)


def keep(response: Response, holder: str, public_url: str) -> None:
    """Let the browser keep the secret ``holder`` for as long as a ceremony lasts."""
    cookies.keep(response, public_url, holder, LASTS_MS, purpose=_PURPOSE, same_site="strict")


def holder(request: Request, public_url: str) -> str:
    """The browser's secret; raises CeremonyOver if it began no ceremony, or long ago."""
    if found := request.cookies.get(cookies.name(public_url, _PURPOSE)):
        return found
    raise CeremonyOver


def forget(response: Response, public_url: str) -> None:
    """Let the browser forget it, as its ceremony is finished."""
    cookies.forget(response, public_url, purpose=_PURPOSE, same_site="strict")
