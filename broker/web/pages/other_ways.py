"""Ways to sign in other than a passkey, each a button of the sign-in page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from broker.web.services import Services


@dataclass(frozen=True, slots=True)
class OtherWay:
    """A button: what stands on it, and the path that it leads to."""

    title: str
    path: str


def other_ways(wired: Services, to: str, *, again: bool) -> Sequence[OtherWay]:
    """The ways there are, each back to the path ``to`` in the end.

    With ``again`` they are for somebody who is signed in, and proves that it is they.
    """
    asked = urlencode({"to": to, **({"again": "1"} if again else {})})
    return [OtherWay(title, f"/login/oidc/{provider}?{asked}") for provider, title in wired.sign_in.offered()]


async def after_sign_out(wired: Services, issuer: str) -> str:
    """The path to lead to once a session has ended: its identity provider may have one."""
    for client in wired.sign_in.clients.values():
        if client.provider.issuer == issuer and await client.logout_url():
            return f"/login/left/{client.provider.id}"
    return "/login"
