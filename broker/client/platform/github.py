"""GitHub Actions, and Forgejo and Gitea alike: a service makes a token for each request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from broker.client.connecting import is_in_clear
from broker.client.platform import asking
from broker.client.platform.asking import Place
from broker.client.platform.source import addressed, jwt, no_token

URL: Final = "ACTIONS_ID_TOKEN_REQUEST_URL"
BEARER: Final = "ACTIONS_ID_TOKEN_REQUEST_TOKEN"
FIX: Final = "Give the job `permissions: id-token: write`."
_PLACE: Final = Place("GitHub's token service", FIX)


@dataclass(frozen=True, slots=True)
class OfGitHub:
    """The service that the runner names in its job's environment."""

    environment: Mapping[str, str] = field(repr=False)

    @property
    def withheld(self) -> frozenset[str]:
        """What asks the service."""
        return frozenset({URL, BEARER})

    def token(self, audience: str) -> str:
        """A token that was made for this request; raises CallFailed."""
        url, bearer = self.environment.get(URL, ""), self.environment.get(BEARER, "")
        if not url or not bearer:
            raise no_token(f"{URL} and {BEARER} are not both set, so GitHub gives this job no token. {FIX}")
        if is_in_clear(url):
            raise no_token(f"{URL} begins with http://, so the token could be read on the way; nothing was sent.")
        whole = f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}"
        found = asking.member(whole, {"Authorization": f"Bearer {bearer}"}, _PLACE, "value")
        return addressed(jwt(found, "GitHub's answer"), audience, "GitHub's answer")
