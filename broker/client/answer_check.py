"""Whether a good answer is the answer to the question.

Something on the way may mix answers up, keep them, or invent them.  If the client used a lease of another customer
without a look, it would make a call with that customer's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from broker.client.errors import CallFailed, another_answer
from broker.client.keyless import Addressed


def token(answer: Mapping[str, Any], *, bound: bool) -> None:
    """Check an access token (RFC 6749 §5.1), which is ``bound`` to a key if that was asked for.

    Raises:
        CallFailed: there is none that this client can use.
    """
    kind = str(answer.get("token_type")).lower()
    if bound and kind == "bearer":
        raise CallFailed("This broker binds no tokens to keys: it is older than its client.", code="not_bound")
    _same("token_type", kind, "dpop" if bound else "bearer")
    _text("access_token", answer.get("access_token"))
    if not isinstance(answer.get("expires_in"), int):
        raise another_answer("expires_in")


def issued(answer: Mapping[str, Any], wanted: Mapping[str, Any], identity: Addressed) -> None:
    """Check a lease that was issued.

    Args:
        answer: what came.
        wanted: what was asked for: organization (slug or id), provider, label and mode.
        identity: who asked.

    Raises:
        CallFailed: it is another lease, or its token would be sent to another place than the broker.
    """
    lease = answer.get("lease")
    if not isinstance(lease, dict):
        raise another_answer("lease")
    _lease(lease, identity)
    if wanted["organization"] not in {lease.get("organization"), answer.get("organization_slug")}:
        raise another_answer("organization")
    for name in ("provider", "label", "mode"):
        _same(name, lease.get(name), wanted[name])
    place = f"{identity.broker}/proxy/{lease['organization']}/{lease['provider']}"
    _same("proxy_url", answer.get("proxy_url"), place)
    _text("token", answer.get("token"))
    if wanted.get("bound"):
        _same("bound", lease.get("bound"), True)
    if wanted["mode"] == "reveal" and not isinstance(answer.get("key"), str):
        raise another_answer("key")


def same_lease(answer: Mapping[str, Any], lease_id: str, identity: Addressed) -> None:
    """Check an answer about one lease; raises CallFailed if it is about another."""
    _same("id", answer.get("id"), lease_id)
    _lease(answer, identity)


def own_leases(answer: Mapping[str, Any], identity: Addressed) -> None:
    """Check a page of leases; raises CallFailed if one is another job's."""
    items = answer.get("items")
    if not isinstance(items, list):
        raise another_answer("items")
    for lease in items:
        if not isinstance(lease, dict):
            raise another_answer("items")
        _lease(lease, identity)


def _lease(lease: Mapping[str, Any], identity: Addressed) -> None:
    _same("workload", lease.get("workload"), identity.client_id)
    _text("id", lease.get("id"))
    _text("organization", lease.get("organization"))
    for name in ("issued_at", "expires_at", "renewable_until"):
        _time(name, lease.get(name))


def _same(name: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise another_answer(name)


def _text(name: str, found: object) -> None:
    # The text goes into a header or a URL as it is.
    if not isinstance(found, str) or not found or not found.isascii() or not found.isprintable():
        raise another_answer(name)


def _time(name: str, found: object) -> None:
    try:
        datetime.fromisoformat(str(found))
    except ValueError:
        raise another_answer(name) from None
