"""The page of event kinds."""

from __future__ import annotations

from broker.audit.events import KINDS
from tests.reference.markdown import code, page, table

ABOUT = """\
Every event of the record is of one of these kinds. `broker audit search --kind lease.issued` finds one kind, `--kind
'lease.*'` a group. What an event holds, byte for byte, is in [its format](../formats/audit_event.md). An event with the
decision `denied` has the [code](problems.md) of the refusal as its `reason`."""


def made() -> str:
    """The page."""
    groups = sorted({kind.partition(".")[0] for kind in KINDS})
    parts = []
    for group in groups:
        rows = [(code(kind), text) for kind, text in KINDS.items() if kind.partition(".")[0] == group]
        parts.append(f"## {group}\n\n" + table(("kind", "what happened"), rows))
    return page("Event kinds", ABOUT, *parts)
