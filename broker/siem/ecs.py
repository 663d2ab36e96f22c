"""Events in the Elastic Common Schema, a JSON object a line.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import msgspec

from broker.base.clock import rfc3339
from broker.siem.kinds import Class, meaning
from broker.siem.told import CHECKPOINT, PRODUCT, VENDOR, Mark, Source, Told

VERSION: Final = "8.17.0"
# Names of sets that ECS allows, by the class of OCSF.
_CATEGORIES: Final[Mapping[Class, list[str]]] = {
    Class.API_ACTIVITY: ["api"],
    Class.AUTHENTICATION: ["authentication"],
    Class.AUTHORIZE_SESSION: ["iam"],
    Class.ACCOUNT_CHANGE: ["iam"],
    Class.ENTITY_MANAGEMENT: ["configuration"],
}
_TYPES: Final[Mapping[Class, Mapping[int, str]]] = {
    Class.API_ACTIVITY: {},
    Class.AUTHENTICATION: {1: "start", 2: "end"},
    Class.AUTHORIZE_SESSION: {},
    Class.ACCOUNT_CHANGE: {1: "creation", 6: "deletion"},
    Class.ENTITY_MANAGEMENT: {1: "creation", 2: "access", 4: "deletion"},
}
_OTHERWISE: Final[Mapping[Class, str]] = {
    Class.API_ACTIVITY: "access",
    Class.AUTHENTICATION: "info",
    Class.AUTHORIZE_SESSION: "change",
    Class.ACCOUNT_CHANGE: "change",
    Class.ENTITY_MANAGEMENT: "change",
}


def event(told: Told, source: Source) -> bytes:
    """One event, without a line end."""
    core, personal, outcome = told.core, told.personal, told.core.get("outcome")
    what = meaning(told.kind, core.get("target", {}).get("method", ""))
    kind_of = _TYPES[what.of].get(what.activity, _OTHERWISE[what.of])
    actor = core["actor"]
    made = _base(told.kind, core["time"], source)
    made["event"] |= {
        "category": _CATEGORIES[what.of],
        "type": [kind_of] if kind_of == "info" else [kind_of, "denied" if told.denied else "allowed"],
        "outcome": "success" if told.succeeded else "failure",
        "severity": what.severity,
        "id": core["id"],
        "sequence": told.index,
        "hash": told.proof()["commitment"],
        "original": told.core_bytes.decode(),
        **_given("reason", core.get("reason")),
    }
    if outcome is not None:
        made["event"]["duration"] = outcome["ms"] * 1_000_000
    made["user"] = {"id": actor["id"], **_given("name", personal.get("actor_name"))}
    made["related"] = {"user": [actor["id"]]}
    if "organization" in core:
        made["organization"] = {"id": core["organization"]}
    made |= _source(personal) | _upstream(told)
    rest = {
        name: core[name] for name in core if name not in {"actor", "organization", "outcome", "target", "time", "id"}
    }
    made["keybroker"] = {"audit": told.proof(), **rest, **_given("note", personal.get("note"))}
    return msgspec.json.encode(made)


def mark(checkpoint: Mark, source: Source) -> bytes:
    """A checkpoint; ``event.original`` is the signed note."""
    made = _base(CHECKPOINT, checkpoint.time, source)
    made["event"] |= {
        "category": ["configuration"],
        "type": ["info"],
        "outcome": "success",
        "original": checkpoint.text,
    }
    made["keybroker"] = {"audit": {"origin": checkpoint.origin, "size": checkpoint.size}}
    return msgspec.json.encode(made)


def _base(kind: str, time: int, source: Source) -> dict[str, Any]:
    return {
        "@timestamp": rfc3339(time),
        "ecs": {"version": VERSION},
        "event": {
            "kind": "event",
            "action": kind,
            "provider": PRODUCT.lower(),
            "dataset": f"{PRODUCT.lower()}.audit",
            "module": PRODUCT.lower(),
        },
        "observer": {"vendor": VENDOR, "product": PRODUCT, "version": source.version, "name": source.origin},
    }


def _source(personal: Mapping[str, Any]) -> dict[str, Any]:
    address, agent = personal.get("address", ""), personal.get("agent", "")
    made: dict[str, Any] = {"user_agent": {"original": agent}} if agent else {}
    if address:
        made["source"] = {"address": address}
        with suppress(ValueError):
            made["source"]["ip"] = str(ipaddress.ip_address(address))
    return made


def _upstream(told: Told) -> dict[str, Any]:
    """What was asked of the upstream."""
    target, core, made = told.core.get("target"), told.core, {}
    if target is not None:
        made["url"] = {**_given("domain", target["host"]), **_given("path", told.personal.get("path"))}
        made["http"] = {"request": {"method": target["method"], **_given("id", core.get("request"))}}
    if told.status is not None:
        made.setdefault("http", {})["response"] = {"status_code": told.status}
    return made


def _given(name: str, value: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """The member, if there is something to say."""
    return {name: value} if value not in (None, "") else {}
