"""Every refusal is RFC 9457 ``application/problem+json`` with a stable ``code``.

Nothing internal leaves.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from starlette.exceptions import HTTPException

from broker.base.errors import BrokerError, Conflict, Unauthenticated
from broker.base.faults import is_away
from broker.base.wording import wording
from broker.formats.dpop import NONCE_HEADER
from broker.identity.dpop.proof import ProofRefused
from broker.keystore.genuine import RowAltered
from broker.keystore.keystore import CannotOpen
from broker.notifications.altered import report

_log = structlog.get_logger()
# A field's name can be the caller's own text, even a misplaced key; ours look like this.
_FIELD = re.compile(r"[a-z_-]{1,30}|[A-Za-z]+(?:-[A-Za-z]+)+|[0-9]{1,6}")
_PART = re.compile(r"^(path|query|header)\.")
_CODE = re.compile(r"[a-z][a-z0-9_]*")

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to mend."},
        "code": {"type": "string", "description": "Stable; for programs."},
    },
}


def problem(status: int, code: str, title: str, detail: str, members: Mapping[str, Any] | None = None) -> JSONResponse:
    """A problem response; ``members`` are extension members (RFC 9457 §3.2)."""
    members = dict(members or {})
    # A job's client tells it apart from the upstream's problems, which can't have this header, and without the body.
    headers = {"Cache-Control": "no-store", "X-Broker-Problem": code}
    if "retry_after" in members:
        headers["Retry-After"] = str(members["retry_after"])
    body = {"type": f"urn:keybroker:problem:{code}", "title": title, "status": status, "detail": detail, "code": code}
    return JSONResponse({**members, **body}, status, headers, "application/problem+json")


def install(app: FastAPI) -> None:
    """Make ``app`` answer every error in this one shape."""
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)


async def render(error: Exception) -> JSONResponse:
    """The answer to ``error``: what the framework would render."""
    handler = next(_HANDLERS[kind] for kind in type(error).__mro__ if kind in _HANDLERS)
    return await handler(None, error)


async def _broker_error(_request: Request | None, error: Exception) -> JSONResponse:
    assert isinstance(error, BrokerError)
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return await _unexpected(_request, error)
    if isinstance(error, RowAltered) and _request is not None:
        services = _request.app.state.services
        await report(services.parts.db, error.row, services.parts.clock())
    response = problem(error.status, error.code, error.title, error.public, error.members)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = error.challenge
    if isinstance(error, ProofRefused) and error.nonce:  # else the edge adds it
        response.headers[NONCE_HEADER] = error.nonce
    return response


async def _invalid_request(_request: Request | None, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    # This says only which field and what is wrong: pydantic's own report repeats the input, which may hold a key.
    fields = [
        {
            "field": ".".join(_name(part) for part in item["loc"] if part not in {"body", "[key]"}) or "body",
            "problem": wording(item),
        }
        for item in error.errors()
    ]
    # Who reads this knows the fields' names; in which part of the request each is, is for programs.
    detail = "; ".join(f"{_PART.sub('', field['field'])}: {field['problem']}" for field in fields[:5])
    return problem(422, "invalid", "A field is not valid", detail, {"errors": fields[:20]})


def _name(part: object) -> str:
    return str(part) if _FIELD.fullmatch(str(part)) else "(unknown field)"


async def _http_exception(_request: Request | None, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, BrokerError):  # FastAPI wraps what reading the body raised
        return await _broker_error(_request, error.__cause__)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_").replace("-", "_").replace("'", "")
    response = problem(
        error.status_code, code if _CODE.fullmatch(code) else "http_error", phrase, _HINTS.get(code, phrase)
    )
    response.headers.update(error.headers or {})
    if response.headers.get("Allow") == "GET":
        response.headers["Allow"] = "GET, HEAD"  # the edge makes a GET of every HEAD
    return response


_HINTS = {
    "not_found": "There is nothing at this address; /openapi.json lists what there is.",
    "method_not_allowed": "This address takes other methods; /openapi.json lists them.",
    "bad_request": "The body could not be read; send valid JSON.",
}


async def _lost_race(_request: Request | None, error: Exception) -> JSONResponse:
    _log.warning("request.lost_race", error=type(error).__name__)
    return problem(
        Conflict.status,
        Conflict.code,
        Conflict.title,
        "Somebody else changed the same thing at the same moment; nothing of this request was kept. Look at how it is "
        "now, then send it again if it is still wanted.",
    )


async def _database_down(request: Request | None, error: Exception) -> JSONResponse:
    if not is_away(error):  # the database answers, and would give a retry the same answer
        return await _unexpected(request, error)
    _log.error("database.unavailable", error=type(error).__name__)
    return problem(
        503,
        "database_unavailable",
        "Not available just now",
        "The database can't be reached; nothing was changed. Try again shortly.",
        {"retry_after": 2},
    )


async def _cannot_open(_request: Request | None, _error: Exception) -> JSONResponse:
    _log.error("keystore.cannot_open")
    return problem(
        503,
        "keystore_unavailable",
        "Not available just now",
        "A stored value can't be opened with the master keys that are loaded; an operator must look.",
    )


async def _unexpected(_request: Request | None, error: Exception) -> JSONResponse:
    _log.error("request.failed", error=type(error).__name__, exc_info=error)
    return problem(
        500,
        "internal",
        "Internal error",
        "Something went wrong on our side and was logged; nothing was revealed. Try again, and quote the X-Request-Id.",
    )


_HANDLERS: dict[Any, Callable[[Any, Exception], Awaitable[JSONResponse]]] = {
    BrokerError: _broker_error,
    RequestValidationError: _invalid_request,
    HTTPException: _http_exception,
    IntegrityError: _lost_race,
    SQLAlchemyError: _database_down,
    CannotOpen: _cannot_open,
    Exception: _unexpected,
}
