"""The benchmark of a large database goes through on a small one, and has a figure of everything."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

from tests.bench import growth
from tests.bench.growth import moved, served, worked
from tests.bench.growth.asked import lists

SOME = {
    "filled_s",
    "disk_mb",
    "slowest_of_lists_ms",
    "slowest_of_record_ms",
    "dependents_of_hot_key_ms",
    "first_lease_p50_ms",
    "next_use_p50_ms",
    "look_up_p50_ms",
    "key_list_of_one_requests",
    "use_cpu_us",
    "use_disk_bytes",
    "memory_mb",
    "keystore_status_s",
    "rewrapped_per_s",
    "use_p99_beside_rewrap_vs_before",
    "duty_ask_for_due_statements",
    "checks_per_s",
}


def test_everything_is_measured_on_a_filled_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "lists", lambda *given: islice(lists(*given), 10))
    monkeypatch.setattr(served, "SUBJECTS", 10)
    monkeypatch.setattr(served, "USES", 50)
    monkeypatch.setattr(moved, "BESIDE_S", 0.5)
    monkeypatch.setattr(worked, "LOOK_UPS", 10)
    figures = growth.on_sqlite(tmp_path, 300)
    assert {f"growth_sqlite_{name}" for name in SOME} <= figures.keys()
    assert figures["growth_sqlite_rewrapped_per_s"] > 0
