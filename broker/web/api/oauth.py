"""/oauth: tokens of jobs, and of people without a browser; metadata (RFC 8414) and keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from broker.base.pairing import DEVICE_CLIENT, DEVICE_GRANT
from broker.formats import dpop
from broker.formats.assertion import ASSERTION_TYPE
from broker.identity.device_sign_in import INTERVAL_S, LASTS_MS, DeviceSignInOff, Unfinished
from broker.identity.dpop.proof import NonceNeeded, Proof, ProofRefused
from broker.identity.federation.exchange import PLATFORM_METHOD, SPIFFE_TYPE
from broker.identity.sessions import Client, Device
from broker.identity.token_endpoint import ALGORITHMS
from broker.web import access_tokens
from broker.web.callers import address, agent
from broker.web.middleware import ESTABLISHED, NONCE
from broker.web.services import Services, Wired

router = APIRouter(tags=["oauth"])

_UNSTORED: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_WORDS: Final[Mapping[Unfinished, str]] = {
    Unfinished.PENDING: "Nobody has typed the code yet.",
    Unfinished.TOO_OFTEN: f"Wait {INTERVAL_S} seconds longer between two questions.",
    Unfinished.REFUSED: "The sign-in was refused in the browser.",
    Unfinished.OVER: "The code is over. Run `broker login --device` again.",
    Unfinished.UNKNOWN: "This device code is none of ours, or was used. Run `broker login --device` again.",
}


def _takes(*required: str, **properties: Mapping[str, object]) -> dict[str, Any]:
    """How a form is described."""
    schema = {"type": "object", "required": [*required], "properties": properties}
    return {"requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": schema}}}}


_CLIENT: Final = {"type": "string", "const": DEVICE_CLIENT, "description": "The program that asks."}
_DEVICE_FORM: Final = _takes("client_id", client_id=_CLIENT)
_FORM: Final = _takes(
    "grant_type",
    grant_type={"type": "string", "enum": ["client_credentials", DEVICE_GRANT]},
    client_assertion_type={"type": "string", "enum": [ASSERTION_TYPE, SPIFFE_TYPE]},
    client_assertion={
        "type": "string",
        "description": "A JWT of RFC 7523, at most 5 minutes; or the token of a platform that the job trusts.",
    },
    client_id={
        "type": "string",
        "description": f"The workload, beside a platform's token; {DEVICE_CLIENT} beside a device code.",
    },
    device_code={"type": "string", "description": "What device_authorization answered."},
)


@router.post("/oauth/token", summary="Get an access token", openapi_extra=_FORM, responses={400: {}, 401: {}})
async def token(request: Request, wired: Wired) -> JSONResponse:
    """An access token for a workload that proves itself with ``private_key_jwt`` (RFC 6749 §4.4, RFC 7523).

    With ``client_id`` and the token of a platform, an access token for the workload that trusts just that.
    With a DPoP proof it is bound to that proof's key (RFC 9449 §5).
    With a device code, a session's token for a person who allowed it in a browser (RFC 8628 §3.4).
    """
    form = await _form(request)
    if form is None:
        return _refused("invalid_request", "A parameter is repeated.")
    if form.get("grant_type") == DEVICE_GRANT:
        return await _of_device(form, request, wired)
    headers = {"Authorization": request.headers["authorization"]} if "authorization" in request.headers else {}
    try:
        proof = _proof(request, wired)
        answer = await wired.token_endpoint.answer(form, headers, address(request), proof)
    except ProofRefused as refused:
        request.scope[ESTABLISHED] = isinstance(refused, NonceNeeded)
        return _unproved(refused)
    extra = {"WWW-Authenticate": 'Basic realm="keybroker"'} if answer.status == 401 else {}
    return JSONResponse(answer.body, answer.status, {**_UNSTORED, **extra})


def _proof(request: Request, wired: Services) -> Proof | None:
    """The proof of the key that the token is to be bound to; None if none came.

    Raises:
        ProofRefused: one came that doesn't hold.
    """
    sent = access_tokens.sent(request.scope, wired)
    if not sent.headers:
        return None
    request.scope[NONCE] = wired.proofs.nonces.current()
    return wired.proofs.of_request(sent)


def _unproved(refused: ProofRefused) -> JSONResponse:
    """The answer to a proof that doesn't hold (RFC 9449 §5, §8)."""
    error = refused.code if refused.code == dpop.NONCE_NEEDED else ProofRefused.code
    return _refused(error, refused.public)


