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
from collections.abc import Mapping
from typing import Literal, Protocol, TypedDict, Unpack

import msgspec

from broker.base.clock import Millis
from broker.base.shown import shown
from broker.formats import ids
from broker.formats.audit_event import LARGEST, ActorCore, Committed, Core, OutcomeCore, Personal, TargetCore, commit
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

# Each with what it says, for who reads the record.
KINDS: Mapping[str, str] = {
    "operator.bootstrapped": "A one-time token made an admin.",
    "operator.created": "An admin made an account.",
    "operator.approved": "A second person let an admin's account work.",
    "operator.renewed": "A machine made a new token for its own account.",
    "operator.revoked": "An account was ended.",
    "operator.recovery_offered": "A one-time token for an admin was made on the server.",
    "operator.link_made": "A one-time link by which a person signs in to an account was made.",
    "operator.linked": "A person at an identity provider was linked to an account; `provider` names it.",
    "operator.unlinked": "An admin ended the link of a person at an identity provider to an account.",
    "operator.roles_changed": "An identity provider gave an account other roles, or took them; `reason` has those now.",
    "session.begun": "A person signed in; `mode` says how.",
    "session.renewed": "A person proved again that it is they who sit there.",
    "session.ended": "A person's session was ended; `reason` says why.",
    "session.device_answered": "A person allowed or refused a command line elsewhere; `reason` is its id.",
    "passkey.added": "A person made a passkey for their account.",
    "passkey.used": "A person proved themselves with a passkey.",
    "passkey.refused": "A passkey's counter went back, as that of a copy does; nobody was let in.",
    "passkey.renamed": "A person gave their passkey another name.",
    "passkey.removed": "A passkey was removed by its owner, or by an admin as `reason` says.",
    "session.refused": "A person whom their identity provider signed in was refused; `reason` says why.",
    "auth.denied": "An operator was refused for a role that they don't have.",
    "auth.token_issued": "A job proved itself and got an access token; by a platform's token if `provider` names it.",
    "auth.token_refused": "An assertion was refused; `reason` says why.",
    "organization.created": "A customer organization was added.",
    "organization.revoked": "A customer organization was cut off, with all its credentials.",
    "organization.policy_changed": "How often an organization's keys are replaced was changed.",
    "organization.renamed": "A customer organization's name was corrected.",
    "workload.created": "A job was registered.",
    "workload.key_added": "A job got another key pair.",
    "workload.revoked": "A job was ended.",
    "trust.created": "Tokens of a platform were made a job's proof; `provider` is the issuer.",
    "trust.revoked": "A trust in a platform's tokens was taken back.",
    "trust.expired": "The time of a trust in a platform's tokens is over.",
    "trust.token_elsewhere": "A platform's token came from another address than before.",
    "issuer.declared": "The file of an issuer of platforms' tokens says something else than before.",
    "issuer.suspended": "No token of an issuer counts any more, nor what it proved.",
    "issuer.resumed": "Tokens of an issuer count again.",
    "issuer.refreshed": "Somebody had every broker ask an issuer for its keys again.",
    "issuer.keys_changed": "An issuer has other keys than before; `reason` names them.",
    "issuer.unreachable": "An issuer gave no usable answer.",
    "issuer.recovered": "An issuer answers again.",
    "grant.created": "A job was given a right to keys; if it is to see them, it waits.",
    "grant.approved": "A second person let a grant that waited be used.",
    "grant.tightened": "A grant was narrowed to what it was used for; `reason` has the number of rules.",
    "grant.revoked": "A grant was taken back.",
    "review.started": "A grant or an account is to be reviewed before its time.",
    "review.decided": "Somebody decided whether a grant or an account is still needed; `reason` says what and by when.",
    "right.altered": "A row that gives a right is not as the broker wrote it; it gives nothing.",
    "intake.requested": "A key was asked for, and a one-time link made.",
    "intake.proof_refused": "Somebody without the link's secret, or the status code, asked for something.",
    "intake.submitted": "A sealed key came over the link and was kept.",
    "intake.refused": "What came over the link was no key that can be used; `reason` says why.",
    "intake.accepted": "The key that came over the link is in use.",
    "intake.cancelled": "An open request was taken back.",
    "intake.expired": "Nothing came over the link in its time.",
    "intake.link_replaced": "A request got a new link; the previous one opens nothing.",
    "intake.link_logged": "A link was opened with its secret in the part of the address that servers log.",
    "intake.status_link_replaced": "A customer got a new status code; the previous ones open nothing.",
    "intake.status_link_logged": "A status link was opened with a secret in the part of it that servers log.",
    "credential.created": "A place for a key was made: organization, provider and label.",
    "credential.paused": "The customer stopped the use of their key for a while.",
    "credential.resumed": "The customer allowed the use of their key again.",
    "credential.exposed": "A key was reported as known to others, and cut off.",
    "credential.policy_changed": "How old a credential's keys may become was changed.",
    "credential.revoked": "A credential was cut off for good.",
    "credential.probe.authorized": "The broker is about to ask the upstream with the key.",
    "credential.probe.completed": "The upstream answered, or didn't, when it was asked with the key.",
    "credential.version.staged": "A key was sealed and kept, and waits to be checked.",
    "credential.version.verified": "The upstream accepts the key, and its organization was assessed.",
    "credential.version.held": "The key works, and an operator has to decide whose it is.",
    "credential.version.activated": "The key came into use.",
    "credential.version.refused": "The upstream refuses the new key, or it is another organization's.",
    "credential.version.retired": "The key is out of use here, as another one took its place.",
    "credential.version.revoked": "The key was cut off.",
    "credential.version.revocation_confirmed": "The upstream refuses a key that is out of use here.",
    "credential.version.accepted_again": "The upstream takes a dead key again: it was refused before.",
    "credential.version.certified": "A statement about a key was signed; `subject` has its SHA-256.",
    "credential.version.destroyed": "The key's material was destroyed: nobody can open it any more.",
    "credential.version.failing": "The upstream began to refuse a key that is in use.",
    "credential.version.recovered": "The upstream takes a key again that it had refused.",
    "credential.version.unreachable": "The upstream could not be asked about a key.",
    "credential.version.gone": "A key's value is not in Vault any more.",
    "rotation.opened": "A change of a key began.",
    "rotation.call.authorized": "The broker is about to make, find or delete a key by the provider's API.",
    "rotation.call.completed": "The provider's API answered that call, or didn't.",
    "rotation.promoted": "The new key is in use, and the previous one retires.",
    "rotation.failing": "The upstream refuses the new key; calls fall back to the previous one.",
    "rotation.recovered": "The upstream takes the new key again.",
    "rotation.completed": "The previous key is out of use here.",
    "rotation.rolled_back": "The previous key is in use again, the new one is not.",
    "rotation.cancelled": "A change of a key was given up before its key was in use.",
    "lease.issued": "A job got a lease; with the mode `reveal` it got the key.",
    "lease.denied": "A job was refused a lease; `reason` says why.",
    "lease.replayed": "A job that repeated its request got the lease again that it had got.",
    "lease.renewed": "A lease was extended.",
    "lease.ended": "A job gave its lease back.",
    "lease.revoked": "An operator cut a lease off.",
    "use.authorized": "A call through the proxy is allowed, and about to be made with the key.",
    "use.denied": "A call through the proxy was refused; `reason` says why.",
    "use.completed": "A call through the proxy ended; `outcome` has its status, bytes and time.",
    "use.outcome_unknown": "Nobody can tell how a call ended, as its broker ended first.",
    "keystore.rotated": "There is a new master key; what is sealed from now on is sealed with it.",
    "keystore.rewrap_begun": "Sealed values are about to be moved to the present master key.",
    "keystore.rewrapped": "Sealed values were moved to the present master key.",
    "keystore.master_key_dropped": "A master key that holds nothing any more was removed.",
    "keystore.master_keys_destroyed": "Master keys were destroyed after a move to another keystore.",
    "keystore.orphan_attached": "A value in Vault that no row knew was taken as a key.",
    "keystore.orphan_destroyed": "A value in Vault that no row knew was destroyed.",
    "leak.checked": "Somebody asked whether candidates are keys of ours.",
    "leak.found": "A key of ours was found where it should not be.",
    "audit.read": "The record was searched, for what the event names and what `reason` says.",
    "audit.exported": "The record is about to be given out; `reason` says in which form.",
    "audit.head": "How many events an organization has so far, and the tree hash over them; so none can be left out.",
    "audit.erased": "A person or a customer organization was erased: nobody reads their personal parts any more.",
    "audit.pruned": "Events of a class were pruned, as they are kept so many days; `reason` tells which.",
    "audit.hold_placed": "A legal hold was placed, on a customer or on all: nothing of it is erased or pruned.",
    "audit.hold_lifted": "A legal hold was lifted.",
    "log.key_rotated": "The log has a new signing key beside the old one; `reason` names both.",
    "log.key_retired": "The log's old key signs no more; `reason` has the size to which it is good.",
    "record.archive_begun": "Months of the record are about to be written to files and taken out of the database.",
    "record.archived": "A month of the record is in a file, and about to be taken out of the database.",
    "webhook.created": "An address was added that notices are posted to.",
    "webhook.revoked": "Nothing is posted to a webhook any more.",
    "webhook.secret_rotated": "A webhook signs with a new secret.",
    "webhook.disabled": "A webhook's receiver said that it is gone (410).",
    "notice.resent": "A delivery of a notice that was given up is tried again.",
    "database.restored": "The database was restored from a backup; the range that it lost is noted.",
    "database.restore_confirmed": "An operator looked through what a restored database has in force.",
}

