"""Read same-organization evidence out of a verification answer.  Pure, and total over anything an upstream sends."""

from __future__ import annotations

from itertools import islice

from broker.providers.answers import ids_at
from broker.providers.definition import Definition

_IDS_MAX = 1_000


def evidence(definition: Definition, body: bytes) -> frozenset[str]:
    """The ids at the definition's identity path; empty where there are none or the answer is not JSON."""
    if definition.identity is None:
        return frozenset()
    return frozenset(islice(dict.fromkeys(ids_at(body, definition.identity.path)), _IDS_MAX))
