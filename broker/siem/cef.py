"""Events in the Common Event Format (CEF:0), a line each.  Pure.

No text from outside can end a line or begin a field: it is free of what isn't shown, and escaped as the format says.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from broker.audit.events import KINDS
from broker.base.shown import shown
from broker.siem.kinds import meaning
from broker.siem.told import CHECKPOINT, PRODUCT, VENDOR, Mark, Source, Told

# 0 to 10, by a meaning's severity.
_SEVERITIES: Final = {1: 2, 2: 4, 3: 6, 4: 8, 5: 10}
# Characters of one value; a path or a note may be longer.
_MOST: Final = 1_023


def event(told: Told, source: Source) -> bytes:
    """One event, without a line end."""
    core, personal = told.core, told.personal
    target, outcome, actor, proof = core.get("target", {}), core.get("outcome", {}), core["actor"], told.proof()
    status = outcome.get("status")
    extension = {
        "rt": core["time"],
        "externalId": core["id"],
        "act": core["decision"],
        "outcome": "success" if told.succeeded else "failure",
        "reason": core.get("reason"),
        "suid": actor["id"],
        "suser": personal.get("actor_name"),
        "src": _address(personal.get("address", "")),
        "requestClientApplication": personal.get("agent"),
        "dhost": target.get("host"),
        "requestMethod": target.get("method"),
        "request": personal.get("path"),
        "in": outcome.get("bytes_in"),
        "out": outcome.get("bytes_out"),
        "msg": personal.get("note"),
        **_labelled("cn", 1, "logIndex", told.index),
        **_labelled("cn", 2, "status", status),
        **_labelled("cn", 3, "milliseconds", outcome.get("ms")),
        **_labelled("cs", 1, "commitment", proof["commitment"]),
        **_labelled("cs", 2, "organization", core.get("organization")),
        **_labelled("cs", 3, "credential", core.get("credential")),
        **_labelled("cs", 4, "saltCore", proof["salt_core"]),
        **_labelled("cs", 5, "personalCommitment", proof["personal_commitment"]),
    }
    name = KINDS.get(told.kind, told.kind)
    severity = _SEVERITIES[meaning(told.kind, "").severity]
    return _line(source, told.kind, name, severity, extension, ("cs6", "core", told.core_bytes.decode()))


def mark(checkpoint: Mark, source: Source) -> bytes:
    """A checkpoint; ``cs6`` is the signed note."""
    extension = {"rt": checkpoint.time, **_labelled("cn", 1, "size", checkpoint.size)}
    note = ("cs6", "checkpoint", checkpoint.text)
    return _line(source, CHECKPOINT, "A checkpoint of the record's log.", _SEVERITIES[1], extension, note)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def _labelled(kind: str, number: int, label: str, value: object) -> dict[str, object]:
    return {} if value is None else {f"{kind}{number}": value, f"{kind}{number}Label": label}


def _line(
    source: Source, kind: str, name: str, severity: int, extension: dict[str, object], raw: tuple[str, str, str]
) -> bytes:
    head = (f"CEF:0|{VENDOR}", PRODUCT, source.version, kind, name, str(severity))
    fields = [f"{field}={_value(str(value)[:_MOST])}" for field, value in extension.items() if value not in (None, "")]
    field, label, text = raw
    fields += [f"{field}Label={label}", f"{field}={_value(text)}"]
    first, *others = head
    header = "|".join([first, *(_header(text) for text in others)])
    return f"{header}|{' '.join(fields)}".encode()


def _header(text: str) -> str:
    return shown(text).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    """A value of the extension: its line ends are escaped, and nothing else steers a display."""
    lines = [shown(line).replace("\\", "\\\\").replace("=", "\\=") for line in text.split("\n")]
    return "\\n".join(lines)
