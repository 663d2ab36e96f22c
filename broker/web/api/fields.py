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

from broker.base.clock import Millis, rfc3339
from broker.base.errors import Invalid
from broker.base.mailbox import mailbox
from broker.base.shown import is_shown
from broker.formats import base64url, ids

# The first and last time that both forms hold: milliseconds since the epoch, RFC 3339 with a year of four digits.
_EPOCH = datetime.fromtimestamp(0, UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)


class Body(BaseModel):
    """A request body: unknown fields are refused, so a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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
Label = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
Name = Annotated[str, StringConstraints(pattern=_NAME)]
Reference = Annotated[ids.Reference, StringConstraints(pattern=_NAME)]
ReferencePath = Annotated[ids.Reference, Path(pattern=_NAME, description="Id or name.")]
# By whose id a list is narrowed.
IdSought = Annotated[ids.Id, StringConstraints(pattern=_NAME)]
# What is asked for as one, and has the form of an id; whether there is such a thing is the look-up's to say.
IdPath = Annotated[ids.Id, Path(pattern=r"^[a-z]{3}_[0-9a-f]{32}$", description="Id.")]
Base64Url = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]*$", max_length=60_000)]
Contact = Annotated[
    str, StringConstraints(pattern=r"^[^\s@\x00-\x1f]{1,64}@[^\s@\x00-\x1f]{1,190}$"), AfterValidator(mailbox)
]
Moment = Annotated[AwareDatetime, AfterValidator(_within_years)]
Variables = Annotated[dict[Name, Line], Field(max_length=8)]
Limit = Annotated[int, Query(ge=1, le=500, description="At most this many.")]
Cursor = Annotated[str, Query(max_length=120, pattern=r"^[A-Za-z0-9_=-]*$", description="`next` of the page before.")]

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
    following = base64.urlsafe_b64encode(position(shown[-1]).encode()).decode() if more else None
    return Page(items=[show(row) for row in shown], next=following)


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
        raise Invalid(f"{name}: {error.errors()[0]['msg']}.") from None


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
