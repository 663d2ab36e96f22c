"""The time that a process goes by, whatever is done to the system's clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import broker
from broker.base.clock import APART_MS, Millis, Timepiece, later, rfc3339

HOUR_MS = 3_600_000
BEGUN = Millis(1_800_000_000_000)


class Machine:
    """A machine on which a test lets time pass, and sets the clock."""

    def __init__(self) -> None:
        self.system, self.steady = BEGUN, 0
        self.time = Timepiece(lambda: self.system, lambda: self.steady)

    def passes(self, ms: int, *, shown: int | None = None) -> Millis:
        self.steady += ms
        self.system = later(self.system, ms if shown is None else shown)
        return self.time()


def test_time_is_the_systems_and_follows_where_that_is_adjusted() -> None:
    machine = Machine()
    assert machine.passes(HOUR_MS) == BEGUN + HOUR_MS
    assert machine.passes(HOUR_MS, shown=HOUR_MS + 3_000) == machine.system
    assert machine.time.apart == 0


def test_a_jump_is_not_followed_in_either_direction_and_leaves_nothing_behind() -> None:
    for jump in (2 * HOUR_MS, -2 * HOUR_MS, 9 * 24 * HOUR_MS):
        machine = Machine()
        machine.system = later(machine.system, jump)
        assert machine.passes(20_000) == BEGUN + 20_000
        assert machine.time.apart == jump
        machine.system = later(machine.system, -jump)
        assert machine.passes(20_000) == BEGUN + 40_000 == machine.system


@given(st.lists(st.tuples(st.integers(0, HOUR_MS), st.integers(-2 * HOUR_MS, 2 * HOUR_MS)), max_size=20))
def test_by_itself_time_never_goes_back_nor_further_ahead_than_by_a_minute(
    steps: list[tuple[int, int]],
) -> None:
    machine, before = Machine(), BEGUN
    for passed, shown in steps:
        now = machine.passes(passed, shown=shown)
        assert 0 <= now - before <= passed + APART_MS
        before = now


def test_what_is_dated_before_time_was_set_back_counts_no_more_nor_what_would_last_too_long() -> None:
    machine = Machine()
    over = machine.passes(HOUR_MS)
    assert machine.time.counts(over)
    machine.system = later(machine.system, -2 * HOUR_MS)
    machine.time.set(machine.system)
    assert not machine.time.counts(later(machine.time(), -1))
    assert not machine.time.counts(over), "from a time that never came"
    assert machine.time.counts(machine.passes(1))


def test_setting_time_ahead_ends_nothing() -> None:
    machine = Machine()
    issued = machine.passes(1_000)
    machine.time.set(later(machine.time(), HOUR_MS))
    assert machine.time.counts(issued)


def test_how_long_a_day_is_is_written_once() -> None:
    rooms = Path(broker.__file__).parent
    assert [path.name for path in rooms.rglob("*.py") if "86_400_000" in path.read_text()] == ["clock.py"]


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_told_in_utc_to_the_millisecond(ms: int) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    assert rfc3339(ms) == moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
