"""A rule of access: methods and path patterns.

Presets of provider files and rules of grants are such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Annotated, Literal
from urllib.parse import unquote

from pydantic import Field

from broker.providers.schema import Fault, Part, Path

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Rule(Part):
    """Methods and path patterns below the base URL.

    ``*`` stays within a segment, ``**`` crosses them.
    """

    methods: Annotated[tuple[Method, ...], Field(min_length=1)]
    paths: Annotated[tuple[Path, ...], Field(min_length=1)]

    def faults(self) -> Iterator[Fault]:
        yield from faults_of_patterns("paths", self.paths)

    def allows(self, method: str, path: str) -> bool:
        """Whether a call is within the rule.  GET includes HEAD (RFC 9110 §9.3.2).

        Args:
            method: the HTTP method, in capitals.
            path: as it will be sent, percent-encoded.  It is compared by what it decodes to, but for ``%2F``, which is
                no separator.  The base URL itself is ``/`` with and without its slash.
        """
        within = method in self.methods or (method == "HEAD" and "GET" in self.methods)
        return within and _anchored(self.paths).fullmatch(decoded(path) or "/") is not None

    def __str__(self) -> str:
        return f"{', '.join(self.methods)} {', '.join(self.paths)}"


def faults_of_patterns(field: str, patterns: Iterable[str]) -> Iterator[Fault]:
    """What is wrong with path patterns although each begins like a path."""
    for path in patterns:
        if "?" in path or "***" in path or "//" in path:
            yield Fault(field, f"{path!r} holds ?, *** or an empty segment, which never match; remove them")
        elif path.count("**") > 1 or any(segment.replace("**", "").count("*") > 1 for segment in path.split("/")):
            # More would let a long path take the matcher for ever.
            yield Fault(field, f"{path!r} holds more than one **, or * twice in a segment; write two paths")


def holds_slashes_where_it_may(path: str, patterns: tuple[str, ...]) -> bool:
    """Whether each ``%2F`` of a path stands in a segment that is a pattern's ``*``.

    Args:
        path: percent-encoded.
        patterns: as in rules; what ``**`` stands for holds none.
    """
    return bool(patterns) and _holding(patterns).fullmatch(decoded(path)) is not None


def covers(patterns: tuple[str, ...], pattern: str) -> bool:
    """Whether one of ``patterns`` matches every path that ``pattern`` does.

    It may also say no where only several of them together do.
    """
    words = {"**": _ACROSS, "*": _WITHIN}
    parts = re.split(r"(\*\*|\*)", _SLASH.sub("%2F", pattern))
    return _covering(patterns).fullmatch("".join(words.get(part, part) for part in parts)) is not None


def decoded(path: str) -> str:
    """The path as rules compare it: decoded, but for encoded slashes.

    Those are part of a segment, not between two.
    """
    if "%" not in path:
        return path
    return "%2F".join(unquote(part) for part in _SLASH.split(path))


_SLASH = re.compile("%2F", re.IGNORECASE)
# Stand for what an inner pattern's * and ** match: no pattern has such characters.
_WITHIN, _ACROSS = "\ue000", "\ue001"


@lru_cache(maxsize=256)
def _holding(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_expression(pattern, across="(?:(?!%2F).)+") for pattern in patterns), re.DOTALL)


@lru_cache(maxsize=1024)
def _anchored(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_expression(pattern) for pattern in patterns), re.DOTALL)


@lru_cache(maxsize=1024)
def _covering(patterns: tuple[str, ...]) -> re.Pattern[str]:
    within = f"[^/{_ACROSS}]+"
    return re.compile("|".join(_expression(pattern, within=within) for pattern in patterns), re.DOTALL)


def _expression(pattern: str, across: str = ".+", within: str = "[^/]+") -> str:
    words = {"**": across, "*": within}
    pattern = _SLASH.sub("%2F", pattern)
    return "".join(words.get(part) or re.escape(part) for part in re.split(r"(\*\*|\*)", pattern))
