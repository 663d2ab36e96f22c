"""/oauth/token and its metadata (RFC 8414), and the keys that verify access tokens."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from broker.identity.token_endpoint import ALGORITHMS
from broker.web.callers import address
from broker.web.services import Wired

router = APIRouter(tags=["oauth"])

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "const": "client_credentials"},
                        "client_assertion_type": {
                            "type": "string",
                            "const": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                        },
                        "client_assertion": {"type": "string", "description": "A JWT of RFC 7523, at most 5 minutes."},
                    },
                }
            }
        },
    }
}


@router.post("/oauth/token", summary="Get an access token", openapi_extra=_FORM, responses={400: {}, 401: {}})
async def token(request: Request, wired: Wired) -> JSONResponse:
    """An access token for a workload that proves itself with ``private_key_jwt`` (RFC 6749 §4.4, RFC 7523)."""
    fields = parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True)
    headers = {"Authorization": request.headers["authorization"]} if "authorization" in request.headers else {}
    form = dict(fields)
    if len(form) != len(fields):  # RFC 6749 §3.2: parameters must not be repeated
        return JSONResponse({"error": "invalid_request", "error_description": "A parameter is repeated."}, 400)
    answer = await wired.token_endpoint.answer(form, headers, address(request))
    extra = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    if answer.status == 401:
        extra["WWW-Authenticate"] = 'Basic realm="keybroker"'
    return JSONResponse(answer.body, answer.status, extra)


@router.get("/.well-known/oauth-authorization-server", summary="Read the authorization server's metadata")
async def metadata(wired: Wired) -> dict[str, Any]:
    """Authorization server metadata (RFC 8414)."""
    return {
        "issuer": wired.options.public_url,
        "token_endpoint": f"{wired.options.public_url}/oauth/token",
        "jwks_uri": f"{wired.options.public_url}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": wired.token_endpoint.auth_methods,
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
    }


@router.get("/.well-known/jwks.json", summary="Read the keys that verify access tokens")
async def jwks(wired: Wired) -> dict[str, Any]:
    """The public keys that verify access tokens (RFC 7517)."""
    return wired.signing.public()
