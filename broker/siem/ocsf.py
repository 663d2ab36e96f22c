"""Events in OCSF 1.8.0 (https://schema.ocsf.io/1.8.0), a JSON object a line.  Pure.

The form is this version's for good: a later one of OCSF is another form.  What it can't name is in ``unmapped``, and
``raw_data`` has the core bytes, so that an event can be proven from what a SIEM kept of it.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from broker.siem.kinds import ACTIVITIES, OTHER, Class, Meaning, meaning
from broker.siem.told import CHECKPOINT, PRODUCT, VENDOR, Mark, Source, Told

VERSION: Final = "1.8.0"
_PROFILE: Final = "security_control"
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}
_CATEGORIES: Final = {3: "Identity & Access Management", 6: "Application Activity"}
_CLASSES: Final = {
    Class.ACCOUNT_CHANGE: "Account Change",
    Class.AUTHENTICATION: "Authentication",
    Class.AUTHORIZE_SESSION: "Authorize Session",
    Class.ENTITY_MANAGEMENT: "Entity Management",
    Class.API_ACTIVITY: "API Activity",
}
# The type of a user, by the type of actor; 99 is Other.
_USERS: Final = {"operator": (1, "User"), "workload": (4, "Service"), "broker": (3, "System")}
_SERVICE: Final = {"name": PRODUCT}
# Members of the core that have no place of their own.
_REST: Final = ("fingerprint", "grant", "intake", "lease", "mode", "subject", "use", "v", "version")

Object = dict[str, Any]


def event(told: Told, source: Source) -> bytes:
    """One event, without a line end."""
    target = told.core.get("target", {})
    what = meaning(told.kind, target.get("method", ""))
    made = _base(what, told.kind, told.core["time"], source) | _decision(told) | _of_class(what.of, told)
    made["metadata"] |= {
        "uid": told.core["id"],
        "sequence": told.index,
        "log_version": str(told.core["v"]),
        **_given("tenant_uid", told.core.get("organization")),
        **_given("correlation_uid", told.core.get("request")),
    }
    made |= _raw(told.core_bytes)
    made["unmapped"] = {"audit": told.proof(), **{name: told.core[name] for name in _REST if name in told.core}}
    made["unmapped"] |= _given("note", told.personal.get("note"))
    return msgspec.json.encode(made)


def mark(checkpoint: Mark, source: Source) -> bytes:
    """A checkpoint, as an entity that was made; ``raw_data`` is the signed note."""
    made = _base(Meaning(Class.ENTITY_MANAGEMENT, 1), CHECKPOINT, checkpoint.time, source)
    made["metadata"] |= {"uid": f"{checkpoint.origin}@{checkpoint.size}"}
    made["entity"] = {"name": checkpoint.origin, "type": "Checkpoint", "type_id": OTHER}
    made["unmapped"] = {"audit": {"size": checkpoint.size}}
    return msgspec.json.encode(made | {"status": "Success", "status_id": 1} | _raw(checkpoint.note))


def _base(what: Meaning, kind: str, time: int, source: Source) -> Object:
    """What every class has."""
    name = ACTIVITIES[what.of].get(what.activity, kind)
    return {
        "activity_id": what.activity,
        "activity_name": name,
        "category_name": _CATEGORIES[what.of // 1000],
        "category_uid": what.of // 1000,
        "class_name": _CLASSES[what.of],
        "class_uid": int(what.of),
        "metadata": {
            "version": VERSION,
            "product": {"name": PRODUCT, "vendor_name": VENDOR, "version": source.version},
            "log_name": source.origin,
            "event_code": kind,
            "profiles": [_PROFILE],
        },
        "severity": _SEVERITIES[what.severity],
        "severity_id": what.severity,
        "time": time,
        "type_name": f"{_CLASSES[what.of]}: {name}",
        "type_uid": what.of * 100 + what.activity,
    }


def _decision(told: Told) -> Object:
    """What was decided, and what came of it."""
    core, outcome = told.core, told.core.get("outcome")
    made: Object = {
        "action": "Denied" if told.denied else "Allowed",
        "action_id": 2 if told.denied else 1,
        "disposition": "Blocked" if told.denied else "Allowed",
        "disposition_id": 2 if told.denied else 1,
        "status": "Success" if told.succeeded else "Failure",
        "status_id": 1 if told.succeeded else 2,
        **_given("status_detail", core.get("reason")),
    }
    if outcome is not None:
        made["duration"] = outcome["ms"]
        made |= _given("status_code", None if outcome.get("status") is None else str(outcome["status"]))
    if "grant" in core:
        made["policy"] = {"uid": core["grant"], "type": "Grant", "is_applied": not told.denied}
        made["authorizations"] = [{"decision": core["decision"], "policy": made["policy"]}]
    return made


def _of_class(of: Class, told: Told) -> Object:
    """What a class has of its own."""
    actor = {"user": _user(told)}
    if of is Class.API_ACTIVITY:
        return {"actor": actor, "api": _api(told), "src_endpoint": _endpoint(told), **_upstream(told)}
    where = {"src_endpoint": _endpoint(told)}
    if of is Class.AUTHENTICATION:
        return {"user": _user(told), "service": _SERVICE, **where}
    if of is Class.AUTHORIZE_SESSION:
        return {"actor": actor, "user": _subject(told, "workload"), "privileges": _privileges(told), **where}
    if of is Class.ACCOUNT_CHANGE:
        return {"actor": actor, "user": _subject(told, "workload"), **where}
    return {"actor": actor, "entity": _entity(told), **where}


def _user(told: Told) -> Object:
    """Who did it."""
    actor, personal = told.core["actor"], told.personal
    type_id, name = _USERS.get(actor["type"], (OTHER, actor["type"]))
    return {"uid": actor["id"], "type": name, "type_id": type_id, **_given("name", personal.get("actor_name"))}


def _subject(told: Told, field: str) -> Object:
    """Whom it was done to: a job, or an account."""
    core = told.core
    if field in core:
        return {"uid": core[field], "type": "Service", "type_id": 4}
    return {"uid": core["subject"], "type": "User", "type_id": 1} if "subject" in core else _user(told)


def _privileges(told: Told) -> list[str]:
    core = told.core
    return [" ".join(core[name] for name in ("mode", "provider") if name in core) or "use"]


def _api(told: Told) -> Object:
    target, core = told.core.get("target"), told.core
    operation = told.kind if target is None else f"{target['method']} {told.personal.get('path', '')}".rstrip()
    made: Object = {"operation": operation, "service": _SERVICE}
    if "provider" in core:
        made["service"] = {"name": core["provider"]}
    if "request" in core:
        made["request"] = {"uid": core["request"]}
    if told.status is not None:
        made["response"] = {"code": told.status}
    return made


def _endpoint(told: Told) -> Object:
    """From where it was done, as far as that is known and not erased."""
    address = told.personal.get("address", "")
    try:
        return {"ip": str(ipaddress.ip_address(address))}
    except ValueError:
        return {"svc_name": PRODUCT} if told.core["actor"]["type"] == "broker" else {"uid": told.core["actor"]["id"]}


def _upstream(told: Told) -> Object:
    """What was asked of the upstream, and with which key."""
    core, personal, target = told.core, told.personal, told.core.get("target")
    made: Object = {}
    if "credential" in core:
        made["resources"] = [_credential(core)]
    if target is not None:
        url = {**_given("hostname", target["host"]), "path": personal.get("path") or "/"}
        made["http_request"] = {
            "http_method": target["method"],
            "url": url,
            **_given("user_agent", personal.get("agent")),
            **_given("uid", personal.get("upstream_id")),
        }
        if target["host"]:
            made["dst_endpoint"] = {"hostname": target["host"]}
    if told.status is not None:
        made["http_response"] = {"code": told.status}
    return made


def _credential(core: Mapping[str, Any]) -> Object:
    made = {"uid": core["credential"], "type": "Credential", "version": str(core.get("version", ""))}
    return {name: value for name, value in made.items() if value}


def _entity(told: Told) -> Object:
    """What it was done to."""
    core = told.core
    for field, name in (
        ("credential", "Credential"),
        ("intake", "Request for a key"),
        ("subject", "Other"),
        ("workload", "Job"),
        ("organization", "Organization"),
    ):
        if field in core:
            made: Object = {"uid": core[field], "type": name, "type_id": OTHER}
            if field == "organization":
                made |= {"type_id": 4, "org": {"uid": core[field]}}
            return made | _given("version", str(core["version"]) if "version" in core else None)
    return {"name": told.kind.partition(".")[0], "type": "Broker", "type_id": OTHER}


def _raw(data: bytes) -> Object:
    digest = {"algorithm": "SHA-256", "algorithm_id": 3, "value": hashlib.sha256(data).hexdigest()}
    return {"raw_data": data.decode(), "raw_data_hash": digest, "raw_data_size": len(data)}


def _given(name: str, value: Any) -> Object:  # noqa: ANN401 - any JSON
    """The member, if there is something to say."""
    return {name: value} if value not in (None, "") else {}
