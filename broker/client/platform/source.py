"""What every source of a platform's token does, and how it fails.

No text of an error has anything of a token but whom it says that it is for.
"""

from __future__ import annotations

from typing import Final, Protocol

from broker.client.errors import CallFailed, printable
from broker.client.platform.claims import unverified

# The broker takes none that is longer.
TOKEN_MAX: Final = 16 * 1024


class Source(Protocol):
    """Where a platform's token comes from."""

    @property
    def withheld(self) -> frozenset[str]:
        """Variables with which somebody else could get such a token."""
        ...

    def token(self, audience: str) -> str:
        """A token for ``audience``, as it is now; raises CallFailed."""
        ...


def no_token(text: str) -> CallFailed:
    """The error if there is no token that could be sent; the text says what to do."""
    return CallFailed(text, code="no_platform_token")


def jwt(found: str, where: str) -> str:
    """The token that ``where`` holds.

    Raises:
        CallFailed: that is none.
    """
    token = found.strip()
    if len(token) > TOKEN_MAX or unverified(token) is None:
        raise no_token(f"{where} holds no JWT of at most {TOKEN_MAX // 1024} KiB; nothing was sent.")
    return token


def addressed(token: str, audience: str, where: str) -> str:
    """The same token, if it is for ``audience`` and nobody else.

    So a token for somebody else is sent to no broker, and a broker's token to no other place.

    Raises:
        CallFailed: it is for somebody else.
    """
    named = (unverified(token) or {}).get("aud")
    if named not in (audience, [audience]):
        whom = ", ".join(map(str, named)) if isinstance(named, list) else str(named or "")
        raise no_token(
            f"The token in {where} is for {printable(whom) or 'nobody'}, and this job's is to be for "
            f"{printable(audience)}: have the platform make one for that. Nothing was sent."
        )
    return token
