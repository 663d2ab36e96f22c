"""What commands print of other people's text: as it is, never as markup, and nothing that steers a terminal."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from broker.base.shown import is_shown
from broker.cli import api, audit, build, lease, output, proving, trail
from tests.cli.every_command import SERVERS, answers, commands

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
    text = printed(output.listing, [trail.row(event)], audit.COLUMNS, False)
    assert "/\\[/x]\ufffd31m[link=https://evil.example]" in text
    assert "sync\ufffd" in text


# Whose words are their own, or an upstream's that is being run, or this machine's; `recover` is the server's.  The last
# ones write or read files, byte for byte.
_ELSEWHERE = frozenset(
    {"login", "logout", "profile", "exec", "scan", "check", "bootstrap", "timeline", "recover", "token"}
    | {"receipt", "export", "checkpoint", "consistency", "log-key", "certificate", "log"}
)


def test_every_command_shows_any_text_safely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send = answers(" ".join(["\x9b31m\u202e\u2028\ud800\ue000", *MARKUP]))
    monkeypatch.setattr(api, "send", send)
    issued = send("POST", "/v1/leases")
    monkeypatch.setattr(proving.Job, "who", lambda _job: None)
    monkeypatch.setattr(lease, "as_job", lambda *_: SimpleNamespace(answer=issued, id=issued["lease"]["id"]))
    monkeypatch.setenv("BROKER_TOKEN", "kbo_x")
    monkeypatch.chdir(tmp_path)
    app, every = build(), list(commands(_ELSEWHERE | SERVERS))
    assert len(every) > 40
    for words in every:
        done = CliRunner().invoke(app, words, input="kbo_x\n")
        # Any text but none is a reason why nothing was taken; and it is no platform's name.
        refused = words[:2] in {("webhook", "test"), ("issuer", "add")}
        assert done.exit_code == int(refused), (words, done.output, done.exception)
        assert safe(done.output), (words, done.output)
