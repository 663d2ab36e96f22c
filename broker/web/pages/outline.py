"""An OpenAPI document as people read it: operations by tag, their fields one a line.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that is sent or answered.

    ``name`` leads to it through objects (``.``) and lists (``[]``).  ``place`` is where it goes: ``path``, ``query``,
    ``header``, ``body`` or ``answer``.
    """

    name: str
    place: str
    type: str
    required: bool
    text: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.  ``callers`` are the roles that may call it; none if it is open."""

    method: str
    path: str
    summary: str
    text: str
    callers: tuple[str, ...]
    sent: tuple[Field, ...]
    status: str
    answered: tuple[Field, ...]

    @property
    def anchor(self) -> str:
        """Its name in an address."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.summary.lower().replace("'", ""))


@dataclass(frozen=True, slots=True)
class Section:
    """The operations of one tag."""

    tag: str
    text: str
    operations: tuple[Operation, ...]


def sections(document: Json) -> tuple[Section, ...]:
    """Every operation of ``document``, by tag, in the order in which it has them."""
    found = [
        (operation["tags"][0], _operation(document, method, path, operation))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return tuple(
        Section(tag["name"], tag["description"], tuple(one for name, one in found if name == tag["name"]))
        for tag in document["tags"]
    )


def _operation(document: Json, method: str, path: str, operation: Json) -> Operation:
    status, good = next((status, answer) for status, answer in operation["responses"].items() if status[0] == "2")
    return Operation(
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        text=" ".join(operation["description"].replace("``", "`").split()),
        callers=tuple(sorted({name for way in operation.get("security", ()) for name in next(iter(way.values()))})),
        sent=(*_parameters(document, method, operation), *_content(document, operation.get("requestBody", {}), "body")),
        status=status,
        answered=tuple(_content(document, good, "answer")),
    )


def _parameters(document: Json, method: str, operation: Json) -> Iterator[Field]:
    for one in operation.get("parameters", ()):
        # Who establishes the caller takes the header from every request; only changes go by it.
        if method == "get" and one["name"] == "Idempotency-Key":
            continue
        schema = one["schema"]
        text = one.get("description") or schema.get("description", "")
        yield Field(one["name"], one["in"], _type(document, schema), one.get("required", False), text)


def _content(document: Json, holder: Json, place: str) -> Iterator[Field]:
    for media in holder.get("content", {}).values():
        yield from _fields(document, media.get("schema", {}), place, "", 0)


def _fields(document: Json, schema: Json, place: str, path: str, depth: int) -> Iterator[Field]:
    """The fields of an object, each followed by its own."""
    whole = _resolved(document, schema)
    for name, one in whole.get("properties", {}).items():
        here = f"{path}{name}"
        yield Field(here, place, _type(document, one), name in whole.get("required", ()), one.get("description", ""))
        inner = _present(document, one)
        if inner.get("type") == "array":
            here, inner = f"{here}[]", _present(document, inner.get("items", {}))
        if depth < _DEEPEST:
            yield from _fields(document, inner, place, f"{here}.", depth + 1)


def _resolved(document: Json, schema: Json) -> Json:
    """``schema``, or what it refers to: a component, or a definition that stands in it."""
    if "$ref" not in schema:
        return schema
    place: Json = document
    for part in schema["$ref"].removeprefix("#/").split("/"):
        place = place.get(part) or {}
    return place


def _present(document: Json, schema: Json) -> Json:
    """``schema`` without the choice of null."""
    choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return _resolved(document, choices[0] if len(choices) == 1 else schema)


def _type(document: Json, schema: Json) -> str:
    """What a value may be, in a few words."""
    if choices := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(_type(document, one) for one in choices))
    schema = _resolved(document, schema)
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    kind = schema.get("type", "any JSON")
    if kind == "array":
        return f"list of {_type(document, schema.get('items', {}))}"
    return " ".join(filter(None, (schema.get("format", ""), kind, _bounds(schema)))).strip()


def _bounds(schema: Json) -> str:
    """How long or large a value may be, where that is said."""
    for least, most in (("minLength", "maxLength"), ("minimum", "maximum"), ("minItems", "maxItems")):
        if least in schema and most in schema:
            return f"({schema[least]:,.0f}–{schema[most]:,.0f})"
        if most in schema:
            return f"(up to {schema[most]:,.0f})"
        if least in schema:
            return f"(from {schema[least]:,.0f})"
    return ""
