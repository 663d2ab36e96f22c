"""What an event may hold: words in its core, any text in its personal part, and always bytes to store."""

from __future__ import annotations

import ast
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import broker
from broker.audit import events as events_module
from broker.audit.events import BROKER, KINDS, Actor, AuditTarget, Event, Fields, Outcome, word
from broker.base.clock import Millis
from broker.formats.audit_event import MAX_BYTES, commit
from broker.formats.ids import CredentialId, OrganizationId

ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=60) | st.sampled_from(
    ["\ud800", "\0", '"' * 2_000, "\\" * 2_000, "\U0001f600" * 2_000, "\x9b31m", "\u202e", "\u2028"]
)
NUMBERS = st.integers(0, 2**53 - 1)
FIELDS = ("organization", "subject", "credential", "provider", "fingerprint", "workload", "grant", "lease", "use",
          "intake", "mode", "reason", "request")  # fmt: skip


@st.composite
def events(draw: Any) -> Event:
    texts = [draw(ANYTHING) for _ in range(7)]
    return Event(
        kind=draw(st.sampled_from(sorted(KINDS))),
        time=draw(NUMBERS),
        version=draw(NUMBERS),
        actor=Actor("stranger", "unverified", *texts[:3]),
        provider=word(texts[3]),
        target=AuditTarget("h.example", "GET", texts[4], ("limit",), texts[5]),
        outcome=Outcome(200, draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), texts[6]),
        note=texts[3],
    )


@given(events())
def test_whatever_is_accepted_has_bytes_to_store(event: Event) -> None:
    committed = event.committed()
    assert max(len(committed.core), len(committed.personal)) <= MAX_BYTES
    core, personal = json.loads(committed.core), json.loads(committed.personal)
    assert committed.core.isascii()
    assert b"\\" not in committed.core
    assert core["v"] == 4
    assert not any(character in str(personal) for character in "\0\x9b\u202e\u2028\ud800")


def test_its_bytes_and_its_entry_are_those_of_every_event_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever kept an event, or an entry, verifies it with any later broker."""
    vectors = json.loads((Path(__file__).parents[1] / "vectors" / "audit-events.json").read_text())
    monkeypatch.setattr(events_module, "VERSION", 3)  # in which these were made
    for vector in vectors:
        monkeypatch.setattr(events_module, "commit", partial(commit, salts=bytes.fromhex(vector["salts"])))
        given = dict(vector["event"])
        given["actor"] = Actor(**given["actor"])
        if "target" in given:
            given["target"] = AuditTarget(**given["target"] | {"query_names": tuple(given["target"]["query_names"])})
        if "outcome" in given:
            given["outcome"] = Outcome(**given["outcome"])
        made = Event(**given).committed()
        assert made.core == vector["core"].encode()
        assert made.personal == vector["personal"].encode()
        assert made.entry.hex() == vector["entry"]
    assert len(vectors) == 30


def test_one_that_is_made_of_another_is_checked_as_well() -> None:
    event = Event(kind="use.denied", time=Millis(1), actor=BROKER)
    for change in ({"reason": "Jane Doe"}, {"time": -1}, {"kind": "use.invented"}):
        with pytest.raises(ValueError, match=r"core of an event|number|catalogue"):
            replace(event, **change)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("text", ["Jane Doe", "jane@acme.example", "a\x9b", "a\nb", "<b>", "é", "\ud800", "x" * 3_000])
def test_no_free_text_gets_into_the_core(name: str, text: str) -> None:
    with pytest.raises(ValueError, match="ids and words"):
        Event(kind="use.denied", time=1, actor=BROKER, **{name: text})  # type: ignore[arg-type]  # any field's
    assert word(text) == ""


@pytest.mark.parametrize(
    "target",
    [
        AuditTarget("h", "GET", "/", ("Jane Doe",)),
        AuditTarget("h", "GET", "/", ("x" * 33,)),
        AuditTarget("h", "GET", "/", ("",)),
        AuditTarget("h", "GET", "/", ("a\nb",)),
        AuditTarget("h", "GET", "/", ("a",) * 33),
        AuditTarget("h h", "GET", "/"),
        AuditTarget("h", "GET /", "/"),
    ],
)
def test_nor_does_it_as_the_target_of_a_call(target: AuditTarget) -> None:
    with pytest.raises(ValueError, match="core of an event"):
        Event(kind="use.authorized", time=Millis(1), actor=BROKER, target=target)


@pytest.mark.parametrize("number", [-1, 2**53, 2**63])
def test_numbers_are_those_that_every_reader_of_json_has(number: int) -> None:
    for fields in ({"time": number}, {"time": 1, "version": number}):
        with pytest.raises(ValueError, match="number"):
            Event(kind="use.denied", actor=BROKER, **fields)  # type: ignore[arg-type]  # any field's
    for outcome in ((number, 1), (200, number), (200, 1, number), (200, 1, 1, number)):
        with pytest.raises(ValueError, match="number"):
            Outcome(*outcome)


class Thing:
    """Anything that events are about."""

    def event_fields(self) -> Fields:
        return {"organization": OrganizationId("org_1"), "credential": CredentialId("crd_1"), "version": 3}


def test_an_event_about_a_thing_says_which_it_is_and_whatever_more_there_is_to_say() -> None:
    event = Event.about(Thing(), "credential.exposed", BROKER, Millis(7), reason="exposed", version=4)
    assert (event.kind, event.time, event.actor) == ("credential.exposed", 7, BROKER)
    assert (event.organization, event.credential, event.version) == ("org_1", "crd_1", 4)
    assert (event.reason, event.decision) == ("exposed", "allowed")


def test_a_thing_may_say_of_itself_whatever_an_event_holds() -> None:
    assert set(Fields.__annotations__) == set(Event.__struct_fields__) - {
        "kind",
        "time",
        "actor",
        "id",
    }


def test_no_room_makes_events_about_its_rows_in_a_way_of_its_own() -> None:
    """Eight functions once did, and each left other fields out.  A reading of the record is about no row.

    A certificate's event names what is certified.
    """
    rooms = Path(broker.__file__).parent
    functions = {
        f"{path.relative_to(rooms).as_posix()}:{node.name}"
        for path in rooms.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id == "Event"
    }
    assert functions == {
        "audit/events.py:about",
        "audit/reading.py:reading_of",
        "credentials/certificates.py:issue",
        "proxy/use.py:completed",
    }
