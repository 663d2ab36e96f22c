"""What browsers keep for the broker: a session's token, and secrets of a sign-in under way."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response

from broker.base.errors import Forbidden
from broker.identity.sessions import ABSOLUTE_MS
from broker.web.middleware import header

_NAME: Final = "keybroker"
SameSite = Literal["lax", "strict"]
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class CrossSite(Forbidden):
    """A request with the cookie of a session, which another site's page may have made."""

    code = "cross_site"
    title = "From another site"


def name(public_url: str, purpose: str = "") -> str:
    """The name of the session's cookie, or of one for another ``purpose``.

    The prefix makes browsers insist on https, and keeps other hosts of the same domain from setting it (RFC 6265bis
    §4.1.3.2).  Without https, which is development on this machine alone, there can be none.
    """
    return ("__Host-" if _is_secure(public_url) else "") + "-".join(filter(None, (_NAME, purpose)))


def _is_secure(public_url: str) -> bool:
    return urlsplit(public_url).scheme == "https"


def keep(
    response: Response, public_url: str, value: str, lasts_ms: int, *, purpose: str = "", same_site: SameSite = "lax"
) -> None:
    """Let the browser keep a secret of ours, which no script reads and no other host gets.

    ``Lax`` is for what has to be there after an identity provider's page, too.
    """
    response.set_cookie(
        name(public_url, purpose),
        value,
        max_age=lasts_ms // 1000,
        path="/",
        secure=_is_secure(public_url),
        httponly=True,
        samesite=same_site,
    )


def forget(response: Response, public_url: str, *, purpose: str = "", same_site: SameSite = "lax") -> None:
    """Let the browser forget it."""
    secure = _is_secure(public_url)
    response.delete_cookie(name(public_url, purpose), path="/", secure=secure, httponly=True, samesite=same_site)


def signed_in(response: Response, token: str, public_url: str) -> None:
    """Let the browser keep a session's token."""
    keep(response, public_url, token, ABSOLUTE_MS)


def token(request: Request, public_url: str) -> str | None:
    """The unverified token in the browser's cookie; None if there is none.

    Raises:
        CrossSite: the request may change something, and isn't from one of our own pages.
    """
    found = request.cookies.get(name(public_url))
    if found and request.method not in _SAFE:
        refuse_cross_site(request, public_url)
    return found or None


def refuse_cross_site(request: Request, public_url: str) -> None:
    """Refuse what isn't from a page of this broker, as the browser says it.

    Raises:
        CrossSite: it isn't, or the browser doesn't say.
    """
    fetched_from, origin = header(request.scope, b"sec-fetch-site"), header(request.scope, b"origin")
    parts = urlsplit(public_url)
    if fetched_from is not None:
        ours = fetched_from == "same-origin"
    else:
        ours = origin is not None and origin == f"{parts.scheme}://{parts.netloc}"
    if not ours:
        raise CrossSite(f"This came from a page that isn't the broker's own. Open {public_url} itself, and try again.")
