"""What is wrong with a request is said in words: no field shows its validator's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from broker.base.wording import wording
from broker.web import errors
from broker.web.api import ROUTERS
from broker.web.api.fields import Body, parsed
from broker.web.pages import intake, status
from tests.support.world import World

# Of each kind that somebody can write by mistake or on purpose.
BAD: tuple[Any, ...] = (
    *("", "-", "Ä ö!", "crd_1", "x" * 70_000, "a\u0007b", "\ud800", "a@b@c", "ftp://x", "true"),
    *("tomorrow", "2027-01-01", "2027-01-01T00:00:00", "1960-01-01T00:00:00Z", "2027-13-01T00:00:00Z"),
    *(0, -1, 10**30, 1.5, float("nan"), True, None),
    *([], ["", 1, None], ["x"] * 2_000, {}, {"a b": 1, "": None}, {"x" * 100: "\u202e"}, [[]], [{}]),
)
THEIRS = re.compile(
    r"should|Input|Value error|Assertion|Field required|Extra inputs|valid (string|integer|dict|list|boolean|date)|"
    r"\^|\[a-z|\\|validator|constrained|parse|can't be taken so"
)
OURS = re.compile(r"(write|name|is missing|is not|there is no such field|this is no id; take|control ch|a time from)")


def bodies(kind: type[Body] = Body) -> Iterator[type[Body]]:
    for one in kind.__subclasses__():
        yield one
        yield from bodies(one)


def routes() -> Iterator[APIRoute]:
    for router in (*ROUTERS, intake.router, status.router):
        yield from (route for route in router.routes if isinstance(route, APIRoute))


def of_bodies() -> Iterator[tuple[str, RequestValidationError]]:
    for model in bodies():
        for field in (*model.model_fields, "misspelt"):
            for value in BAD:
                try:
                    parsed(model, json.dumps({field: value}).encode())
                except RequestValidationError as error:
                    yield f"{model.__name__}.{field} = {value!r:.60}", error


def of_parameters() -> Iterator[tuple[str, RequestValidationError]]:
    for route in routes():
        for where, field in parameters(route.dependant):
            for value in BAD:
                _, wrong = field.validate(value, {}, loc=(where, field.alias))
                if wrong:
                    found = wrong if isinstance(wrong, list) else [wrong]
                    yield f"{route.path} {field.alias} = {value!r:.60}", RequestValidationError(found)


def parameters(of: Dependant) -> Iterator[tuple[str, ModelField]]:
    yield from (("path", field) for field in of.path_params)
    yield from (("query", field) for field in of.query_params)
    yield from (("header", field) for field in of.header_params)
    for inner in of.dependencies:
        yield from parameters(inner)


async def problem(error: RequestValidationError) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes((await errors.render(error)).body))
    return found


async def test_no_field_of_a_request_shows_its_validators_words() -> None:
    """Each says what to write; a field is named where it is ours, and where it is not, as unknown."""
    walked, odd = 0, set()
    for where, error in (*of_bodies(), *of_parameters()):
        for one in (await problem(error))["errors"]:
            walked += 1
            if THEIRS.search(one["problem"]) or not OURS.match(one["problem"]):
                odd.add((where, one["field"], one["problem"]))
    assert sorted(odd) == []
    assert walked > 2_000, "each field was asked about"


def test_every_kind_of_fault_of_a_setting_or_a_provider_file_has_words_too() -> None:
    """What a request can't bring about stands in words: no kind falls through that our types can have."""
    for kind in ("path_type", "float_parsing", "greater_than", "less_than", "timezone_naive", "date_type"):
        context = {"gt": 1_000, "lt": 5}
        said = wording({"type": kind, "loc": (), "msg": "Input should be something", "input": "x", "ctx": context})
        assert said.startswith("write "), kind


def test_what_our_own_validators_say_is_told_as_it_is() -> None:
    fault = {"loc": (), "input": "x"}
    ours = {**fault, "type": "smtp_host", "msg": "name one"}
    raised = {**fault, "type": "value_error", "msg": "Value error, name two", "ctx": {"error": ValueError("name two")}}
    assert [wording(ours), wording(raised)] == ["name one", "name two"]  # type: ignore[arg-type]  # shorter than theirs


def test_words_for_a_form_have_an_example_or_say_where_to_take_it_from() -> None:
    items = [item for _, error in (*of_bodies(), *of_parameters()) for item in error.errors()]
    said = {item["msg"] for item in items if item["type"] == "form"}
    assert len(said) > 15
    for words in said:
        assert re.search(r"such as|take |[0-9]+ (hexadecimal|characters)", words), words


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        (
            "/v1/organizations",
            {"slug": "Acme Power", "name": "Acme"},
            "slug: write small letters, digits and hyphens, such as acme-power: 63 at most, a letter or digit first",
        ),
        (
            "/v1/credentials/acme/revoke",
            {},
            "credential_id: this is no id; take it from `broker key list`, where it begins with crd_",
        ),
        (
            "/v1/grants",
            {
                "workload": "job",
                "organizations": ["acme"],
                "provider": "raptor-comply",
                "modes": ["use"],
                "expires_at": "tomorrow",
            },
            "expires_at: write a time with its zone, such as 2027-01-01T00:00:00Z",
        ),
    ],
)
async def test_a_request_that_is_wrong_is_told_what_to_write(
    world: World, path: str, body: dict[str, Any], detail: str
) -> None:
    told = await world.call("POST", path, status=422, json=body)
    assert (told["code"], told["detail"]) == ("invalid", detail)
