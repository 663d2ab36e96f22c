"""What the edge adds to an answer is measured as the difference that it makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.base.logs import configure
from tests.bench import edge
from tests.bench.rounds import Spread


@pytest.fixture
def quiet() -> Iterator[None]:
    """Log as all other tests do afterwards."""
    yield
    configure("error")


def test_log_line_and_metrics_are_what_an_answer_with_them_takes_beyond_one_without() -> None:
    found = edge.figures({"whole": [30.0, 50.0, 42.0], "silent": [20.0, 44.0, 34.0], "write": [2.0, 1.0, 4.0]})
    assert found["edge_cpu_us"] == Spread(8, 6, 10)
    assert found["edge_vs_write"] == Spread(5, 2, 6)
    assert found["edge_silent_cpu_us"] == Spread(34, 20, 44)


def test_each_answer_is_logged_where_it_is_measured_and_nowhere_else(quiet: None, tmp_path: Path) -> None:
    found = edge.measure(tmp_path, answers=3, rounds=2)
    assert set(found) == {"edge_cpu_us", "edge_silent_cpu_us", "edge_write_cpu_us", "edge_vs_write"}
    lines = (tmp_path / "log").read_text().splitlines()
    logged, written = 1 + 3 * 2, 3 * 2
    assert len(lines) == logged + written
    assert all('"route": "/v1/leases", "status": 201' in line for line in lines)