ActorType = Literal["operator", "workload", "customer", "broker", "stranger"]
Decision = Literal["allowed", "denied"]

VERSION = 4

_WORD = re.compile(r"[A-Za-z0-9_.,:/=+-]{1,200}")
_OF_WORDS = (string.ascii_letters + string.digits + "_.,:/=+-").encode()
_WORDS_MOST = 2_000
_NAME = re.compile(r"[A-Za-z0-9_.\[\]$-]{1,32}")
_NAMES_MOST = 32
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


class Actor(msgspec.Struct, frozen=True, gc=False):
    """Who did it: an id for the core, a name and address for the personal part."""

    type: ActorType
    id: str
    name: str = ""
    address: str = ""
    agent: str = ""

    def core(self) -> ActorCore:
        """What the core holds of it."""
        return ActorCore(self.id, self.type)


BROKER = Actor("broker", "broker", "the broker itself")


class AuditTarget(msgspec.Struct, frozen=True, gc=False):
    """What an upstream was asked: host, method and plain names of parameters are core.

    The path is personal, as it may name things.  So is ``query``: all that there was beside plain names.
    """

    host: str
    method: str
    path: str
    query_names: tuple[str, ...] = ()
    query: str = ""

    def core(self) -> TargetCore:
        """What the core holds of it."""
        return TargetCore(self.host, self.method, self.query_names)


