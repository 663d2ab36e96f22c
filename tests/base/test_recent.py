"""A bounded memory: the least recently used goes first, and what has its time is over then."""

from __future__ import annotations

import ast
from pathlib import Path

import broker
from broker.base.recent import Recent


def test_the_busiest_stays() -> None:
    recent = Recent[str, int](3)
    recent["busy"] = 0
    for other in range(10):
        recent[f"other{other}"] = other
        assert recent.get("busy") == 0

    assert [key for key, _ in recent.entries()] == ["other8", "other9", "busy"]


def test_to_put_a_value_again_is_to_use_it() -> None:
    recent = Recent[str, int](2)
    recent["first"], recent["second"] = 1, 2
    recent["first"] = 3
    recent["third"] = 4

    assert recent.entries() == [("first", 3), ("third", 4)]


def test_a_value_is_forgotten_after_its_time_however_much_it_is_used() -> None:
    now = [0.0]
    recent = Recent[str, int](10, ttl=5, clock=lambda: now[0])
    recent["early"] = 1
    now[0] = 3
    recent["late"] = 2
    assert recent.get("early") == 1

    now[0] = 5
    assert recent.get("early") is None
    assert recent.entries() == [("late", 2)]


def test_a_value_that_is_put_again_has_its_time_anew() -> None:
    now = [0.0]
    recent = Recent[str, int](10, ttl=5, clock=lambda: now[0])
    recent["again"] = 1
    now[0] = 4
    recent["again"] = 2
    now[0] = 8
    assert recent.get("again") == 2

    now[0] = 9
    recent.expire()
    assert not len(recent)


def test_what_is_taken_out_is_gone_and_a_stranger_is_nothing() -> None:
    recent = Recent[str, int](2, ttl=5, clock=lambda: 0)
    recent["key"] = 1

    assert recent.pop("key") == 1
    assert recent.pop("key") is None
    assert recent.get("key") is None

    recent["one"], recent["two"] = 1, 2
    recent.clear()
    assert recent.entries() == []


def test_no_room_has_a_bounded_memory_of_its_own() -> None:
    """Each was once written by hand, and some of them forgot the busiest first."""
    rooms = Path(broker.__file__).parent
    by_hand = [
        str(path.relative_to(rooms))
        for path in sorted(rooms.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "popitem"
    ]

    assert by_hand == []
