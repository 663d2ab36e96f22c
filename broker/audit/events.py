"""The closed catalogue of audit events and their fields; no field can hold a secret.

Every value in the core part is an id, a number or a word from a list.  An event that has anything else there can't be
made.  The personal part has what a person or an upstream wrote and what names a person: names, addresses, purpose
texts, paths, upstreams' ids of requests.  It can be withheld or erased, and may be any text.

Version 2 moved two things from the core to the personal part: the upstream's id of a request, and whatever was no plain
name of a parameter.  Version 3 has the kinds ``database.…`` and ``keystore.orphan_…``.
"""

from __future__ import annotations

import re
import string
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict, Unpack

from broker.base.clock import Millis
from broker.base.shown import shown
from broker.formats import ids
from broker.formats.audit_event import Committed, Json, commit
from broker.formats.ids import (
    AuditEventId,
    CredentialId,
    GrantId,
    IntakeId,
    LeaseId,
    NoId,
    OrganizationId,
    RequestId,
    UseId,
    WorkloadId,
)

KINDS = frozenset(
    {
        "operator.bootstrapped",
        "operator.created",
        "operator.approved",
        "operator.renewed",
        "operator.revoked",
        "operator.recovery_offered",
        "auth.denied",
        "auth.token_issued",
        "auth.token_refused",
        "organization.created",
        "organization.revoked",
        "organization.policy_changed",
        "workload.created",
        "workload.key_added",
        "workload.revoked",
        "grant.created",
        "grant.approved",
        "grant.revoked",
        "right.altered",
        "rights.authenticated",
        "intake.requested",
        "intake.proof_refused",
        "intake.submitted",
        "intake.refused",
        "intake.accepted",
        "intake.cancelled",
        "intake.expired",
        "intake.link_replaced",
        "intake.link_logged",
        "intake.status_link_replaced",
        "intake.status_link_logged",
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
        "credential.version.gone",
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
        "keystore.orphan_attached",
        "keystore.orphan_destroyed",
        "leak.checked",
        "leak.found",
        "audit.read",
        "webhook.created",
        "webhook.revoked",
        "webhook.secret_rotated",
        "webhook.disabled",
        "notice.resent",
        "database.restored",
        "database.restore_confirmed",
    }
)

ActorType = Literal["operator", "workload", "customer", "broker", "stranger"]
Decision = Literal["allowed", "denied"]

VERSION = 3

_WORD = re.compile(r"[A-Za-z0-9_.,:/=+-]{1,200}")
_OF_WORDS = (string.ascii_letters + string.digits + "_.,:/=+-").encode()
_WORDS_MOST = 2_000
_NAME = re.compile(r"[A-Za-z0-9_.\[\]$-]{1,32}")
_NAMES_MOST = 32
_LARGEST = 2**53  # the bound of canonical integers
# Characters that are kept of each text of the personal part.  With four bytes for each, and its names, the part is
# below the size that an event may have.
_KEPT = {
    "actor_name": 260,
    "address": 100,
    "agent": 1_000,
    "path": 1_000,
    "query": 400,
    "upstream_id": 200,
    "note": 1_000,
}


def word(text: str) -> str:
    """``text`` if the core may hold it, else nothing.

    It is for what came from outside and may be unknown here.
    """
    return text if _WORD.fullmatch(text) else ""


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
class AuditTarget:
    """What an upstream was asked: host, method and plain names of parameters are core.

    The path is personal, as it may name things.  So is ``query``: all that there was beside plain names.
    """

    host: str
    method: str
    path: str
    query_names: tuple[str, ...] = ()
    query: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a use: the upstream's status, bytes each way, milliseconds.

    The upstream's own id of the request is personal.
    """

    status: int | None
    milliseconds: int
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_id: str = ""

    def __post_init__(self) -> None:
        numbers = (self.status or 0, self.milliseconds, self.bytes_in, self.bytes_out)
        if min(numbers) < 0 or max(numbers) >= _LARGEST:
            raise ValueError("a number is beyond what an event may hold")


class Fields(TypedDict, total=False):
    """Fields of an :class:`Event` other than what it is, when it was and who did it."""

    organization: OrganizationId | NoId
    subject: str
    credential: CredentialId | NoId
    version: int
    provider: str
    fingerprint: str
    workload: WorkloadId | NoId
    grant: GrantId | NoId
    lease: LeaseId | NoId
    use: UseId | NoId
    intake: IntakeId | NoId
    mode: str
    decision: Decision
    reason: str
    target: AuditTarget | None
    outcome: Outcome | None
    note: str
    request: RequestId | NoId


class OnRecord(Protocol):
    """What events are about: a row, or a lease."""

    def event_fields(self) -> Fields:
        """What every event about it says."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened, at ``time`` in milliseconds since the epoch.

    Empty fields are left out.
    """

    kind: str
    time: Millis
    actor: Actor
    organization: OrganizationId | NoId = ""
    subject: str = ""
    credential: CredentialId | NoId = ""
    version: int = 0
    provider: str = ""
    fingerprint: str = ""
    workload: WorkloadId | NoId = ""
    grant: GrantId | NoId = ""
    lease: LeaseId | NoId = ""
    use: UseId | NoId = ""
    intake: IntakeId | NoId = ""
    mode: str = ""
    decision: Decision = "allowed"
    reason: str = ""
    target: AuditTarget | None = None
    outcome: Outcome | None = None
    note: str = ""
    request: RequestId | NoId = ""
    id: AuditEventId = field(default_factory=lambda: ids.new(ids.AuditEventId))

    @classmethod
    def about(cls, what: OnRecord, kind: str, actor: Actor, time: Millis, **more: Unpack[Fields]) -> Event:
        """An event about ``what``, as it is now.

        ``more`` adds to its fields, or takes their place.
        """
        fields: Fields = {**what.event_fields(), **more}
        return cls(kind=kind, time=time, actor=actor, **fields)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not in the catalogue of events")
        # All are checked at once, as this is the hottest path: an event is made twice for every use.
        words = (
            f"{self.id}{self.actor.id}{self.decision}{self.organization}{self.subject}{self.credential}{self.provider}"
            f"{self.fingerprint}{self.workload}{self.grant}{self.lease}{self.use}{self.intake}{self.mode}{self.reason}"
            f"{self.request}"
        )
        if self.target is not None:
            words += self.target.host + self.target.method
            names = self.target.query_names
            if len(names) > _NAMES_MOST or not all(map(_NAME.fullmatch, names)):
                raise ValueError(f"{self.kind}: names of parameters in the core of an event are plain, and few")
        if len(words) > _WORDS_MOST or not words.isascii() or words.encode().translate(None, _OF_WORDS):
            raise ValueError(f"{self.kind}: the core of an event holds ids and words of lists only")
        if not (0 <= self.time < _LARGEST and 0 <= self.version < _LARGEST):
            raise ValueError(f"{self.kind}: a number is beyond what an event may hold")

    def committed(self) -> Committed:
        """The canonical bytes that are stored, and the commitment to them.

        There always are some.
        """
        return commit(self._core(), self._personal())

    def _core(self) -> dict[str, Json]:
        core: dict[str, Json] = {
            "v": VERSION,
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
            }
        return core

    def _personal(self) -> dict[str, Json]:
        values = {
            "actor_name": self.actor.name,
            "address": self.actor.address,
            "agent": self.actor.agent,
            "path": self.target.path if self.target else "",
            "query": self.target.query if self.target else "",
            "upstream_id": self.outcome.upstream_id if self.outcome else "",
            "note": self.note,
        }
        return {name: shown(value[: _KEPT[name]]) for name, value in values.items() if value}


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
