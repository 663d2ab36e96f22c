"""The fields that requests and answers are made of, each with its bounds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from broker.base.clock import Millis, rfc3339
from broker.base.errors import Invalid
from broker.base.mailbox import mailbox
from broker.base.shown import is_shown
from broker.base.wording import wording
from broker.formats import base64url, ids
from broker.web.api.forms import Form, FormOfId

# The first and last time that both forms hold: milliseconds since the epoch, RFC 3339 with a year of four digits.
_EPOCH = datetime.fromtimestamp(0, UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


class Body(BaseModel):
    """A request body: unknown fields are refused, so a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


async def whole(receive: Receive) -> bytes:
    """The body of a request, which the edge has capped; it mostly comes at once.

    Raises:
        ClientDisconnect: whoever asks left.
    """
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


Parsed = TypeVar("Parsed", bound=Body)


def parsed(model: type[Parsed], body: bytes) -> Parsed:
    """The body as ``model``; raises RequestValidationError, which the edge renders."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from None


class View(BaseModel):
    """What an answer shows."""

    model_config = ConfigDict(frozen=True)


def _printable(value: str) -> str:
    if not is_shown(value):
        raise ValueError("control characters, and others that are not shown, are not accepted")
    return value


def _within_years(moment: datetime) -> datetime:
    if not _EPOCH <= moment <= _LATEST:
        raise ValueError("a time from 1970 to 9999 (UTC) is needed")
    return moment


Line = Annotated[str, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
Note = Annotated[str, StringConstraints(max_length=1000), AfterValidator(_printable)]
_note: TypeAdapter[str] = TypeAdapter(Note)
Label = Annotated[
    str,
    Form(
        r"^[a-z0-9][a-z0-9-]{0,62}$",
        "write small letters, digits and hyphens, such as acme-power: 63 at most, a letter or digit first",
    ),
]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
_OF_NAMES = "letters, digits, dots, hyphens and underscores, such as acme-power: 80 at most, a letter or digit first"
Name = Annotated[str, Form(_NAME, f"write {_OF_NAMES}")]
_REFERENCE = Form(_NAME, f"write an id, or a name of {_OF_NAMES}")
Reference = Annotated[ids.Reference, _REFERENCE]
ReferencePath = Annotated[ids.Reference, _REFERENCE, Path(description="Id or name.")]
# An account is named as its person is, or as their identity provider calls them.
AccountReference = Annotated[ids.Reference, StringConstraints(min_length=1, max_length=200), AfterValidator(_printable)]
AccountPath = Annotated[AccountReference, Path(description="Id or name.")]
# By whose id a list is narrowed.
IdSought = Annotated[ids.Id, FormOfId(_NAME, "write an id")]
# What is asked for as one, and has the form of an id; whether there is such a thing is the look-up's to say.
IdPath = Annotated[ids.Id, FormOfId(r"^[a-z]{3}_[0-9a-f]{32}$", "this is no id"), Path(description="Id.")]
Base64Url = Annotated[
    str, Form(r"^[A-Za-z0-9_-]*$", "write base64url without padding, of 60,000 characters at most", 60_000)
]
_CONTACT = r"[^\s@\x00-\x1f]{1,64}@[^\s@\x00-\x1f]{1,190}"
_ONE_MAILBOX = "write one e-mail address, such as admin@acme.example"
Contact = Annotated[str, Form(f"^{_CONTACT}$", _ONE_MAILBOX), AfterValidator(mailbox)]
MaybeContact = Annotated[
    str, Form(f"^({_CONTACT})?$", _ONE_MAILBOX), AfterValidator(lambda text: text and mailbox(text))
]
Moment = Annotated[AwareDatetime, AfterValidator(_within_years)]
Variables = Annotated[dict[Name, Line], Field(max_length=8)]
Limit = Annotated[
    int, Query(ge=1, le=500, description="At most this many; a page may have fewer although there is a next one.")
]
Cursor = Annotated[
    str,
    Form(r"^[A-Za-z0-9_=-]*$", "is not one of ours; take `next` of the page before", 120),
    Query(description="`next` of the page before."),
]

Row = TypeVar("Row")
Shown = TypeVar("Shown")


class Page(View, Generic[Shown]):
    """One page of a list; ``next`` is the cursor of the following one, None at the end."""

    items: list[Shown]
    next: str | None


def page(rows: Sequence[Row], limit: int, show: Callable[[Row], Shown], position: Callable[[Row], str]) -> Page[Shown]:
    """The first ``limit`` of ``rows``.

    One row more was asked for: if it is there, there is a next page.
    """
    more = len(rows) > limit
    shown = rows[:limit]
    following = cursor_at(position(shown[-1])) if more else None
    return Page(items=[show(row) for row in shown], next=following)


def cursor_at(position: str) -> str:
    """The cursor that stands for a position."""
    return base64.urlsafe_b64encode(position.encode()).decode()


def after(cursor: str) -> str:
    """The position that a cursor stands for; empty for the beginning.  Raises Invalid."""
    try:
        return _printable(base64.urlsafe_b64decode(cursor).decode())
    except ValueError:
        raise Invalid("cursor: is not one of ours; take `next` of the page before.") from None


def header_note(value: str, name: str) -> str:
    """The value of the header ``name``, judged as a :data:`Note` is; raises Invalid."""
    try:
        return _note.validate_python(value)
    except ValidationError as error:
        raise Invalid(f"{name}: {wording(error.errors()[0])}.") from None


def milliseconds(moment: datetime | None) -> Millis | None:
    """A time of a request as it is stored."""
    return None if moment is None else Millis((moment - _EPOCH) // timedelta(milliseconds=1))


def when(ms: int | None) -> str | None:
    """A time as RFC 3339 has it."""
    return None if ms is None else rfc3339(ms)


def from_base64url(text: str, field: str) -> bytes:
    """The bytes of unpadded base64url; raises Invalid."""
    try:
        return base64url.decode(text)
    except ValueError:
        raise Invalid(f"{field}: is not base64url.") from None


class Reason(Body):
    """Why something is cut off; personal part of the record."""

    reason: Note = ""
