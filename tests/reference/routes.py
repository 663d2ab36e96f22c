"""The page of routes, from the API's own description."""

from __future__ import annotations

from collections.abc import Iterable

from broker.serving import api
from broker.web.pages.outline import Field, Operation, sections
from tests.reference.markdown import code, page, table


def made() -> str:
    """The page."""
    document = api().openapi()
    parts = []
    for section in sections(document):
        parts.append(f"## {section.tag}\n\n{section.text}")
        parts += map(_text, section.operations)
    about = (
        "A broker shows the same at `/docs`, and as OpenAPI at `/openapi.json`.\n\n" + document["info"]["description"]
    )
    return page("Routes", about.strip(), *parts)


def _text(operation: Operation) -> str:
    callers = ", ".join(operation.callers) or "anybody"
    parts = [
        f"### {operation.summary}",
        f"`{operation.method} {operation.path}` · for: {callers}",
        operation.text,
    ]
    if operation.sent:
        parts.append(table(("sent", "in", "type", "meaning"), _sent(operation.sent)))
    answered = ", ".join(f"{code(field.name)}" for field in operation.answered)
    parts.append(f"Answers {operation.status}{': ' + answered if answered else ''}.")
    return "\n\n".join(parts)


def _sent(fields: Iterable[Field]) -> list[tuple[str, str, str, str]]:
    return [(code(one.name) + (" (required)" if one.required else ""), one.place, one.type, one.text) for one in fields]
