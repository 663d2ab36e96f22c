"""What commands print of other people's text: as it is, never as markup, and nothing that steers a terminal."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from fastapi.routing import APIRoute
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from typer.testing import CliRunner

from broker.base.shown import is_shown
from broker.cli import TABLE, api, audit, build, lease, output
from broker.web.api import ROUTERS

ANYTHING = st.text(st.characters(exclude_categories=[]), max_size=40)
MARKUP = ["/\\[/x]", "[link=https://evil.example]x[/link]", "[/]", "[bold", "\\", "\\[", ":smile:", "[red]denied[/red]"]
TEXTS = ANYTHING | st.sampled_from(MARKUP)
NAMES = ["organization", "state", "health", "decision", "who", "what", "name", "versions"]
COLUMNS = output.Columns(" ".join(NAMES))
ITEMS = st.fixed_dictionaries({name: TEXTS | st.lists(TEXTS, max_size=3) for name in NAMES})


def printed(what: Any, *given_: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        what(*given_)
    return out.getvalue()


def safe(text: str) -> bool:
    return all(map(is_shown, text.split("\n")))


@given(st.lists(ITEMS, min_size=1, max_size=3))
@example([dict.fromkeys(NAMES, "/\\[/x]")])
def test_a_table_of_any_text_is_safe(items: list[dict[str, Any]]) -> None:
    assert safe(printed(output.listing, items, COLUMNS, False))


@given(ITEMS, TEXTS)
def test_one_thing_of_any_text_is_safe(item: dict[str, Any], name: str) -> None:
    assert safe(printed(output.show, {**item, name: "x"}, False))


@given(ITEMS)
def test_json_is_ascii_and_holds_it_all(item: dict[str, Any]) -> None:
    for what in (output.show, lambda one, _: output.listing([one], COLUMNS, True)):
        text = printed(what, item, True)
        assert text.isascii()
        assert json.loads(text) in (item, [item])


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_data_is_text(text: str) -> None:
    assert text in printed(output.listing, [{"what": text}], output.Columns("what"), False)
    assert text in printed(output.show, {"what": text}, False)
    assert text in printed(output.say, text)


def test_a_path_on_the_record_is_shown_as_it_was() -> None:
    event = {
        "index": 1,
        "time": "2026-11-25T00:00:00.000Z",
        "kind": "use.denied",
        "decision": "denied",
        "core": {"actor": {"id": "wkl_1"}, "target": {"method": "GET", "host": ""}},
        "personal": {"path": "/\\[/x]\x9b31m[link=https://evil.example]", "actor_name": "sync\u202e"},
    }
    text = printed(output.listing, [audit.row(event)], audit.COLUMNS, False)
    assert "/\\[/x]\ufffd31m[link=https://evil.example]" in text
    assert "sync\ufffd" in text


# Whose words are their own, or an upstream's that is being run; `recover` is the server's, as others are.
_ELSEWHERE = {"login", "exec", "scan", "check", "bootstrap", "timeline", "recover"}
_ELSEWHERE |= {name for name, entry in TABLE.items() if entry.server}


def commands() -> Iterator[tuple[str, ...]]:
    """Every command of an operator's with what it needs, in the order that it takes it."""
    found: list[tuple[str, ...]] = []

    def walk(words: tuple[str, ...], command: Any) -> None:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                if name not in _ELSEWHERE:
                    walk((*words, name), inner)
        else:
            found.append(words + tuple(given_to(command)))

    walk((), typer.main.get_command(build()))
    yield from found


def given_to(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.required or parameter.name == "workload":
            value = {"version": "1", "role": "security"}.get(parameter.name, "x")
            yield from (value,) if parameter.param_type_name == "argument" else (parameter.opts[0], value)


def odd(schema: dict[str, Any], text: str, defs: dict[str, Any]) -> Any:
    """A value of a JSON schema whose every text is ``text``."""
    if "$ref" in schema:
        return odd(defs[schema["$ref"].rpartition("/")[2]], text, defs)
    if "anyOf" in schema:
        return odd(schema["anyOf"][0], text, defs)
    match schema.get("type"):
        case "object" if "properties" in schema:
            return {name: odd(inner, text, defs) for name, inner in schema["properties"].items()}
        case "array":
            return [odd(schema["items"], text, defs)] * 2
        case "integer" | "number":
            return 1
        case "boolean":
            return True
        case "string":
            return text
        case _:
            return {"actor": {"id": text}, "target": {"method": text, "host": text}, "reason": text, "path": text}


def answers(text: str) -> Callable[..., dict[str, Any]]:
    """A broker whose every answer has the right form, and this text wherever there is one."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]

    def send(method: str, path: str, **_options: Any) -> dict[str, Any]:
        route = next(one for one in routes if method in (one.methods or ()) and one.path_regex.fullmatch(path))
        schema = TypeAdapter(route.response_model).json_schema(mode="serialization")
        answer = odd(schema, text, schema.get("$defs", {}))
        assert isinstance(answer, dict)
        return answer | ({"next": None} if "next" in answer else {})

    return send


def test_every_command_shows_any_text_safely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = answers(" ".join(["\x9b31m\u202e\u2028\ud800\ue000", *MARKUP]))
    monkeypatch.setattr(api, "send", send)
    monkeypatch.setattr(lease, "as_job", lambda *_: send("POST", "/v1/leases"))
    monkeypatch.setenv("BROKER_TOKEN", "kbo_x")
    monkeypatch.chdir(tmp_path)
    app, every = build(), list(commands())
    assert len(every) > 40
    for words in every:
        done = CliRunner().invoke(app, words, input="kbo_x\n")
        assert done.exit_code == 0, (words, done.output, done.exception)
        assert safe(done.output), (words, done.output)
