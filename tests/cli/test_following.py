"""The record on a terminal of 80 columns, and followed: every event once, in order, also over a broker's restart."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from broker.audit.events import KINDS
from broker.cli import trail
from broker.keystore.local import MasterKeys
from tests.support.commands import MINIMAL
from tests.support.processes import free_port
from tests.support.program import Program
from tests.support.world import upstream


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "index": 7,
        "time": more.pop("time", "2026-11-25T19:50:05.123Z"),
        "kind": kind,
        "decision": more.pop("decision", "allowed"),
        "core": {"actor": {"id": "wkl_" + "0" * 32}, "provider": "raptor-comply", **more},
        "personal": {"actor_name": "nightly-sync", "path": "/facilities/of/acme"},
    }


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *events: dict[str, Any]) -> list[str]:
    monkeypatch.setattr(trail, "terminal_width", lambda: 80)
    assert trail.show_all(events) is bool(events)
    return capsys.readouterr().out.splitlines()


def test_every_kind_is_readable_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target, outcome = {"method": "GET", "host": "api.raptormaps.com"}, {"status": 200, "ms": 35}
    for kind in KINDS:
        lines = shown(monkeypatch, capsys, event(kind, target=target, outcome=outcome, reason="over_its_limit"))
        assert all(cell_len(line) <= 80 for line in lines), lines
        text = " ".join(" ".join(lines).split())
        assert text.startswith(f"2026-11-25 (UTC) 19:50:05 {kind} nightly-sync raptor-comply over_its_limit GET")
        assert text.endswith("→ 200 in 35 ms")


def test_a_day_is_named_once_and_a_refusal_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = shown(
        monkeypatch,
        capsys,
        event("lease.denied", decision="denied", reason="grant_expired_long_ago"),
        event("lease.issued"),
        event("lease.issued", time="2026-11-26T00:00:00.000Z"),
    )
    assert lines == [
        "2026-11-25 (UTC)",
        "19:50:05  lease.denied              nightly-sync",
        "          denied raptor-comply grant_expired_long_ago",
        "19:50:05  lease.issued              nightly-sync  raptor-comply",
        "2026-11-26 (UTC)",
        "00:00:00  lease.issued              nightly-sync  raptor-comply",
    ]


def test_a_platforms_token_is_told_by_what_was_signed_and_a_refusal_by_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trust = "trs_" + "0" * 32
    issued = event("auth.token_issued", provider="github-actions", subject=trust, reason="ab" * 32)
    issued["personal"]["note"] = "repository=acme/sync run_id=8812"
    refused = event("auth.token_refused", provider="", decision="denied", reason="claim_differs")
    refused["personal"]["note"] = "environment is `dev`; no trust takes it."
    assert shown(monkeypatch, capsys, issued, refused)[1:] == [
        "19:50:05  auth.token_issued         nightly-sync",
        f"          github-actions {trust}",
        "          repository=acme/sync run_id=8812",
        "19:50:05  auth.token_refused        nightly-sync",
        "          denied claim_differs environment is `dev`; no trust takes it.",
    ]


@pytest.fixture
def followed() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """``broker audit search --follow``, as a process of its own."""
    running = []

    def start(home: Path, url: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "broker", "audit", "search", "--follow", *words]
        environment = {**MINIMAL, "HOME": str(home), "BROKER_URL": url, "PYTHONUNBUFFERED": "1"}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


async def test_new_events_are_printed_as_they_come_also_after_a_restart(
    tmp_path: Path, sqlite_url: str, followed: Callable[..., subprocess.Popen[str]]
) -> None:
    from tests.cli.test_commands import shell_beside

    MasterKeys({}, "").with_new_key().write_file(tmp_path / "master-keys.toml")
    port = free_port()
    async with upstream() as (_, upstream_url):
        program = await asyncio.to_thread(Program, tmp_path, sqlite_url, upstream_url, port)
        try:
            shell = shell_beside(program.url, tmp_path)
            await asyncio.to_thread(
                lambda: shell.run("operator", "bootstrap", "--name", "ada", given=program.bootstrap)
            )
            await asyncio.to_thread(shell.run, "org", "add", "acme", "--name", "Acme")
            following = followed(tmp_path / "home", program.url, "--kind", "organization.*", "--json")
            lines = following.stdout
            assert lines is not None

            async def following_line() -> dict[str, Any]:
                text = await asyncio.wait_for(asyncio.to_thread(lines.readline), 60)
                found: dict[str, Any] = json.loads(text)
                return found

            # given
            assert (await following_line())["kind"] == "organization.created"
            await asyncio.to_thread(shell.run, "org", "add", "globex", "--name", "Globex")
            second = await following_line()
            # when
            await asyncio.to_thread(program.stop)
            program = await asyncio.to_thread(Program, tmp_path, sqlite_url, upstream_url, port)
            await asyncio.to_thread(shell.run, "org", "add", "initech", "--name", "Initech")
            # then
            third = await following_line()
            assert third["index"] > second["index"]
            assert third["core"]["organization"] != second["core"]["organization"]
            following.send_signal(signal.SIGINT)
            assert await asyncio.to_thread(following.wait, 30) == 0
            reads = await asyncio.to_thread(shell.json, "audit", "search", "--kind", "audit.read")
            assert len(reads) == 2, "the one that followed, and this one"
        finally:
            await asyncio.to_thread(program.stop)
