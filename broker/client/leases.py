"""Leases, and the job itself, as the broker tells them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class LeaseState(StrEnum):
    """How a lease stands; a cut-off above it shows there, and not here."""

    ACTIVE = "active"
    EXPIRED = "expired"
    ENDED = "ended"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Minutes of a grant, as they stood when the broker answered.

    ``organization``, ``workload``, ``grant`` and ``credential`` are ids.  ``state`` is one of :class:`LeaseState`.  A
    renewal can put ``expires_at`` off as far as ``renewable_until``.  A ``bound`` one needs a proof with each call.
    ``answer`` is all that the broker said, also what this client has no name for.
    """

    id: str
    organization: str
    workload: str
    grant: str
    credential: str
    version: int
    provider: str
    label: str
    mode: str
    purpose: str
    state: str
    issued_at: datetime
    expires_at: datetime
    renewable_until: datetime
    bound: bool = False
    answer: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """The lease of a checked answer."""
        return cls(**_fields(answer), answer=answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedLease(Lease):
    """A new lease with its token, which is told this once.

    Calls of the upstream go below ``proxy_url`` with ``token`` in the place of the key.  ``key`` is the key itself, if
    the lease is one to see it.  ``last4`` are the key's last characters.  Neither secret is in the ``repr``.
    """

    organization_slug: str
    proxy_url: str
    last4: str
    token: str = field(repr=False)
    key: str | None = field(repr=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """The new lease of a checked answer."""
        return cls(
            **_fields(answer["lease"]),
            answer=answer,
            organization_slug=_text(answer, "organization_slug"),
            proxy_url=answer["proxy_url"],
            last4=_text(answer, "last4"),
            token=answer["token"],
            key=answer.get("key"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The job itself; ``key_ids`` are those of its keys that prove something now."""

    id: str
    name: str
    key_ids: tuple[str, ...]
    state: str
    answer: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """The job of an answer."""
        key_ids = tuple(map(str, answer.get("key_ids") or ()))
        name, state = _text(answer, "name"), _text(answer, "state")
        return cls(id=_text(answer, "id"), name=name, key_ids=key_ids, state=state, answer=answer)


def _fields(view: Mapping[str, Any]) -> dict[str, Any]:
    texts = ("id", "organization", "workload", "grant", "credential", "provider", "label", "mode", "purpose", "state")
    times = ("issued_at", "expires_at", "renewable_until")
    return {
        **{name: _text(view, name) for name in texts},
        **{name: datetime.fromisoformat(view[name]) for name in times},
        "version": int(view.get("version") or 0),
        "bound": view.get("bound") is True,
    }


def _text(answer: Mapping[str, Any], name: str) -> str:
    """What the answer says there; "" if its broker is of another age and says nothing."""
    return str(answer.get(name) or "")
