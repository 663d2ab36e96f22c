"""Who answers at the address that customers and jobs are given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx2

from broker.client.connecting import caller
from broker.client.errors import CallFailed, answer

_KEYS = "/.well-known/jwks.json"
_WITHIN_S = 5.0


def answers(url: str, ours: Mapping[str, Any]) -> tuple[str, str]:
    """Whether this broker answers at ``url``, told from the keys that it publishes.

    Args:
        url: as BROKER_PUBLIC_URL has it.
        ours: the JWK Set of this broker's database.

    Returns:
        ``ok``, ``missing`` or ``another``, and a sentence with the fix.
    """
    try:
        with caller(url, timeout=_WITHIN_S) as http:
            theirs = answer(http.get(_KEYS))
    except httpx2.HTTPError as error:
        cause = str(error) or type(error).__name__
        fix = "start it, or mend BROKER_PUBLIC_URL or what stands before the broker"
        return "missing", f"nothing answers at {url} ({cause}); {fix}"
    except CallFailed as error:
        return "another", f"{url}: {error}"
    if _ids(ours) & _ids(theirs):
        return "ok", f"{url}: this broker answers there"
    return "another", f"{url}: a broker with another database answers there; mend BROKER_PUBLIC_URL"


def _ids(keys: Mapping[str, Any]) -> set[str]:
    found = keys.get("keys")
    return {str(key.get("kid")) for key in found if isinstance(key, dict)} if isinstance(found, list) else set()
