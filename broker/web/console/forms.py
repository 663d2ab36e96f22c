"""What a form sent, as the API's own bodies.

Fields are urlencoded.  An empty one was left out.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import Depends, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BeforeValidator, ValidationError

from broker.base.errors import Invalid
from broker.web.api.fields import Body
from broker.web.callers import Call
from broker.web.idempotency import checked_key

_FIELDS_MOST = 600
Parsed = TypeVar("Parsed", bound=Body)

# Of a parameter of the address: a field that was left empty is none.
Blank = BeforeValidator(lambda text: text or None)
# A parameter that stands in a form as it was written; the API says what is wrong with it.
Written = Annotated[str, Query()]


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that came, each with every value that it had."""

    fields: Mapping[str, Sequence[str]]

    def one(self, name: str) -> str:
        """The value of a field; empty if there is none."""
        return self.every(name)[-1] if self.every(name) else ""

    def every(self, name: str) -> Sequence[str]:
        """Every value of a field that several boxes share, but for empty ones."""
        return [value for value in self.fields.get(name, ()) if value.strip()]

    def read(self, model: type[Parsed], **more: Any) -> Parsed:
        """The fields as a body of the API; ``more`` are values that no field has.

        Raises:
            RequestValidationError: as where the API is asked.
        """
        given = {name: self.one(name).strip() for name in model.model_fields if self.every(name)}
        try:
            return model.model_validate({**given, **more})
        except ValidationError as error:
            raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None

    def once(self, call: Call) -> Call:
        """The call, done once however often the form is sent."""
        return replace(call, idempotency_key=checked_key(self.one("once") or None))


async def _form(request: Request) -> Form:
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=_FIELDS_MOST)
    except ValueError:
        raise Invalid("The form could not be read; open the page again and send it from there.") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return Form(fields)


Sent = Annotated[Form, Depends(_form)]


def written(**fields: str) -> Form:
    """Parameters of the address as a form."""
    return Form({name: [text.strip()] for name, text in fields.items()})


def providers(call: Call) -> list[tuple[str, str]]:
    """The declared providers, to choose from."""
    return [(each.id, each.title) for each in call.services.parts.catalog]


def once() -> str:
    """A mark by which a form's repeats are known."""
    return secrets.token_urlsafe(16)
