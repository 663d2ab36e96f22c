"""Three brokers, PostgreSQL and OpenBao under faults for some seconds; `make torture` does it for longer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.run import run


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_whatever_fails_nothing_is_used_after_a_cut_lost_or_crossed(tmp_path: Path) -> None:
    done = await run(tmp_path, seconds=20, seed=20261124)
    assert done.violations == [], done.summary


@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_the_checker_finds_a_broker_whose_guards_are_off(tmp_path: Path) -> None:
    done = await run(tmp_path, seconds=8, seed=7, guarded=False, faults=False)
    assert any("after it was cut" in violation for violation in done.violations), done.summary
