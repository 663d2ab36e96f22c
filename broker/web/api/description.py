"""What the API's description says of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI

VERSION = version("keybroker")

WHOLE = """\
A vendor receives its customers' API keys through one-time links, keeps them sealed, and lets its jobs use them for
minutes at a time without seeing them. Every use is on the record before it happens.

**Callers.** An operator sends a token (`Authorization: Bearer kbo_…`). A job sends an access token, which it gets at
`/oauth/token` with an assertion that its private key signs. Each operation names the roles that may call it; an
operation without any is open.

**Lists** have `items` and `next`; send `next` as `cursor` to get the page after it. It is null at the end.

**Repeats.** A POST of an operator takes an `Idempotency-Key`: the same key and body again get the same answer, and
change nothing a second time.

**Refusals** are `application/problem+json` (RFC 9457) with a `code` that is never renamed, and a `detail` that says
what to fix; the token endpoint alone refuses as OAuth does (RFC 6749). The answer's `X-Request-Id` is in the broker's
log.

The number in `/v1/` changes when an operation's meaning does. `info.version` is the version of the software.
"""

TAGS = {
    "leases": "Minutes of a grant, taken by a job. A lease's token is what a call through the proxy carries.",
    "operators": "People at the vendor and their programs: accounts, roles, links and tokens.",
    "sessions": "Where people are signed in.",
    "passkeys": "What people sign in with, each of its owner alone.",
    "sign-in": "What the pages ask that people sign in with; a program has no use for it.",
    "organizations": "The upstream's customers.",
    "providers": "Upstreams, each declared by a file.",
    "workloads": "Jobs: programs that use keys.",
    "issuers": "Who signs the tokens that jobs bring, each declared by a file.",
    "trusts": "Which tokens of an issuer are a job's.",
    "grants": "Which job may reach which keys, and how.",
    "reviews": "Whether grants and accounts are still needed, decided in time by people.",
    "intakes": "Requests for keys, each with a one-time link for the customer.",
    "credentials": "Places of keys (organization, provider, label), and the keys that each has had.",
    "rotations": "Changes of keys, from the wish for a new one until the old one is dead upstream.",
    "exposures": "Reports that a key is known to others, and what is done about them.",
    "notices": "What operators and customers are told, and whether it arrived.",
    "leaks": "Keys where they should not be.",
    "webhooks": "Addresses that notices are posted to.",
    "audit": "The record of everything that was done, tried or refused.",
    "oauth": "How jobs prove who they are (RFC 6749, RFC 7523), and the keys that verify access tokens.",
    "operations": "Probes and metrics.",
    "customer": "What the customer's pages ask: of a one-time link or a status code, whose proof goes in a header.",
}


def tags() -> list[dict[str, str]]:
    """The tags as OpenAPI has them, in the order in which people read."""
    return [{"name": name, "description": text} for name, text in TAGS.items()]


# What a field of this name means wherever nothing is said beside it.
_PARAMETERS = {
    "Github-Public-Key-Identifier": "Which of the partner's published keys signed.",
    "Github-Public-Key-Signature": "The signature over the raw body, in base64.",
    "Idempotency-Key": "1 to 128 visible characters; repeats answer the same.",
    "credential": "Of this credential only.",
    "decision": "What was allowed, or what was refused.",
    "intake_id": "The request's id, from the link.",
    "kind": "Of this kind only.",
    "lease": "Of this lease only.",
    "need": "What has to be there; without it, everything.",
    "order": "Which come first.",
    "organization": "Of this organization only: id or slug.",
    "since": "From then on.",
    "state": "In this state only.",
    "until": "Until then.",
}
_BODIES = {
    "candidates": "What was found, never as itself.",
    "client_assertion_type": "The only kind that is taken.",
    "client_secret": "Development only: a secret in place of a key pair.",
    "days": "How far back.",
    "digest": "SHA-256 of the candidate, in hexadecimal.",
    "expires_at": "When it ends by itself; left out, never.",
    "found_by": "Who or what found it.",
    "grant_type": "The only one that is taken.",
    "hours": "How long the link works.",
    "jwk": "The public key, as a JWK.",
    "jwks": "The public keys, as a JWK Set.",
    "key": "The key itself.",
    "label": "Tells several keys of one organization and provider apart.",
    "max_age_days": "From which age on a key is warned about, or refused.",
    "methods": "HTTP methods in capitals.",
    "mode": "Whether the key is used through the proxy, or shown.",
    "modes": "Whether keys are used through the proxy, or shown.",
    "name": "What people call it.",
    "note": "What else is known, without the key itself.",
    "organization": "Id or slug.",
    "organizations": "Ids or slugs; for an account, which it is limited to.",
    "overlap_seconds": "How long the keys from before work as well.",
    "paths": "Anchored patterns below the base URL.",
    "proof": "Of links of version 1: a digest of the secret.",
    "provider": "The upstream's id.",
    "purpose": "What the access is for; it is on the record.",
    "purpose_required": "Whether each lease has to say what it is for.",
    "rate": "So many uses at once, refilled evenly.",
    "reason": "Why; it is on the record.",
    "roles": "What the account may do.",
    "rotation_days": "After how many days a key is to be replaced.",
    "sealed": "The key, sealed to this request (docs/formats/intake_seal.md), in base64url.",
    "seconds": "In how many seconds they are refilled.",
    "slug": "A short name for commands and addresses.",
    "token": "The one-time token.",
    "ttl": "Seconds; left out, 300, and never more than the grant allows.",
    "url": "Where notices are posted to.",
    "uses": "How many at once.",
    "variables": "The customer's parts of the upstream's host, by name.",
    "where": "Where it was found, without the key itself.",
    "workload": "The job's id or name.",
}


class Described(FastAPI):
    """An API whose description says of each thing that is sent what it means."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            _explain(super().openapi())
        return super().openapi()


def _explain(document: Mapping[str, Any]) -> None:
    for operation in (one for methods in document["paths"].values() for one in methods.values()):
        for parameter in operation.get("parameters", ()):
            if "description" not in parameter["schema"] and parameter["name"] in _PARAMETERS:
                parameter.setdefault("description", _PARAMETERS[parameter["name"]])
        for media in operation.get("requestBody", {}).get("content", {}).values():
            for name, field in _fields(document, media["schema"]):
                if name in _BODIES:
                    field.setdefault("description", _BODIES[name])


def _fields(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, MutableMapping[str, Any]]]:
    """Every field of an object, and of the objects in it."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for name, field in schema.get("properties", {}).items():
        yield name, field
        yield from _fields(document, field)
    for inner in (*schema.get("anyOf", ()), *filter(None, (schema.get("items"),))):
        yield from _fields(document, inner)
