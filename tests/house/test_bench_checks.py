"""The benchmark of checks: every key of the backlog is asked about."""

from __future__ import annotations

from pathlib import Path

from tests.bench import checks, upstream


async def test_a_backlog_is_asked_about_to_its_end(tmp_path: Path) -> None:
    with upstream.running(tmp_path / "upstream", answers_in_ms=1) as port:
        found = await checks.checked(tmp_path / "home", None, f"http://127.0.0.1:{port}", 30, "checks")
    assert found["checks_per_s"] > 0
    assert found["checks_50000_minutes"] == checks.BACKLOG / found["checks_per_s"] / 60
