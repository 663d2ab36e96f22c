"""The closed catalogue of audit events and their fields; no field can hold a secret.

Every value in the core part is an id, a number or a word from a list.  Whatever a person wrote or that names a person
(names, addresses, purpose texts, paths) goes to the personal part, which can be withheld or erased.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from broker.formats import ids
from broker.formats.event import Committed, Json, commit

KINDS = frozenset(
    {
        "operator.bootstrapped",
        "operator.created",
        "operator.revoked",
        "auth.denied",
        "auth.token_issued",
        "auth.token_refused",
        "organization.created",
        "organization.revoked",
        "organization.policy_changed",
        "workload.created",
        "workload.revoked",
        "grant.created",
        "grant.revoked",
        "intake.requested",
        "intake.proof_refused",
        "intake.submitted",
        "intake.refused",
        "intake.accepted",
        "intake.cancelled",
        "intake.expired",
        "intake.link_replaced",
        "intake.status_link_replaced",
        "credential.created",
        "credential.paused",
        "credential.resumed",
        "credential.exposed",
        "credential.policy_changed",
        "credential.revoked",
        "credential.probe.authorized",
        "credential.probe.completed",
        "credential.version.staged",
        "credential.version.verified",
        "credential.version.held",
        "credential.version.activated",
        "credential.version.refused",
        "credential.version.retired",
        "credential.version.revoked",
        "credential.version.revocation_confirmed",
        "credential.version.destroyed",
        "credential.version.failing",
        "credential.version.recovered",
        "credential.version.unreachable",
        "rotation.opened",
        "rotation.call.authorized",
        "rotation.call.completed",
        "rotation.promoted",
        "rotation.failing",
        "rotation.recovered",
        "rotation.completed",
        "rotation.rolled_back",
        "rotation.cancelled",
        "lease.issued",
        "lease.denied",
        "lease.replayed",
        "lease.renewed",
        "lease.ended",
        "lease.revoked",
        "use.authorized",
        "use.denied",
        "use.completed",
        "use.outcome_unknown",
        "keystore.rotated",
        "keystore.rewrap_begun",
        "keystore.rewrapped",
        "keystore.master_key_dropped",
        "keystore.master_keys_destroyed",
        "leak.checked",
        "leak.found",
        "audit.read",
        "webhook.created",
        "webhook.revoked",
        "webhook.secret_rotated",
        "webhook.disabled",
        "notice.resent",
    }
)

ActorType = Literal["operator", "workload", "customer", "broker", "stranger"]
Decision = Literal["allowed", "denied"]

_TEXT_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Actor:
    """Who did it: an id for the core, a name and address for the personal part."""

    type: ActorType
    id: str
    name: str = ""
    address: str = ""
    agent: str = ""


BROKER = Actor("broker", "broker", "the broker itself")


@dataclass(frozen=True, slots=True)
class Target:
    """What an upstream was asked: host and method are core, the path is personal (it may name things)."""

    host: str
    method: str
    path: str
    query_names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a use: upstream's status, bytes each way, milliseconds, upstream's own request id."""

    status: int | None
    milliseconds: int
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened.  ``time`` is milliseconds since the epoch; empty fields are left out."""

    kind: str
    time: int
    actor: Actor
    organization: str = ""
    subject: str = ""
    credential: str = ""
    version: int = 0
    provider: str = ""
    fingerprint: str = ""
    workload: str = ""
    grant: str = ""
    lease: str = ""
    use: str = ""
    intake: str = ""
    mode: str = ""
    decision: Decision = "allowed"
    reason: str = ""
    target: Target | None = None
    outcome: Outcome | None = None
    note: str = ""
    request: str = ""
    id: str = field(default_factory=lambda: ids.new("evt"))

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not in the catalogue of events")

    def committed(self) -> Committed:
        """The canonical bytes that are stored and the commitment to them."""
        return commit(self._core(), self._personal())

    def _core(self) -> dict[str, Json]:
        core: dict[str, Json] = {
            "v": 1,
            "id": self.id,
            "time": self.time,
            "kind": self.kind,
            "actor": {"type": self.actor.type, "id": self.actor.id},
            "decision": self.decision,
        }
        for name in _CORE_FIELDS:
            value = getattr(self, name)
            if value:
                core[name] = value
        if self.target is not None:
            core["target"] = {
                "host": self.target.host,
                "method": self.target.method,
                "query": list(self.target.query_names),
            }
        if self.outcome is not None:
            core["outcome"] = {
                "status": self.outcome.status,
                "ms": self.outcome.milliseconds,
                "bytes_in": self.outcome.bytes_in,
                "bytes_out": self.outcome.bytes_out,
                "upstream_id": self.outcome.upstream_id[:_TEXT_MAX],
            }
        return core

    def _personal(self) -> dict[str, Json]:
        values = {
            "actor_name": self.actor.name,
            "address": self.actor.address,
            "agent": self.actor.agent,
            "path": self.target.path if self.target else "",
            "note": self.note,
        }
        return {name: _printable(value) for name, value in values.items() if value}


_CORE_FIELDS = (
    "organization",
    "subject",
    "credential",
    "version",
    "provider",
    "fingerprint",
    "workload",
    "grant",
    "lease",
    "use",
    "intake",
    "mode",
    "reason",
    "request",
)


def _printable(value: str) -> str:
    """Text a terminal or a log viewer can show: control characters and lone surrogates become U+FFFD, cut at 1,000."""
    if value.isprintable() and len(value) <= _TEXT_MAX:
        return value
    return "".join(
        "\ufffd" if character < " " or "\ud800" <= character <= "\udfff" or character == "\x7f" else character
        for character in value[:_TEXT_MAX]
    )
