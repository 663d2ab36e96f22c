"""Read same-organization evidence out of a verification answer.  Pure, and total over anything an upstream sends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from broker.providers.definition import Definition

_IDS_MAX = 1_000
_ID_LENGTH_MAX = 200
_STEP = re.compile(r"\[\]|[A-Za-z_][A-Za-z0-9_-]*")


def evidence(definition: Definition, body: bytes) -> frozenset[str]:
    """The ids at the definition's identity path; empty where there are none or the answer is not JSON."""
    if definition.identity is None:
        return frozenset()
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return frozenset()
    found: set[str] = set()
    for value in _walk(document, _STEP.findall(definition.identity.path)):
        if (text := _id(value)) is not None:
            found.add(text)
        if len(found) >= _IDS_MAX:
            break
    return frozenset(found)


def _id(value: Any) -> str | None:  # noqa: ANN401 - any JSON
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value)
    # Neither NUL nor half a surrogate pair can be stored; neither is printable.
    return text if 0 < len(text) <= _ID_LENGTH_MAX and text.isprintable() else None


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    if not steps:
        yield value
    elif steps[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _walk(item, steps[1:])
    elif isinstance(value, dict) and steps[0] in value:
        yield from _walk(value[steps[0]], steps[1:])
