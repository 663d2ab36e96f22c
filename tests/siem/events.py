"""An event of every kind, with all that one may have and with the least."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from broker.audit.events import BROKER, KINDS, Actor, AuditTarget, Event, Outcome
from broker.base.clock import Millis
from broker.formats import ids
from broker.formats.audit_event import commitment_of, entry_of
from broker.formats.ids import AuditEventId
from broker.siem.told import Mark, Source, Told
from tests.support.ids import nth

SOURCE = Source("keys.vendor.example/audit/0123456789abcdef", "0.1.0")
TIME = Millis(1_780_000_000_123)
MARK = Mark(b"keys.vendor.example/audit/0123456789abcdef\n7\nAAAA\n\n\xe2\x80\x94 keys AAAA\n", SOURCE.origin, 7, TIME)
SALTS = bytes(range(64))


def told(event: Event, index: int = 7) -> Told:
    """What a rendering gets of an event, with the same salts each time."""
    core, personal, *_ = event.committed()
    entry = entry_of(core, SALTS[:32], personal, SALTS[32:])
    part = commitment_of(personal, SALTS[32:])
    return Told(index, 0, json.loads(core), json.loads(personal), core, SALTS[:32], part, entry)


def whole(kind: str, **more: Any) -> Event:
    """An event of this kind that has every field."""
    fields: dict[str, Any] = {
        "actor": Actor("workload", nth("wkl"), "nightly-sync", "192.0.2.7", "keybroker-client/1"),
        "organization": nth("org"),
        "subject": nth("rot"),
        "credential": nth("crd"),
        "version": 2,
        "provider": "raptor-comply",
        "fingerprint": "0123456789abcdef",
        "workload": nth("wkl"),
        "grant": nth("grt"),
        "lease": nth("lse"),
        "use": nth("use"),
        "intake": nth("int"),
        "mode": "use",
        "reason": "grant_expired" if kind.endswith("denied") else "",
        "decision": "denied" if kind.endswith("denied") else "allowed",
        "target": AuditTarget("api.raptormaps.com", "GET", "/facilities", ("page",), "q=1"),
        "outcome": Outcome(200, 35, 100, 2_000, "up-1"),
        "note": "a first look",
        "request": nth("req"),
        "id": AuditEventId(nth("evt")),
        **more,
    }
    return Event(kind=kind, time=TIME, **fields)


def least(kind: str) -> Event:
    """An event of this kind that has no more than every event."""
    return Event(kind=kind, time=TIME, actor=BROKER, id=AuditEventId(nth("evt", 2)))


def every() -> Iterator[Told]:
    """Both of every kind, and each kind of actor, method, status and address once."""
    for kind in KINDS:
        yield told(whole(kind))
        yield told(least(kind))
    for type_ in ("operator", "workload", "customer", "broker", "stranger"):
        yield told(whole("intake.submitted", actor=Actor(type_, ids.new(ids.OperatorId))))
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        yield told(whole("use.authorized", target=AuditTarget("api.raptormaps.com", method, "/x")))
    for status in (200, 302, 404, 503, None):
        yield told(whole("use.completed", outcome=Outcome(status, 1)))
    for address in ("", "2001:db8::7", "unix", "10.0.0.1, 10.0.0.2"):
        yield told(whole("lease.issued", actor=Actor("workload", nth("wkl"), "", address)))
