"""The benchmarks' own promises: no figure replaces another's, a failure costs no other figure, wide is wide.

CPU is that of whoever answered, all of its processes and nobody else's.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.client.identity import Identity
from broker.leases import leasing, snapshot
from tests.bench import asgi, broker, cpu, keystores, lease, mask, proxy, scale, strangers, wire, workers
from tests.bench.__main__ import collect, in_json, in_table
from tests.bench.load import Measured, http, run, walk
from tests.bench.rounds import WARM_UP_S, Contender, Figure, Rounds, Spread, cpu_us, cpu_vs, interleaved
from tests.bench.upstream import running

SOME = Measured(1.0, 1.0, 1.0, cpu_us=1.0)
BUSY_S = 0.2
BUSY = f"import time\nwhile time.process_time() < {BUSY_S}: pass\n"


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
    leases = {name: [SOME] for name in ("lease_bare", "lease", "reveal", "openbao_read", "openbao_wrapped")}
    replicas = dict.fromkeys(("openbao_read", "replicas_1", "replicas_2"), SOME)
    wide = {f"organizations_{size}_{kind}": SOME for size in scale.SIZES for kind in ("warm", "wide")}
    named: list[Mapping[str, object]] = [
        lease.figures(leases),
        keystores.figures({"openbao_read": SOME, "local_use": SOME, "local_reveal": SOME}),
        scale.figures(replicas | wide, dict.fromkeys(scale.SIZES, 1.0)),
        wire.figures({name: [SOME] for name in ("wire_bare", "wire_in", "wire_forward", "aiohttp_forward")}),
        proxy.figures(proxied([SOME])),
        workers.figures({f"workers_sqlite_{name}": [SOME] for name in ("one", "two")}),
    ]
    for one, other in itertools.combinations(named, 2):
        assert not one.keys() & other.keys()
    assert "scale_openbao_read_p99_ms" in named[2]


def test_more_organizations_are_walked_than_a_broker_remembers_and_not_before_it_forgot_them() -> None:
    assert max(snapshot.REMEMBERED, leasing.REMEMBERED) < scale.WIDE
    assert snapshot.FRESH_MS / 1000 < scale.FORGOTTEN_S


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
    scale.in_rounds({"organizations_9_wide": ([1], [b"%d" % number for number in range(9)])})
    assert begun == [(0, b"0"), (scale.FORGOTTEN_S, b"3"), (2 * scale.FORGOTTEN_S, b"6")]


def test_masking_is_measured_on_text_that_passes(tmp_path: Path) -> None:
    figures = mask.measure(tmp_path, size=4_000, rounds=1)
    assert set(figures) == {
        *(f"mask{text}_us_per_kib" for text in ("", "_small", "_json", "_unicode", "_binary", "_hostile")),
        "find_us_per_kib",
        "mask_vs_find",
    }
    assert min(figures.values()) > 0


def test_walking_sends_each_request_once(tmp_path: Path) -> None:
    with running(tmp_path / "upstream") as port:
        given = [b"GET /facilities HTTP/1.1\r\nHost: x\r\n\r\n"] * 50 + [b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n"] * 7
        measured = walk(port, given, connections=4)
    assert measured.failed == 7


def proxied(rounds: Rounds) -> dict[str, Rounds]:
    """What the proxy's benchmark measures, every contender's rounds alike."""
    names = ("bare", "direct", "nginx", "auth_request", "proxy", "proxy_postgres", "proxy_two_workers")
    return {"commit": rounds} | {f"{name}_{size}": rounds for name in names for size in proxy.CONNECTIONS}


def used(*microseconds: float) -> Rounds:
    return [Measured(1.0, 1.0, 1.0, cpu_us=each) for each in microseconds]


def test_cpu_is_compared_with_the_floor_of_the_same_round_and_shown_as_a_median_with_its_spread() -> None:
    measured = proxied(used(1.0, 1.0, 1.0))
    measured |= {"proxy_32": used(800, 500, 600), "proxy_1": used(1600, 1500, 900)}
    measured |= {"bare_32": used(40, 20, 60), "bare_1": used(80, 50, 90)}
    figures = proxy.figures(measured)
    assert figures["proxy_cpu_us"] == Spread(600, 500, 800)
    assert figures["proxy_1_cpu_us"] == Spread(1500, 900, 1600)
    assert figures["proxy_cpu_vs_bare"] == Spread(20, 10, 25)
    assert figures["proxy_1_cpu_vs_bare"] == Spread(20, 10, 30)
    assert figures["bare_32_cpu_us"] == Spread(40, 20, 60)
    assert figures["bare_1_cpu_us"] == Spread(80, 50, 90)


def test_every_rate_of_leases_has_its_spread_and_the_cpu_of_whoever_answered_beside_it() -> None:
    def each(rate: float) -> Rounds:
        return [Measured(rate * by, 1.0, 2.0, cpu_us=100 / by) for by in (1, 2, 4)]

    peers = {"lease_bare": 6000.0, "reveal": 300.0, "openbao_read": 1000.0, "openbao_wrapped": 400.0}
    measured = {name: each(rate) for name, rate in {"lease": 2000.0, **peers}.items()}
    figures = lease.figures(measured)
    for name in measured:
        assert isinstance(figures[f"{name}_per_s"], Spread)
        assert figures[f"{name}_cpu_us"] == Spread(50, 25, 100)
    assert figures["openbao_read_per_s"] == Spread(2000, 1000, 4000)
    assert figures["lease_vs_openbao_read"] == Spread(2, 2, 2)
    assert figures["reveal_vs_openbao_wrapped"] == Spread(0.75, 0.75, 0.75)
    assert figures["lease_cpu_vs_openbao_read"] == Spread(1, 1, 1)
    measured["openbao_read"] = [Measured(1000, 1, 1, failed=1, cpu_us=1)] * 3
    with pytest.raises(RuntimeError, match="3 answers were errors"):
        lease.figures(measured)


def test_proxies_are_compared_with_peers_on_the_same_database_round_by_round() -> None:
    def at(*rates: float) -> Rounds:
        return [Measured(rate, 1.0, 40.0, cpu_us=1.0) for rate in rates]

    measured = proxied(at(1, 1, 1)) | {"nginx_32": at(1000, 2000, 4000), "auth_request_32": at(10, 20, 50)}
    measured |= {"proxy_32": at(10, 40, 40), "proxy_postgres_32": at(20, 30, 40)}
    measured |= {"proxy_two_workers_32": at(30, 60, 60)}
    figures = proxy.figures(measured)
    assert figures["proxy_vs_nginx"] == Spread(0.01, 0.01, 0.02)
    assert figures["proxy_vs_auth_request"] == Spread(1.5, 0.8, 2)
    assert figures["proxy_cpu_vs_auth_request"] == Spread(1, 1, 1)
    assert figures["proxy_two_workers_vs_one"] == Spread(1.5, 1.5, 2)
    assert figures["proxy_32_p99_ms"] == Spread(40, 40, 40)
    both = {"workers_sqlite_one": at(10, 40, 40), "workers_sqlite_two": at(15, 60, 80)}
    assert workers.figures(both)["workers_sqlite_two_vs_one"] == Spread(1.5, 1.5, 2)
    alone = {name: rounds for name, rounds in measured.items() if not name.startswith(("nginx", "auth_request"))}
    assert (
        proxy.figures(alone).keys().isdisjoint({"proxy_vs_nginx", "proxy_vs_auth_request", "proxy_cpu_vs_auth_request"})
    )


def test_leases_and_the_wire_are_compared_with_a_floor_of_their_own_run() -> None:
    floor, twice = used(10, 20, 40), used(20, 40, 80)
    peers = dict.fromkeys(("openbao_read", "openbao_wrapped"), [SOME] * 3)
    leases = lease.figures({"lease_bare": floor, "lease": twice, "reveal": floor, **peers})
    assert (leases["lease_cpu_us"], leases["lease_cpu_vs_bare"]) == (Spread(40, 20, 80), Spread(2, 2, 2))
    assert (leases["reveal_cpu_us"], leases["reveal_cpu_vs_bare"]) == (Spread(20, 10, 40), Spread(1, 1, 1))
    ends = wire.figures({"wire_bare": floor, "wire_in": floor, "wire_forward": twice, "aiohttp_forward": twice})
    assert ends["wire_in_cpu_us"] == Spread(20, 10, 40)
    assert ends["wire_forward_cpu_us"] == ends["aiohttp_forward_cpu_us"] == Spread(40, 20, 80)
    assert ends["wire_forward_cpu_vs_bare"] == Spread(2, 2, 2)


def test_cpu_that_nobody_looked_at_is_no_figure() -> None:
    unseen = [Measured(1.0, 1.0, 1.0)]
    with pytest.raises(RuntimeError, match="nobody looked"):
        cpu_us(unseen)
    with pytest.raises(RuntimeError, match="nobody looked"):
        cpu_vs([SOME], unseen)
    named = proxy.figures(proxied([SOME]) | {"nginx_32": unseen})
    assert "nginx_32_per_s" in named
    assert "nginx_32_cpu_us" not in named


def test_a_spread_is_its_median_in_json_and_all_of_it_in_the_table() -> None:
    found: dict[str, Figure] = {"proxy_cpu_us": Spread(600.0, 500.0, 1800.0), "proxy_vs_nginx": 0.037}
    assert json.loads(in_json(found)) == {"proxy_cpu_us": 600.0, "proxy_vs_nginx": 0.037}
    assert [list(column.cells) for column in in_table(found).columns] == [
        ["proxy_cpu_us", "proxy_vs_nginx"],
        ["600.00", "0.037"],
        ["500.00 – 1,800.00", ""],
    ]


def test_the_cpu_of_a_process_is_also_that_of_what_it_started_and_of_no_other() -> None:
    started = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {BUSY + 'input()'!r}])\ninput()"
    with (
        subprocess.Popen([sys.executable, "-c", started], stdin=subprocess.PIPE) as parent,
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as idle,
    ):
        until = time.monotonic() + 30
        while cpu.seconds([parent.pid]) < BUSY_S:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert cpu.seconds([idle.pid]) < BUSY_S
        assert cpu.seconds([parent.pid, parent.pid]) < 2 * cpu.seconds([parent.pid])
        for process in (parent, idle):
            process.communicate(b"\n\n")
    with pytest.raises(RuntimeError, match="has ended"):
        cpu.seconds([parent.pid])


def test_a_round_tells_the_cpu_of_whoever_answered_for_each_answer(tmp_path: Path) -> None:
    call = http("GET", "/facilities", {})
    with asgi.running(tmp_path / "bare", "answer") as (port, pid):
        before = cpu.seconds([pid])
        looked_at = run(port, call, connections=2, seconds=0.3, pids=[pid])
        spent = cpu.seconds([pid]) - before
        unseen = run(port, call, connections=2, seconds=0.1)
    assert looked_at.failed == 0
    assert looked_at.cpu_us is not None
    assert 0 < looked_at.cpu_us * looked_at.rate * 0.3 / 1_000_000 < spent
    assert unseen.cpu_us is None


@pytest.mark.parametrize("on", ["httptools", "wire"])
@pytest.mark.parametrize("app", ["answer", "forward_aiohttp", "forward_wire"])
def test_what_the_broker_is_compared_with_answers_as_the_upstream_does(
    tmp_path: Path, app: asgi.App, on: asgi.On
) -> None:
    asked = [http("GET", "/facilities", {})] * 3
    with running(tmp_path / "upstream") as upstream, asgi.running(tmp_path / "app", app, on, upstream) as (port, _):
        assert walk(port, asked, connections=1).failed == 0


def test_contenders_are_warm_and_take_turns_of_which_each_begins_with_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = []

    def round_of(port: int, _request: bytes, **how: object) -> Measured:
        turns.append((port, how["pids"], how["seconds"]))
        return SOME

    monkeypatch.setattr("tests.bench.rounds.run", round_of)
    contenders = {"one": Contender(1, b"", [11]), "other": Contender(2, b"")}
    assert interleaved(contenders, rounds=2, connections=1, seconds=9) == {"one": [SOME] * 2, "other": [SOME] * 2}
    warm, one, other = [(1, [11], WARM_UP_S), (2, (), WARM_UP_S)], (1, [11], 9), (2, (), 9)
    assert turns == [*warm, one, other, other, one]


def test_a_walk_ends_in_time_and_tells_what_was_answered(tmp_path: Path) -> None:
    asked = [http("GET", "/facilities", {})] * 100_000
    with asgi.running(tmp_path / "bare", "answer") as (port, pid):
        measured = walk(port, asked, connections=2, seconds=0.2, pids=[pid])
    assert measured.failed == 0
    assert measured.rate * 0.2 < len(asked)
    assert measured.cpu_us is not None


def test_strangers_come_from_as_many_addresses_and_name_what_there_is_as_often_as_what_there_is_not() -> None:
    asked = [strangers.stranger(number, "int_known", "wkl_known") for number in range(strangers.STRANGERS)]
    assert len({request.split(b"X-Forwarded-For: ")[1].split(b"\r\n")[0] for request in asked}) == strangers.STRANGERS
    links = [request for request in asked if b" /oauth/token " not in request]
    assert len(links) > 2 * (len(asked) - len(links)) > 0
    known = sum(b"int_known" in request for request in links)
    assert abs(2 * known - len(links)) <= 4


def test_a_use_that_strangers_keep_out_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "strangers", lambda _served: [b""])
    monkeypatch.setattr(
        strangers, "run", lambda *_, **how: Measured(1.0, 1.0, 1.0, failed=int(how["connections"] == 1))
    )
    served = broker.Served(1, 1, "", "", "", Identity("", "", {}))
    with pytest.raises(RuntimeError, match="1 uses failed"):
        strangers.in_rounds(served, 1, 1)
