"""Where passkeys count: host and origin of the broker's public address (WebAuthn §5.1.2)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.base.errors import Conflict


class NoPasskeysHere(Conflict):
    """Browsers make no passkeys for an IP address."""

    code = "no_passkeys_here"
    title = "There are no passkeys at this address"

    def __init__(self, public_url: str) -> None:
        super().__init__(mend(public_url))


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Who passkeys are made for: a host, ``id``, and the one ``origin`` that may ask for them."""

    id: str
    origin: str

    @classmethod
    def at(cls, public_url: str) -> RelyingParty | None:
        """The relying party of an address, an origin; None if its host is an IP address."""
        host = urlsplit(public_url).hostname or ""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return cls(host, _as_browsers_say_it(public_url))
        return None


def mend(public_url: str) -> str:
    """What to change if passkeys can't be made at an address, which is an IP address."""
    url = urlsplit(public_url)
    if ipaddress.ip_address(url.hostname or "").is_loopback:
        port = f":{url.port}" if url.port else ""
        return (
            f"Browsers make no passkeys for an IP address. Set BROKER_PUBLIC_URL to {url.scheme}://localhost{port}, "
            "start the broker again, and open it there."
        )
    return (
        "Browsers make no passkeys for an IP address. Set BROKER_PUBLIC_URL to an address with a name, such as "
        "https://keys.vendor.example, and start the broker again."
    )


def _as_browsers_say_it(public_url: str) -> str:
    """An origin in small letters, without the port that its scheme has anyway (RFC 6454 §6.1)."""
    url = urlsplit(public_url)
    usual = {"https": 443, "http": 80}[url.scheme]
    port = f":{url.port}" if url.port and url.port != usual else ""
    return f"{url.scheme}://{url.hostname}{port}"
