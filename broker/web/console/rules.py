"""Rules of grants as people write them: a line for each path, with its methods before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.base.errors import Invalid
from broker.web.api.grants import RuleBody


def lines_of(rules: Iterable[RuleBody]) -> list[str]:
    """Rules as lines, such as ``GET,POST /facilities/*``."""
    return [f"{','.join(rule.methods)} {path}" for rule in rules for path in rule.paths]


def of_lines(text: str) -> list[dict[str, Any]]:
    """Lines as bodies of the API; those with the same methods are one rule.

    Raises:
        Invalid: names the first line that is no rule.
    """
    paths: dict[tuple[str, ...], list[str]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        methods, slash, rest = line.strip().partition("/")
        if not methods.strip() or not slash:
            raise Invalid(f"rules: line {number} is none; write methods and a path, such as `GET,POST /facilities/*`.")
        paths.setdefault(tuple(each.strip().upper() for each in methods.split(",")), []).append(slash + rest)
    return [{"methods": methods, "paths": each} for methods, each in paths.items()]
