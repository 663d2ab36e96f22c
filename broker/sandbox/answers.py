"""The documented error shape, and the one way to read a body."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

_NAMES = {422: "Unprocessable Entity"}  # Python 3.13 has another name for it


class Refused(Exception):
    """The request gets an error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An answer in the documented error shape."""
    try:
        name = _NAMES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        name = "Error"
    return JSONResponse({"error": name, "message": message}, status, headers)


async def fields_of(request: Request) -> dict[str, Any]:
    """The fields of the request's JSON object; raises Refused (422) if there is none."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Refused(422, "Body is not valid JSON") from None
    if not isinstance(body, dict):
        raise Refused(422, "Body must be an object")
    return body


def is_text(value: object) -> bool:
    """Whether ``value`` is a string that says something and that an answer can carry."""
    # JSON can spell half a surrogate pair, which UTF-8 can't.
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= char <= "\udfff" for char in value)