class Outcome(msgspec.Struct, frozen=True, gc=False):
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
        if min(numbers) < 0 or max(numbers) > LARGEST:
            raise ValueError("a number is beyond what an event may hold")

    def core(self) -> OutcomeCore:
        """What the core holds of it."""
        return OutcomeCore(self.bytes_in, self.bytes_out, self.milliseconds, self.status)


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


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    id: AuditEventId = msgspec.field(default_factory=lambda: ids.new(ids.AuditEventId))

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
        if not (0 <= self.time <= LARGEST and 0 <= self.version <= LARGEST):
            raise ValueError(f"{self.kind}: a number is beyond what an event may hold")

    def committed(self) -> Committed:
        """The canonical bytes that are stored, and the commitment to them.

        There always are some.
        """
        return commit(self._core(), self._personal())

    def _core(self) -> Core:
        target, outcome = self.target, self.outcome
        return Core(
            actor=self.actor.core(),
            credential=self.credential,
            decision=self.decision,
            fingerprint=self.fingerprint,
            grant=self.grant,
            id=self.id,
            intake=self.intake,
            kind=self.kind,
            lease=self.lease,
            mode=self.mode,
            organization=self.organization,
            outcome=outcome.core() if outcome else None,
            provider=self.provider,
            reason=self.reason,
            request=self.request,
            subject=self.subject,
            target=target.core() if target else None,
            time=self.time,
            use=self.use,
            v=VERSION,
            version=self.version,
            workload=self.workload,
        )

    def _personal(self) -> Personal:
        actor, target, outcome = self.actor, self.target, self.outcome
        return Personal(
            actor_name=_kept("actor_name", actor.name),
            address=_kept("address", actor.address),
            agent=_kept("agent", actor.agent),
            note=_kept("note", self.note),
            path=_kept("path", target.path) if target else "",
            query=_kept("query", target.query) if target else "",
            upstream_id=_kept("upstream_id", outcome.upstream_id) if outcome else "",
        )


def _kept(name: str, text: str) -> str:
    return shown(text[: _KEPT[name]]) if text else ""
