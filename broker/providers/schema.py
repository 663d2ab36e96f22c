"""What every table of a provider file shares.

Fields are strict, and faults name their field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator
from pydantic_core import PydanticCustomError

FAULTS = "faults"
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
HEADER_VALUE = re.compile(r"[!-~](?:[ -~]{0,998}[!-~])?")
# A definition that sets one of these would decide where a request ends, or whose it is.
HEADERS_OF_THE_CONNECTION = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def form(pattern: str, fix: str) -> AfterValidator:
    """A check that a text is of ``pattern`` from end to end; ``fix`` says what to write instead."""
    wanted = re.compile(pattern)

    def check(value: str) -> str:
        if not wanted.fullmatch(value):
            raise ValueError(fix)
        return value

    return AfterValidator(check)


def _line(value: str) -> str:
    if not (0 < len(value) <= 300 and value.isprintable() and value.strip() == value):
        raise ValueError("write one line of 1 to 300 characters, without spaces at its ends")
    return value


Slug = Annotated[
    str, form(r"[a-z0-9][a-z0-9-]{0,62}", 'write lower-case letters, digits and dashes, for example "raptor-comply"')
]
HttpsUrl = Annotated[
    str, form(r"https://[a-z0-9][!-~]{0,500}", 'write a whole address, for example "https://docs.example.com"')
]
Line = Annotated[str, AfterValidator(_line)]
Path = Annotated[
    str,
    form(
        r'(?:/(?!\.{1,2}(?:[/?]|$))[!"$-.0-\[\]-~]*)+',
        'write a path that begins with /, in visible ASCII, without # and . or .. segments, for example "/facilities"',
    ),
]
HeaderName = Annotated[str, form(HEADER_NAME.pattern, 'is not a header name; write for example "X-API-Key"')]
Whole = Annotated[int, Field(strict=True)]
Flag = StrictBool
Statuses = Annotated[tuple[Annotated[int, Field(strict=True, ge=100, le=599)], ...], Field(min_length=1)]


class Fault(NamedTuple):
    """What is wrong with one field (dotted, from the table it stands in), and the fix."""

    field: str
    fix: str


class Part(BaseModel):
    """A table of the file; unknown fields are refused, so a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def faults(self) -> Iterator[Fault]:
        """What is wrong with this table although each field by itself is of the right type."""
        yield from ()

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if found := list(self.faults()):
            raise PydanticCustomError(FAULTS, "fields are wrong together", {FAULTS: found})
        return self
