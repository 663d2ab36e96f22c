"""Pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def page(title: str, about: str, *parts: str) -> str:
    """A whole page, which says that it isn't to be edited."""
    note = "<!-- Made from the code by `make reference`; edit the code instead. -->"
    return "\n\n".join((f"# {title}", note, about, *parts)) + "\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; text in a cell may be several lines."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(map(cell, line))} |" for line in lines)


def cell(text: str) -> str:
    """``text`` on one line, without what would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """``text`` as code; empty if it is empty."""
    return f"`{text}`" if text else ""
