"""The benchmarks' own promises: no figure replaces another's, a failure costs no other figure, wide is wide."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from broker.leases import leasing, standing
from tests.bench import keystores, lease, scale
from tests.bench.__main__ import collect
from tests.bench.load import Measured, walk
from tests.bench.upstream import running

SOME = Measured(1.0, 1.0, 1.0)


def test_a_benchmark_that_fails_costs_no_other_figure() -> None:
    def broken(_directory: Path) -> dict[str, float]:
        raise RuntimeError("5 answers were errors")

    found, failed = collect(
        ["first", "broken", "last"],
        {"first": lambda _: {"a": 1.0}, "broken": broken, "last": lambda _: {"b": 2.0}},
    )
    assert found == {"a": 1.0, "b": 2.0}
    assert failed == {"broken": "RuntimeError: 5 answers were errors"}


def test_no_figure_replaces_one_of_another_benchmark() -> None:
    found, failed = collect(["first", "second"], {"first": lambda _: {"a": 1.0}, "second": lambda _: {"a": 2.0}})
    assert found == {"a": 1.0}
    assert list(failed) == ["second"]


def test_benchmarks_that_read_from_openbao_name_its_figures_apart() -> None:
    leases = dict.fromkeys(("lease", "reveal", "openbao_read", "openbao_wrapped"), SOME)
    replicas = dict.fromkeys(("openbao_read", "replicas_1", "replicas_2"), SOME)
    wide = {f"organizations_{size}_{kind}": SOME for size in scale.SIZES for kind in ("warm", "wide")}
    named = (
        lease.figures(leases),
        keystores._figures({"openbao_read": SOME, "local_use": SOME, "local_reveal": SOME}),
        scale._figures(replicas | wide, dict.fromkeys(scale.SIZES, 1.0)),
    )
    for one, other in itertools.combinations(named, 2):
        assert not one.keys() & other.keys()
    assert "scale_openbao_read_p99_ms" in named[2]


def test_more_organizations_are_walked_than_a_broker_remembers_and_not_before_it_forgot_them() -> None:
    assert max(standing._REMEMBERED, leasing._REMEMBERED) < scale._WIDE
    assert standing._FRESH_MS / 1000 < scale._FORGOTTEN_S


def test_each_wide_round_begins_elsewhere_and_late_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    now, begun = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def run(_ports: list[int], requests: list[bytes], **_how: object) -> Measured:
        begun.append((now, requests[0]))
        return SOME

    monkeypatch.setattr("tests.bench.scale.sleep", sleep)
    monkeypatch.setattr("tests.bench.scale.monotonic", lambda: now)
    monkeypatch.setattr(scale, "run", run)
    scale._rounds({"organizations_9_wide": ([1], [b"%d" % number for number in range(9)])})
    assert begun == [(0, b"0"), (scale._FORGOTTEN_S, b"3"), (2 * scale._FORGOTTEN_S, b"6")]


def test_walking_sends_each_request_once(tmp_path: Path) -> None:
    with running(tmp_path / "upstream") as port:
        given = [b"GET /facilities HTTP/1.1\r\nHost: x\r\n\r\n"] * 50 + [b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"] * 7
        measured = walk(port, given, connections=4)
    assert measured.failed == 7
