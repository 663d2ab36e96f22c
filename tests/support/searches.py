"""Searches of the record: every filter alone, and every pair of filters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from itertools import combinations
from typing import Any

from broker.audit.search import Filter


def filters(values: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, Filter]]:
    """Each with its name, newest first and oldest first.

    Args:
        values: by the names of a filter's fields, values to look for by what they are called, such as
            ``{"decision": {"denied": "denied"}}``.
    """
    given = [(name, called, value) for name, several in values.items() for called, value in several.items()]
    assert {name for name, _, _ in given} == {field.name for field in fields(Filter)} - {"after", "newest"}
    for some in [*combinations(given, 1), *combinations(given, 2)]:
        wanted = {name: value for name, _, value in some}
        if len(wanted) == len(some):
            for newest in (True, False):
                order = "newest" if newest else "oldest"
                yield (
                    f"{' + '.join(f'{name} {called}' for name, called, _ in some)}, {order}",
                    Filter(**wanted, newest=newest),
                )
