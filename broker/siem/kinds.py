"""What each kind of event is for a SIEM: a class and activity of OCSF.  Pure.

The kinds are the record's own, closed catalogue (:mod:`broker.audit.events`); a test walks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NamedTuple


class Class(IntEnum):
    """Classes of OCSF 1.8, by their uid."""

    ACCOUNT_CHANGE = 3001
    AUTHENTICATION = 3002
    AUTHORIZE_SESSION = 3003
    ENTITY_MANAGEMENT = 3004
    API_ACTIVITY = 6003


OTHER: Final = 99
# Activities by class, as the schema has them.
ACTIVITIES: Final[Mapping[Class, Mapping[int, str]]] = {
    Class.ACCOUNT_CHANGE: {1: "Create", 2: "Enable", 4: "Password Reset", 5: "Disable", 6: "Delete"},
    Class.AUTHENTICATION: {1: "Logon", 2: "Logoff"},
    Class.AUTHORIZE_SESSION: {1: "Assign Privileges"},
    Class.ENTITY_MANAGEMENT: {
        1: "Create",
        2: "Read",
        3: "Update",
        4: "Delete",
        6: "Enroll",
        8: "Enable",
        9: "Disable",
        10: "Activate",
        11: "Deactivate",
        12: "Suspend",
        13: "Resume",
    },
    Class.API_ACTIVITY: {1: "Create", 2: "Read", 3: "Update", 4: "Delete"},
}


class Meaning(NamedTuple):
    """The class and activity of a kind, and how grave it is: 1 as usual, to 5."""

    of: Class
    activity: int
    severity: int = 1


_ACCOUNT, _AUTH, _SESSION = Class.ACCOUNT_CHANGE, Class.AUTHENTICATION, Class.AUTHORIZE_SESSION
_ENTITY, _API = Class.ENTITY_MANAGEMENT, Class.API_ACTIVITY
_CREATE, _READ, _UPDATE, _DELETE = 1, 2, 3, 4
_ENROLL, _ENABLE, _DISABLE, _ACTIVATE, _DEACTIVATE, _SUSPEND, _RESUME = 6, 8, 9, 10, 11, 12, 13
_LOW, _MEDIUM, _HIGH = 2, 3, 4

# Of a kind that this version doesn't know, as a later one wrote it.
UNKNOWN: Final = Meaning(_ENTITY, OTHER)

MEANINGS: Final[Mapping[str, Meaning]] = {
    "operator.bootstrapped": Meaning(_ACCOUNT, 1, _MEDIUM),
    "operator.created": Meaning(_ACCOUNT, 1),
    "operator.approved": Meaning(_ACCOUNT, 2),
    "operator.renewed": Meaning(_ACCOUNT, 4),
    "operator.revoked": Meaning(_ACCOUNT, 6),
    "operator.recovery_offered": Meaning(_ACCOUNT, OTHER, _HIGH),
    "operator.link_made": Meaning(_ACCOUNT, OTHER),
    "operator.linked": Meaning(_ACCOUNT, OTHER),
    "operator.unlinked": Meaning(_ACCOUNT, OTHER, _LOW),
    "operator.roles_changed": Meaning(_ACCOUNT, OTHER),
    "session.begun": Meaning(_AUTH, 1),
    "session.renewed": Meaning(_AUTH, 1),
    "session.ended": Meaning(_AUTH, 2),
    "session.device_answered": Meaning(_AUTH, OTHER, _LOW),
    "passkey.added": Meaning(_ACCOUNT, 4, _LOW),
    "passkey.used": Meaning(_AUTH, 1),
    "passkey.refused": Meaning(_AUTH, 1, _HIGH),
    "passkey.renamed": Meaning(_ACCOUNT, OTHER),
    "passkey.removed": Meaning(_ACCOUNT, 4, _LOW),
    "session.refused": Meaning(_AUTH, 1, _LOW),
    "auth.denied": Meaning(_API, OTHER, _LOW),
    "auth.token_issued": Meaning(_AUTH, 1),
    "auth.token_refused": Meaning(_AUTH, 1, _LOW),
    "organization.created": Meaning(_ENTITY, _CREATE),
    "organization.revoked": Meaning(_ENTITY, _DISABLE),
    "organization.policy_changed": Meaning(_ENTITY, _UPDATE),
    "organization.renamed": Meaning(_ENTITY, _UPDATE),
    "workload.created": Meaning(_ACCOUNT, 1),
    "workload.key_added": Meaning(_ACCOUNT, 4),
    "workload.revoked": Meaning(_ACCOUNT, 6),
    "trust.created": Meaning(_ACCOUNT, 4, _LOW),
    "trust.revoked": Meaning(_ACCOUNT, 4),
    "trust.expired": Meaning(_ACCOUNT, 4),
    "trust.token_elsewhere": Meaning(_AUTH, OTHER, _MEDIUM),
    "issuer.declared": Meaning(_ENTITY, _UPDATE),
    "issuer.suspended": Meaning(_ENTITY, _SUSPEND, _MEDIUM),
    "issuer.resumed": Meaning(_ENTITY, _RESUME),
    "issuer.refreshed": Meaning(_ENTITY, _READ),
    "issuer.keys_changed": Meaning(_ENTITY, _UPDATE, _LOW),
    "issuer.unreachable": Meaning(_ENTITY, _READ, _LOW),
    "issuer.recovered": Meaning(_ENTITY, _READ),
    "grant.created": Meaning(_SESSION, 1),
    "grant.approved": Meaning(_SESSION, 1),
    "grant.tightened": Meaning(_SESSION, OTHER),
    "grant.revoked": Meaning(_SESSION, OTHER),
    "review.started": Meaning(_ENTITY, OTHER),
    "review.decided": Meaning(_ENTITY, OTHER),
    "right.altered": Meaning(_ENTITY, OTHER, _HIGH),
    "intake.requested": Meaning(_ENTITY, _CREATE),
    "intake.proof_refused": Meaning(_ENTITY, _READ, _LOW),
    "intake.submitted": Meaning(_ENTITY, _ENROLL),
    "intake.refused": Meaning(_ENTITY, _ENROLL, _LOW),
    "intake.accepted": Meaning(_ENTITY, _ACTIVATE),
    "intake.cancelled": Meaning(_ENTITY, _DELETE),
    "intake.expired": Meaning(_ENTITY, _DELETE),
    "intake.link_replaced": Meaning(_ENTITY, _UPDATE),
    "intake.link_logged": Meaning(_ENTITY, OTHER, _MEDIUM),
    "intake.status_link_replaced": Meaning(_ENTITY, _UPDATE),
    "intake.status_link_logged": Meaning(_ENTITY, OTHER, _MEDIUM),
    "credential.created": Meaning(_ENTITY, _CREATE),
    "credential.paused": Meaning(_ENTITY, _SUSPEND),
    "credential.resumed": Meaning(_ENTITY, _RESUME),
    "credential.exposed": Meaning(_ENTITY, _DISABLE, _HIGH),
    "credential.policy_changed": Meaning(_ENTITY, _UPDATE),
    "credential.revoked": Meaning(_ENTITY, _DISABLE),
    "credential.probe.authorized": Meaning(_API, _READ),
    "credential.probe.completed": Meaning(_API, _READ),
    "credential.version.staged": Meaning(_ENTITY, _ENROLL),
    "credential.version.verified": Meaning(_ENTITY, _READ),
    "credential.version.held": Meaning(_ENTITY, _SUSPEND, _LOW),
    "credential.version.activated": Meaning(_ENTITY, _ACTIVATE),
    "credential.version.refused": Meaning(_ENTITY, _READ, _LOW),
    "credential.version.retired": Meaning(_ENTITY, _DEACTIVATE),
    "credential.version.revoked": Meaning(_ENTITY, _DISABLE),
    "credential.version.revocation_confirmed": Meaning(_ENTITY, _READ),
    "credential.version.certified": Meaning(_ENTITY, _READ),
    "credential.version.accepted_again": Meaning(_ENTITY, _READ, _HIGH),
    "credential.version.destroyed": Meaning(_ENTITY, _DELETE),
    "credential.version.failing": Meaning(_ENTITY, _READ, _MEDIUM),
    "credential.version.recovered": Meaning(_ENTITY, _READ),
    "credential.version.unreachable": Meaning(_ENTITY, _READ, _LOW),
    "credential.version.gone": Meaning(_ENTITY, _READ, _HIGH),
    "rotation.opened": Meaning(_ENTITY, _CREATE),
    "rotation.call.authorized": Meaning(_API, OTHER),
    "rotation.call.completed": Meaning(_API, OTHER),
    "rotation.promoted": Meaning(_ENTITY, _UPDATE),
    "rotation.failing": Meaning(_ENTITY, _READ, _MEDIUM),
    "rotation.recovered": Meaning(_ENTITY, _READ),
    "rotation.completed": Meaning(_ENTITY, _UPDATE),
    "rotation.rolled_back": Meaning(_ENTITY, _UPDATE, _LOW),
    "rotation.cancelled": Meaning(_ENTITY, _DELETE),
    "lease.issued": Meaning(_API, _CREATE),
    "lease.denied": Meaning(_API, _CREATE, _LOW),
    "lease.replayed": Meaning(_API, _READ),
    "lease.renewed": Meaning(_API, _UPDATE),
    "lease.ended": Meaning(_API, _DELETE),
    "lease.revoked": Meaning(_API, _DELETE),
    "use.authorized": Meaning(_API, OTHER),
    "use.denied": Meaning(_API, OTHER, _LOW),
    "use.completed": Meaning(_API, OTHER),
    "use.outcome_unknown": Meaning(_API, OTHER, _LOW),
    "keystore.rotated": Meaning(_ENTITY, _CREATE),
    "keystore.rewrap_begun": Meaning(_ENTITY, _UPDATE),
    "keystore.rewrapped": Meaning(_ENTITY, _UPDATE),
    "keystore.master_key_dropped": Meaning(_ENTITY, _DELETE),
    "keystore.master_keys_destroyed": Meaning(_ENTITY, _DELETE, _MEDIUM),
    "keystore.orphan_attached": Meaning(_ENTITY, _ENROLL, _MEDIUM),
    "keystore.orphan_destroyed": Meaning(_ENTITY, _DELETE, _LOW),
    "leak.checked": Meaning(_API, _READ),
    "leak.found": Meaning(_ENTITY, _READ, _HIGH),
    "audit.read": Meaning(_API, _READ),
    "audit.exported": Meaning(_API, _READ),
    "audit.head": Meaning(_ENTITY, _READ),
    "audit.erased": Meaning(_ENTITY, _DELETE),
    "audit.pruned": Meaning(_ENTITY, _DELETE),
    "audit.hold_placed": Meaning(_ENTITY, _CREATE),
    "audit.hold_lifted": Meaning(_ENTITY, _DELETE),
    "log.key_rotated": Meaning(_ENTITY, _UPDATE),
    "log.key_retired": Meaning(_ENTITY, _DEACTIVATE),
    "record.archive_begun": Meaning(_ENTITY, _UPDATE),
    "record.archived": Meaning(_ENTITY, _UPDATE),
    "webhook.created": Meaning(_ENTITY, _CREATE),
    "webhook.revoked": Meaning(_ENTITY, _DELETE),
    "webhook.secret_rotated": Meaning(_ENTITY, _UPDATE),
    "webhook.disabled": Meaning(_ENTITY, _DISABLE, _LOW),
    "notice.resent": Meaning(_ENTITY, _UPDATE),
    "database.restored": Meaning(_ENTITY, OTHER, _HIGH),
    "database.restore_confirmed": Meaning(_ENTITY, OTHER, _MEDIUM),
}

# What is done upstream, by the method of a call that was made there.
_OF_METHODS: Final[Mapping[str, int]] = {
    "GET": _READ,
    "HEAD": _READ,
    "POST": _CREATE,
    "PUT": _UPDATE,
    "PATCH": _UPDATE,
    "DELETE": _DELETE,
}


def meaning(kind: str, method: str) -> Meaning:
    """What an event of this kind means; ``method`` is that of a call upstream, or empty."""
    found = MEANINGS.get(kind, UNKNOWN)
    if found.of is Class.API_ACTIVITY and found.activity == OTHER and method in _OF_METHODS:
        return found._replace(activity=_OF_METHODS[method])
    return found
