"""Connections to one Vault.

They take nothing from the environment, and carry the token to no other host.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import hvac
import requests
from hvac.adapters import JSONAdapter
from requests.adapters import HTTPAdapter


@dataclass(frozen=True, slots=True)
class Address:
    """Where Vault is.

    ``ca_file`` is the only authority that is trusted.  None trusts the public ones of certifi.
    """

    url: str
    namespace: str = ""
    ca_file: Path | None = None


class Redirected(requests.ConnectionError):
    """Vault sent the call on to where its token must not go."""


class Session(requests.Session):
    """The connections, at most ``connections`` at once.

    A standby node sends calls on to the active one, and the token and the body go along.  So another host is followed
    only over TLS with a certificate of the pinned authority: public authorities vouch for anybody.
    """

    def __init__(self, address: Address, connections: int) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(address.ca_file) if address.ca_file else True  # hvac takes the session's word for it
        self.max_redirects = 2
        self._configured = urlsplit(address.url)
        self._pinned = address.ca_file is not None
        adapter = HTTPAdapter(pool_connections=2, pool_maxsize=connections)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a call is sent on to; raises Redirected."""
        target = super().get_redirect_target(resp)
        if target and not self._may_follow(urljoin(resp.url, target)):
            raise Redirected("a redirect off TLS or to another host")
        return target

    def _may_follow(self, target: str) -> bool:
        there = urlsplit(target)
        if there.scheme != "https" and self._configured.scheme == "https":
            return False
        return there.hostname == self._configured.hostname or (self._pinned and there.scheme == "https")


class _Adapter(JSONAdapter):  # type: ignore[misc]  # hvac has no types
    """hvac's own adapter, less a client certificate from the environment.

    hvac's own takes one from there if it is told of none.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "cert": None})


def client(address: Address, session: Session, timeout: float) -> hvac.Client:
    """A client over these connections that carries no token yet."""
    return hvac.Client(
        address.url,
        token="",
        timeout=timeout,
        session=session,
        adapter=_Adapter,
        namespace=address.namespace or None,
    )