@router.post(
    "/oauth/device_authorization",
    summary="Begin to sign in without a browser",
    openapi_extra=_DEVICE_FORM,
    responses={400: {}},
)
async def begin_device(request: Request, wired: Wired) -> JSONResponse:
    """A secret to ask on with, and a code that a person types on the broker's page (RFC 8628 §3.1).

    No address is answered that has the code in it, so that a person who opens one has read what it does.
    """
    form = await _form(request)
    if form is None:
        return _refused("invalid_request", "A parameter is repeated.")
    if form.get("client_id") != DEVICE_CLIENT:
        return _refused("unauthorized_client", f"Only the client {DEVICE_CLIENT} signs people in by a code.")
    try:
        begun = await wired.device_sign_ins.begin(_device(request))
    except DeviceSignInOff as off:
        return _refused("unauthorized_client", off.public)
    told = {
        "device_code": begun.secret,
        "user_code": begun.code,
        "verification_uri": f"{wired.options.public_url}/login/device",
        "expires_in": LASTS_MS // 1000,
        "interval": INTERVAL_S,
    }
    return JSONResponse(told, headers=_UNSTORED)


async def _of_device(form: Mapping[str, str], request: Request, wired: Services) -> JSONResponse:
    if form.get("client_id") != DEVICE_CLIENT:
        return _refused("unauthorized_client", f"Only the client {DEVICE_CLIENT} signs people in by a code.")
    try:
        found = await wired.device_sign_ins.ask(form.get("device_code", ""), _device(request))
    except DeviceSignInOff as off:
        return _refused("unsupported_grant_type", off.public)
    if isinstance(found, Unfinished):
        return _refused(found, _WORDS[found])
    lasts = (found.ends_at - wired.parts.clock()) // 1000
    return JSONResponse({"access_token": found.token, "token_type": "Bearer", "expires_in": lasts}, headers=_UNSTORED)


def _device(request: Request) -> Device:
    return Device(Client.CLI, address(request), agent(request))


async def _form(request: Request) -> Mapping[str, str] | None:
    """The parameters; None if one is repeated, which RFC 6749 §3.2 forbids."""
    fields = parse_qsl((await request.body()).decode("ascii", "replace"), keep_blank_values=True)
    form = dict(fields)
    return form if len(form) == len(fields) else None


def _refused(error: str, why: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": why}, 400, _UNSTORED)


@router.get("/.well-known/oauth-authorization-server", summary="Read the authorization server's metadata")
async def metadata(wired: Wired) -> dict[str, Any]:
    """Authorization server metadata (RFC 8414)."""
    ours, device = wired.options.public_url, wired.device_sign_ins.offered
    told = {
        "issuer": ours,
        "token_endpoint": f"{ours}/oauth/token",
        "jwks_uri": f"{ours}/.well-known/jwks.json",
        "grant_types_supported": ["client_credentials", *([DEVICE_GRANT] if device else [])],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": [*wired.token_endpoint.auth_methods, PLATFORM_METHOD],
        "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
        "dpop_signing_alg_values_supported": dpop.ALGORITHMS,
    }
    return {**told, "device_authorization_endpoint": f"{ours}/oauth/device_authorization"} if device else told


@router.get("/.well-known/jwks.json", summary="Read the keys that verify access tokens")
async def jwks(wired: Wired) -> dict[str, Any]:
    """The public keys that verify access tokens (RFC 7517)."""
    return wired.signing.public()
