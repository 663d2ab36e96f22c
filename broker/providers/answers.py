"""Read ids and objects at a path of an upstream's JSON answer.

Pure, and total over anything that an upstream sends.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_ID_LENGTH_MAX = 200
_KEEPABLE = re.compile(r"[A-Za-z0-9._:/+=@-]{1,200}")
_STEP = re.compile(r"\[\]|[A-Za-z_][A-Za-z0-9_-]*")


def ids_at(body: bytes, path: str, *, longest: int = _ID_LENGTH_MAX) -> list[str]:
    """The ids at a path of a JSON answer, in order.

    There are none if the answer is not JSON.
    """
    found = (_id(value, longest) for value in _walk(_document(body), _STEP.findall(path)))
    return [text for text in found if text is not None]


def keepable(text: str) -> str:
    """An id of the upstream's as it may be kept, after its keys were masked.

    Empty if it could be more than an id.
    """
    return text if _KEEPABLE.fullmatch(text) else ""


def objects_at(body: bytes, path: str) -> list[dict[str, Any]]:
    """The objects of the list at a path of a JSON answer."""
    return [value for value in _walk(_document(body), [*_STEP.findall(path), "[]"]) if isinstance(value, dict)]


def value_at(body: bytes, path: str) -> Any:  # noqa: ANN401 - any JSON
    """What stands at a path of a JSON answer; None if nothing does or the answer is not JSON."""
    return next(_walk(_document(body), _STEP.findall(path)), None)


def _document(body: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _id(value: Any, longest: int) -> str | None:  # noqa: ANN401 - any JSON
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    text = str(value)
    # Neither NUL nor half a surrogate pair can be stored; neither is printable.
    return text if 0 < len(text) <= longest and text.isprintable() else None


def _walk(value: Any, steps: list[str]) -> Iterator[Any]:  # noqa: ANN401 - any JSON
    if not steps:
        yield value
    elif steps[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from _walk(item, steps[1:])
    elif isinstance(value, dict) and steps[0] in value:
        yield from _walk(value[steps[0]], steps[1:])
