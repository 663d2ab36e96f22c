"""Google's and Azure's machines, whose metadata service makes tokens.

They are of the role that the machine has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit

from broker.client.platform import asking
from broker.client.platform.asking import Place
from broker.client.platform.source import addressed, jwt, no_token

# Google's own libraries read the same variable.
GOOGLE_HOST: Final = "GCE_METADATA_HOST"
ENDPOINT: Final = "IDENTITY_ENDPOINT"
SECRET: Final = "IDENTITY_HEADER"  # noqa: S105 - the name of one
_GOOGLE: Final = Place("Google's metadata server", "Give the machine, service or pod a service account.")
_AZURE: Final = Place(
    "Azure's metadata service",
    "Give the machine a managed identity, and name as `audience` an app registration of its tenant (api://…).",
)


@dataclass(frozen=True, slots=True)
class OfGoogle:
    """The metadata server of Compute Engine, Cloud Run, Cloud Functions and GKE."""

    environment: Mapping[str, str] = field(repr=False)

    @property
    def withheld(self) -> frozenset[str]:
        """None: the server answers whoever runs on the machine."""
        return frozenset()

    def token(self, audience: str) -> str:
        """A token of the default service account; raises CallFailed."""
        host = self.environment.get(GOOGLE_HOST) or "metadata.google.internal"
        asked = f"audience={quote(audience, safe='')}&format=full"
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/identity?{asked}"
        found = asking.text(url, {"Metadata-Flavor": "Google"}, _GOOGLE)
        return addressed(jwt(found, "Google's answer"), audience, "Google's answer")


@dataclass(frozen=True, slots=True)
class OfAzure:
    """The metadata service of a virtual machine, or the one that App Service names.

    A token of version 2 names its audience by another id than the one that was asked for.  So only the broker compares.
    """

    client_id: str
    environment: Mapping[str, str] = field(repr=False)
    machine: str = "http://169.254.169.254"

    @property
    def withheld(self) -> frozenset[str]:
        """What asks App Service."""
        return frozenset({ENDPOINT, SECRET})

    def token(self, audience: str) -> str:
        """A token of the managed identity; raises CallFailed."""
        url, headers = self._asked()
        which = f"&client_id={quote(self.client_id, safe='')}" if self.client_id else ""
        found = asking.member(f"{url}&resource={quote(audience, safe='')}{which}", headers, _AZURE, "access_token")
        return jwt(found, "Azure's answer")

    def _asked(self) -> tuple[str, dict[str, str]]:
        endpoint, secret = self.environment.get(ENDPOINT), self.environment.get(SECRET)
        if not endpoint or not secret:
            return f"{self.machine}/metadata/identity/oauth2/token?api-version=2018-02-01", {"Metadata": "true"}
        if not _is_near(endpoint):
            raise no_token(f"{ENDPOINT} is no address of this machine, and has no TLS; nothing was sent.")
        return f"{endpoint}?api-version=2019-08-01", {"X-IDENTITY-HEADER": secret}


def _is_near(url: str) -> bool:
    """Whether nobody else can read what is sent there: it has TLS, or stays on this machine."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        return parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))
    except ValueError:
        return False


def _is_local(host: str) -> bool:
    if host == "localhost":
        return True
    address = ipaddress.ip_address(host)
    return address.is_loopback or address.is_link_local
