"""Ids of different kinds don't mix, nor times and numbers: mypy refuses them; and few modules call text an id."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import broker
from broker.formats import ids

ROOT = Path(broker.__file__).parent
KINDS = {getattr(kind, "__name__", "") for kind in ids.PREFIXES}
# Who calls text an id, and why.  Rows have columns of the types, the edge has fields of them, formats/ids mints them.
MAKERS = {
    "notifications/tables.py": "a delivery's destination is an address or a webhook's id",
    "kv_audit.py": "paths in Vault are made of ids",
    "pruning/leases.py": "guards and quotas are named by ids, whatever they are of",
}
_GIVEN = """
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Scope
from broker.credentials.due import is_due
from broker.credentials.tables import VersionRow
from broker.credentials.versions import versions_of
from broker.formats import ids
from broker.leases.tables import LeaseRow
from broker.organizations.commands import find


async def called(
    session: AsyncSession, version: VersionRow, lease: LeaseRow, asked: ids.Reference, now: Millis
) -> None:
"""
TAKEN = {
    "a row's own id": "await versions_of(session, version.credential_id)",
    "another row's id of the kind": "await versions_of(session, lease.credential_id)",
    "a new one": "await versions_of(session, ids.new(ids.CredentialId))",
    "a reference, where one is looked up": "await find(session, asked)",
    "an id, where an id or a name is looked up": "await find(session, lease.organization_id)",
    "an id, where any text will do": "lease.id.upper()",
    "an event's own": "Event(kind='lease.ended', time=now, actor=BROKER, lease=lease.id, grant=lease.grant_id)",
    "a later time": "is_due(version.next_probe_at, later(now, DAY_MS), DAY_MS)",
    "a time where times are compared": "lease.expires_at <= now - DAY_MS",
}
REFUSED = {
    "the id beside it": "await versions_of(session, version.organization_id)",
    "text": "await versions_of(session, 'crd_019ab3d4e5f678899aabbccddeeff001')",
    "another kind's, which may be missing": "await versions_of(session, version.intake_id)",
    "a new one of another kind": "await versions_of(session, ids.new(ids.GrantId))",
    "a name that nobody looked up": "Scope.of(asked)",
    "an event's, swapped": "Event(kind='lease.ended', time=now, actor=BROKER, lease=lease.grant_id)",
    "how long something takes, for a time": "is_due(version.next_probe_at, DAY_MS, DAY_MS)",
    "a number, for a row's time": "version.retired_at = now + DAY_MS",
    "a row's, swapped": "lease.grant_id = lease.id",
}


def test_mypy_takes_nothing_but_the_kind_of_id_that_is_wanted_nor_numbers_for_times(tmp_path: Path) -> None:
    calls = {call: what for what, call in (*TAKEN.items(), *REFUSED.items())}
    file = tmp_path / "calls.py"
    file.write_text(_GIVEN + "".join(f"    {call}\n" for call in calls))
    # With a cache of its own: another run may be writing the usual one.
    options = ["--config-file", str(ROOT.parent / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *options, str(file)]
    said = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, check=False).stdout
    lines = file.read_text().splitlines()
    found = re.findall(r"^\S+/calls\.py:(\d+): error: .*\[(?:arg-type|assignment)\]$", said, re.MULTILINE)
    assert {calls[lines[int(number) - 1].strip()] for number in found} == REFUSED.keys(), said
    assert f"Found {len(REFUSED)} errors" in said


def _called(tree: ast.AST) -> set[str]:
    named = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "") for name in named}


def test_few_modules_call_text_an_id() -> None:
    makers = {
        str(file.relative_to(ROOT)) for file in ROOT.rglob("*.py") if _called(ast.parse(file.read_text())) & KINDS
    }
    assert makers == MAKERS.keys()


def test_no_signature_takes_text_for_an_id_of_a_known_kind() -> None:
    """But where a stranger named it and nobody has looked yet."""
    kinds = {name.removesuffix("Id").lower() + "_id" for name in KINDS}
    pages = {f"web/pages/{name}.py" for name in ("evidence", "intake", "status")}
    unread = {*pages, "intake/proving.py", "identity/approval.py"}
    outside = {"cli", "client", "sandbox"}
    taken = {
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if file.relative_to(ROOT).parts[0] not in outside
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.arg) and node.arg in kinds and ast.unparse(node.annotation or node) == "str"
    }
    assert taken == unread
