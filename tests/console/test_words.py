"""How values read on a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markupsafe import Markup

from broker.base.clock import DAY_MS, Millis, rfc3339
from broker.leases.days import Did
from broker.web.console import chart, words
from broker.web.console import page as console

NOW = Millis(1_800_000_000_000)
_STATIC = Path(console.__file__).parent / "static" / "console.css"
_CUSTOMERS = Path(console.__file__).parents[1] / "pages" / "static" / "page.css"


@pytest.mark.parametrize(
    ("ms", "says"),
    [
        (-3 * DAY_MS, "3 days ago"),
        (-DAY_MS, "1 day ago"),
        (-2 * 3_600_000, "2 hours ago"),
        (-1_000, "just now"),
        (1_000, "in a minute"),
        (90_000, "in 1 minute"),
        (5 * DAY_MS, "in 5 days"),
    ],
)
def test_a_time_is_told_by_how_far_away_it_is(ms: int, says: str) -> None:
    assert words.age(rfc3339(NOW + ms), NOW) == says


def test_what_others_wrote_is_escaped_and_what_nobody_sees_is_shown() -> None:
    assert words.visible("a\u202eb") == "a\ufffdb"
    assert words.visible(Markup("<b>")) == "<b>"
    assert words.prose("run `broker <x>` now") == "run <code>broker &lt;x&gt;</code> now"
    assert words.lines("a\n<b>\u200b") == "a\n&lt;b&gt;\ufffd"
    assert words.state("failing") == '<span class="state bad">failing</span>'


def test_a_picture_has_every_day_and_the_fewest_are_seen() -> None:
    today = NOW // DAY_MS
    bars = chart.bars({today: Did(100_000, 1), today - 1: Did()}, NOW)
    assert len(bars) == chart.DAYS
    assert [bar.x for bar in bars[:2]] == [0, chart.WIDTH]
    last = bars[-1]
    assert last.refusal_height >= 2
    assert last.use_height + last.refusal_height < chart.HEIGHT + 2
    assert bars[-2].use_height == bars[-2].refusal_height == 0


def test_the_colours_are_those_of_the_customers_page() -> None:
    """docs/design.md: there is one set of tokens."""
    ours, theirs = (re.findall(r"--[a-z-]+: #[0-9a-f]{6}", file.read_text()) for file in (_STATIC, _CUSTOMERS))
    assert ours == theirs
    rest = re.sub(r"--[a-z-]+: #[0-9a-f]{6}", "", _STATIC.read_text())
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb", rest)
