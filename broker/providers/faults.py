"""Say what is wrong with a provider file: file, field as in TOML, and fix, a line each."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from broker.base.wording import wording
from broker.providers.schema import FAULTS

_KINDS_OF_AUTH = frozenset({"header", "query", "basic"})
_PLACEMENT = 'write placement = "header", "query" or "basic"'
_FIXES = {
    "missing": "is missing; add it",
    "extra_forbidden": "is not a field of a provider file; check its spelling or remove it",
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number, without quotes",
    "string_type": 'must be a text in quotes, "…"',
    "tuple_type": "must be a list, […]",
    "dict_type": "must be a table of its own, as in [presets.read-only]",
    "model_type": "must be a table of its own, as in [host]",
    "model_attributes_type": "must be a table of its own, as in [auth]",
    "union_tag_not_found": f"is missing; {_PLACEMENT}",
    "union_tag_invalid": f"is not a kind of placement; {_PLACEMENT}",
}


def lines(file: str, error: ValidationError) -> list[str]:
    """Every fault of the file, in the order of its fields."""
    return [f"{file}: {field}: {fix}" for item in error.errors() for field, fix in _faults(item)]


def _faults(item: ErrorDetails) -> Iterator[tuple[str, str]]:
    kind, where = item["type"], list(item["loc"])
    if where[:1] == ["auth"] and len(where) > 1 and where[1] in _KINDS_OF_AUTH:
        # This is the name of the chosen kind of auth, which stands in no file.
        del where[1]
    if kind == FAULTS:
        for field, fix in item["ctx"][FAULTS]:
            yield _dotted([*where, field]), fix
        return
    if kind.startswith("union_tag"):
        where.append("placement")
    yield _dotted(where), _FIXES.get(kind) or wording(item)


def _dotted(where: list[int | str]) -> str:
    text = ""
    for part in where:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":
            text += f".{part}" if text else part
    return text or "file"
