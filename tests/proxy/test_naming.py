"""The record holds names of parameters, and nothing else that a job writes into a query."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.audit.events import BROKER, AuditTarget, Event
from broker.base.clock import Millis
from broker.providers.catalog import load
from broker.proxy.naming import Names, names
from tests.proxy.conftest import Bench

CATALOG = load()
# Of the forms that bundled provider files declare; none is a key.
KEYS = {
    "datadog": "0123456789abcdef" * 2,
    "pagerduty": "u+ExampleExampleExam",
    "freshdesk": "ExampleExampleExampl",
    "pipedrive": "0123456789" * 4,
    "stripe": "sk_live_" + "Example1" * 4,
}


def read(query: str) -> Names:
    return names(query, CATALOG.could_be_key)


def test_plain_names_are_named_once_and_values_never() -> None:
    given = "token=secret&limit=5&limit=6&filter[name]=x&$top=1&a.b-c=2"
    assert read(given) == (("$top", "a.b-c", "filter[name]", "limit", "token"), "")


@pytest.mark.parametrize("key", [*KEYS.values(), f"a.{KEYS['stripe']}"[:32], "rc_live_" + "x" * 64])
def test_what_could_be_a_key_is_named_nowhere(key: str) -> None:
    for written in (quote(key), key):
        plain, other = read(f"{written}=1&limit=5")
        assert plain == ("limit",)
        assert other in {"(like a key)", "(long name)"}


def test_other_text_is_for_the_personal_part() -> None:
    assert read("Jane%20Doe%20123&%1b%5b31m=1&name=2") == (("name",), "\x1b[31m, Jane Doe 123")


@given(st.text(max_size=200))
def test_an_event_can_be_made_of_every_query(text: str) -> None:
    plain, other = read(quote(text, safe="&=;[]$", errors="replace"))
    made = Event(kind="use.authorized", time=Millis(1), actor=BROKER, target=AuditTarget("h", "GET", "/", plain, other))
    assert made.committed().core.isascii()


async def test_the_core_of_a_use_on_record_holds_plain_names_alone(bench: Bench, tmp_path: Path) -> None:
    lease = await bench.lease()
    query = f"limit=5&Jane%20Doe=1&{KEYS['datadog']}&%9b31m"
    assert (await bench.call(lease, f"/x?{query}")).status_code == 200
    (used,) = await bench.world.events(kind="use.authorized")
    assert used["core"]["target"]["query"] == ["limit"]
    assert used["personal"]["query"] == "(like a key), Jane Doe, \ufffd31m"
    for path in tmp_path.rglob("*.db*"):
        assert KEYS["datadog"].encode() not in path.read_bytes()
