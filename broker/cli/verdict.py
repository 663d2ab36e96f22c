"""What the broker says to a token that is tried: a check a line, with its fix below."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Final

from broker.cli.output import Item, terminal_width, wrapped

# A text and its colour.
Line = tuple[str, str | None]

_MARKS: Final = {True: ("✓", "green"), False: ("✗", "red"), None: ("-", None)}


def lines(found: Item) -> Iterator[Line]:
    """The answer to a token that was tried."""
    trusts: Sequence[Item] = found["trusts"]
    names = [one["check"] for one in (*found["checks"], *(each for trust in trusts for each in trust["checks"]))]
    width = max(map(len, names), default=0)
    for check in found["checks"]:
        yield from _of(check, "", width + 2)
    for trust in trusts:
        mark, colour = _MARKS[bool(trust["takes"])]
        yield f"{mark} {trust['trust']}", colour
        for check in trust["checks"]:
            yield from _of(check, "  ", width)
    yield "", None
    if found["accepted"]:
        yield f"A sign-in takes this token, by {found['trust']}.", None
    else:
        yield "A sign-in refuses this token.", None


def _of(check: Item, indent: str, width: int) -> Iterator[Line]:
    """A check, and below it what was expected instead and what to do."""
    mark, colour = _MARKS[check["passed"]]
    first = f"{indent}{mark} {check['check']:{width}}  "
    presented = check["presented"] or ("nothing" if check["passed"] is False and check["expected"] else "")
    yield from _broken(first, presented, colour)
    if check["passed"] is not True:
        below = " " * len(first)
        if check["expected"]:
            yield from _broken(below, f"expected {check['expected']}", None)
        if check["fix"]:
            yield from _broken(below, check["fix"], None)


def _broken(first: str, text: str, colour: str | None) -> Iterator[Line]:
    """A text after ``first``, in lines of the terminal; whoever reads a pipe gets one line."""
    broken = wrapped(text, max(20, terminal_width() - len(first))) if sys.stdout.isatty() else [text]
    for number, line in enumerate(broken):
        yield f"{' ' * len(first) if number else first}{line}".rstrip(), colour
