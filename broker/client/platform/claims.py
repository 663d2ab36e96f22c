"""What a token says, taken from it without a check."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

_JWT = re.compile(r"\s*[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\s*")


def unverified(token: str) -> dict[str, Any] | None:
    """The claims of what has a JWT's form; None if it has not."""
    found = _JWT.fullmatch(token)
    if found is None:
        return None
    payload = found[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None
