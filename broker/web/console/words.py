"""How values of the API read on a page: times, ages, counts, and the tone of a state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from markupsafe import Markup

from broker.base.clock import DAY_MS, Millis
from broker.base.shown import shown

_HOUR_MS: Final = 3_600_000
_MINUTE_MS: Final = 60_000
# Which words call for somebody, and which are as they should be.  What is in none of these is quiet.
_BAD: Final = frozenset(
    {"failing", "gone", "altered", "denied", "refused", "dead", "overdue", "urgent", "behind", "contradicts"}
)
_WAIT: Final = frozenset(
    {"waiting", "held", "open", "due", "expired", "unreachable", "verifying", "staged", "verified", "paused", "pending"}
    | {"requested", "retiring", "warning", "under way", "grace", "awaiting upstream revocation", "slow", "silent"}
)
_GOOD: Final = frozenset({"active", "healthy", "accepted", "closed", "allowed", "ok", "sent", "completed", "decided"})


def tone(word: str) -> str:
    """How a state is coloured: ``good``, ``wait``, ``bad`` or ``quiet``."""
    for tone_, words in (("bad", _BAD), ("wait", _WAIT), ("good", _GOOD)):
        if word in words:
            return tone_
    return "quiet"


def state(word: str | None) -> Markup:
    """A state as a word with its colour."""
    return Markup('<span class="state {}">{}</span>').format(tone(word or ""), word or "–")


def moment(text: str | None) -> Markup:
    """A time of the API to the minute, UTC; a dash if there is none."""
    if not text:
        return Markup('<span class="quiet">–</span>')
    return Markup('<time datetime="{}">{} {}</time>').format(text, text[:10], text[11:16])


def age(text: str | None, now: Millis) -> str:
    """How long ago a time of the API was, or how far it is: ``3 days ago``, ``in 5 hours``."""
    if not text:
        return "–"
    passed = now - int(datetime.fromisoformat(text).timestamp() * 1000)
    for length, what in ((DAY_MS, "day"), (_HOUR_MS, "hour"), (_MINUTE_MS, "minute")):
        if abs(passed) >= length:
            told = counted(abs(passed) // length, what)
            return f"{told} ago" if passed > 0 else f"in {told}"
    return "just now" if passed >= 0 else "in a minute"


def visible(value: object) -> object:
    """What a template prints, free of what nobody sees and what turns the writing's direction."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def prose(text: str) -> Markup:
    """A text for people, with what stands in it between `backticks` as code."""
    parts = str(shown(text)).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if at % 2 else part for at, part in enumerate(parts))


def lines(text: str) -> Markup:
    """A text of several lines, also as a browser sends them."""
    return Markup("\n").join(shown(line) for line in text.replace("\r\n", "\n").split("\n"))


def dotted(kind: str) -> Markup:
    """A kind of event, that a narrow column breaks after its dots first."""
    return Markup(".<wbr>").join(str(shown(kind)).split("."))


def counted(number: int, what: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


FILTERS: Final[Mapping[str, Callable[..., str]]] = {
    "tone": tone,
    "state": state,
    "moment": moment,
    "age": age,
    "counted": counted,
    "prose": prose,
    "lines": lines,
    "dotted": dotted,
}
