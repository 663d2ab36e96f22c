"""Counting and pacing strangers in memory."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from broker.base import strangers
from broker.base.strangers import Pace, Tally, network
from tests.support.world import WorldClock


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("", ""),
        ("a proxy's name", "a proxy's name"),
    ],
)
def test_an_address_is_counted_as_what_one_holder_has_of_it(address: str, counted_as: str) -> None:
    assert network(address) == counted_as


@pytest.mark.parametrize(
    ("told", "is_"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%<b>x</b>", "fe80::1"),
        *((none, "") for none in ("<b>x</b>", "unknown", "_hidden", "198.51.100.7:80", "010.1.2.3", "1", "")),
    ],
)
def test_an_address_is_one_or_none(told: str, is_: str) -> None:
    assert strangers.address(told) == is_


def test_names_are_counted_within_a_window() -> None:
    clock = WorldClock()
    tally = Tally(clock)
    assert tally.count("a") == 0
    tally.add("a")
    tally.add("a")
    tally.add("b", 20)
    assert (tally.count("a"), tally.count("b")) == (2, 20)
    clock.forward(seconds=601)
    assert (tally.count("a"), tally.count("b")) == (0, 0)


def test_more_names_than_are_kept_push_out_those_that_did_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strangers, "_NAMES_MAX", 2)
    tally = Tally(WorldClock())
    for name in ("old", "kept", "kept", "old", "kept", "new"):
        tally.add(name)
    assert [tally.count(name) for name in ("old", "kept", "new")] == [0, 3, 1]


async def test_a_burst_passes_at_once_and_then_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))

    monkeypatch.setattr(strangers, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(strangers, "asyncio", SimpleNamespace(sleep=sleep))
    pace = Pace(per_second=10, burst=3, longest_s=0.25)
    assert [round(await pace.turn(), 3) for _ in range(7)] == [0, 0, 0, 0.1, 0.2, 0.25, 0.25]
    assert slept == [0.1, 0.2, 0.25, 0.25]
    now += 10
    assert [await pace.turn() for _ in range(3)] == [0, 0, 0]
