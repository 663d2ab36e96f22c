"""AWS: the Security Token Service signs for somebody outside who the job's role is.

AWS calls that outbound identity federation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from broker.client.errors import CallFailed
from broker.client.platform.source import addressed, jwt, no_token

_TIMEOUT_S: Final = 5
_INSTALL: Final = "Install it beside this program: pip install --upgrade boto3"
_FIXES: Final = {
    "NoRegionError": "Nobody says which region's token service to ask: set AWS_REGION, or name it: aws:eu-west-1.",
    "NoCredentialsError": "AWS is asked as the job's role, and there is none here: give the job one.",
}
_ASKED_IN_VAIN: Final = frozenset({"EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError"})


@dataclass(frozen=True, slots=True)
class OfAws:
    """The token service of a region, asked as the role that the job has."""

    region: str

    @property
    def withheld(self) -> frozenset[str]:
        """None: the job's access to its cloud stays with its command."""
        return frozenset()

    def token(self, audience: str) -> str:
        """A token that was made for this request; raises CallFailed."""
        client, errors = self._client()
        if not hasattr(client, "get_web_identity_token"):
            raise no_token(f"This boto3 is too old to ask AWS for an identity token. {_INSTALL}")
        try:
            found = client.get_web_identity_token(Audience=[audience], SigningAlgorithm="ES384")
        except errors as error:
            raise _told(error) from None
        return addressed(jwt(str(found.get("WebIdentityToken")), "AWS's answer"), audience, "AWS's answer")

    def _client(self) -> tuple[Any, Any]:
        """The client of the token service, and what it raises."""
        try:
            import boto3  # noqa: PLC0415 - only jobs on AWS have it
            from botocore.config import Config  # noqa: PLC0415 - likewise
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - likewise
        except ImportError:
            raise no_token(f"AWS is asked for tokens by boto3, which isn't here. {_INSTALL}") from None
        bounds = Config(
            connect_timeout=_TIMEOUT_S, read_timeout=_TIMEOUT_S, retries={"mode": "standard", "total_max_attempts": 3}
        )
        errors = (BotoCoreError, ClientError)
        try:
            return boto3.client("sts", region_name=self.region or None, config=bounds), errors
        except errors as error:
            raise _told(error) from None


def _told(error: Exception) -> CallFailed:
    """The error for one of botocore's, whose own text may repeat what was sent."""
    kind = type(error).__name__
    answer = getattr(error, "response", {})
    said = str(answer.get("Error", {}).get("Code") or kind) if isinstance(answer, dict) else kind
    if kind in _FIXES:
        return no_token(_FIXES[kind])
    if kind in _ASKED_IN_VAIN:
        return CallFailed(f"AWS's token service gave no answer ({kind}).", code="platform_unreachable")
    return no_token(
        f"AWS gave no identity token ({said}). Enable outbound identity federation for the account, and allow "
        "sts:GetWebIdentityToken to the job's role."
    )
