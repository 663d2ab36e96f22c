"""Tables and single things on a terminal of 80 columns: whatever somebody will copy is whole."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from broker.cli import api, build
from broker.cli.output import Columns, listing, show

ID = "crd_" + "0123456789abcdef" * 2
TOKEN = "kbo_" + "Zx9" * 30
COLUMNS = Columns("slug name id", "state created_at note")


class Terminal(io.StringIO):
    """What a person sees."""

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue()).splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Terminal]:
    def of(width: int) -> Terminal:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm")
        seen = Terminal()
        monkeypatch.setattr(sys, "stdout", seen)
        return seen

    return of


def row(slug: str = "acme", **more: Any) -> dict[str, Any]:
    return {
        "slug": slug,
        "name": "Acme Power",
        "id": ID,
        "state": "active",
        "created_at": "2026-11-25T19:50:05.123Z",
        "note": None,
        **more,
    }


def test_a_row_is_one_line_of_the_terminal_and_its_id_is_whole(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(80)
    listing([row(f"org-{number}") for number in range(200)], COLUMNS, False)
    lines = seen.lines()
    assert len(lines) == 201
    assert all(len(line) <= 80 for line in lines)
    assert all(ID in line for line in lines[1:])
    # what people type is first, and a column that has no room is left out whole
    assert lines[0].split() == ["slug", "name", "id", "state", "note"]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_width_cuts_what_people_copy(width: int, terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(width)
    listing([row("a-very-long-slug-of-a-customer")], COLUMNS, False)
    show({"id": ID, "proxy_url": f"https://keys.vendor.example/proxy/{ID}/raptor-comply"}, False)
    show({"id": ID, "token": TOKEN}, False, alone=("token",))
    lines = seen.lines()
    assert f"a-very-long-slug-of-a-customer  Acme Power  {ID}" in lines
    assert any(f"https://keys.vendor.example/proxy/{ID}/raptor-comply" in line for line in lines)
    assert "…" not in seen.getvalue()
    # a secret that is shown once is on a line of its own
    assert TOKEN in lines


def test_wide_shows_every_column(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(40)
    listing([row()], COLUMNS, False, wide=True)
    assert seen.lines()[0].split() == COLUMNS.every


def test_a_pipe_has_every_column(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    listing([row()], COLUMNS, False)
    assert capsys.readouterr().out.splitlines()[0].split() == COLUMNS.every


def test_a_wider_row_that_comes_late_is_whole(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(80)
    listing([row(f"o{number}") for number in range(600)] + [row("one-that-is-longer-than-all-before")], COLUMNS, False)
    assert seen.lines()[-1].startswith(f"one-that-is-longer-than-all-before  Acme Power  {ID}")


def test_one_thing_wraps_between_words_only(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(40)
    show({"text": "The key of Acme Power is to be replaced within fourteen days."}, False)
    lines = seen.lines()
    assert all(len(line) <= 40 for line in lines)
    assert " ".join(line.strip() for line in lines).endswith("is to be replaced within fourteen days.")


def test_values_are_words_for_people_and_json_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    item = {"ok": True, "kinds": [], "variables": {"region": "eu"}, "at": "2026-11-25T19:50:05.123Z", "none": None}
    show(item, False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == ["yes", "-", "region=eu", "2026-11-25 19:50:05Z", "-"]
    show(item, True)
    assert json.loads(capsys.readouterr().out) == item


def test_a_long_list_in_json_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    for items in ([], [row()], [row(), row("globex")]):
        listing(items, COLUMNS, True)
        assert json.loads(capsys.readouterr().out) == items


def test_an_empty_list_says_which_filter_found_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "call", lambda *_, **__: {"items": [], "next": None})
    said = CliRunner().invoke(build(), ["org", "list", "--name", "nosuch", "--wide"]).stdout
    assert said == "Nothing found for --name nosuch.\n"
    assert CliRunner().invoke(build(), ["org", "list"]).stdout == "Nothing yet.\n"


def test_a_list_ends_where_it_is_told_and_says_that_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def page(_method: str, _path: str, params: dict[str, Any]) -> dict[str, Any]:
        start, size = int(params["cursor"] or 0), params["limit"]
        asked.append(size)
        return {"items": [row(f"o{start + number}") for number in range(size)], "next": str(start + size)}

    monkeypatch.setattr(api, "call", page)
    app = build()
    few = CliRunner().invoke(app, ["org", "list", "--limit", "3"])
    assert (len(few.stdout.splitlines()), few.stderr) == (1 + 3, "")
    assert asked == [3]  # no more is asked for than is printed
    many = CliRunner().invoke(app, ["org", "list"])
    assert len(many.stdout.splitlines()) == 1 + 1_000
    assert "--all shows all" in many.stderr
    assert len(json.loads(CliRunner().invoke(app, ["org", "list", "--json", "--limit", "1500"]).stdout)) == 1_500


def test_the_width_of_wide_characters_counts(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(80)
    listing([row("acme"), row("東京電力")], COLUMNS, False)
    first, second = seen.lines()[1:]
    assert cell_len(first[: first.index(ID)]) == cell_len(second[: second.index(ID)])


def test_keys_of_one_customer_and_requests_for_them_are_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []
    place = {"organization_slug": "acme", "organization": "org_1", "provider": "raptor-comply", "label": "default"}
    version = {"number": 1, "state": "active", "status": "active", "health": "healthy", "last4": "wxyz"} | {
        "intake": None,
        "awaiting_days": None,
        "staged_at": None,
    }
    key = {**place, "id": "crd_1", "contact": "", "versions": [version]}
    request = {**place, "id": "int_1", "contact": "a@b.example", "credential": None, "rotation": None} | {
        "created_at": "2026-11-25T19:50:05.123Z"
    }

    def page(_method: str, path: str, *, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.append((path, params))
        items = [
            {"kind": "key", "credential": key, "request": None},
            {"kind": "request", "credential": None, "request": request},
        ]
        return {"items": items, "next": None}

    monkeypatch.setattr(api, "send", page)
    monkeypatch.setenv("BROKER_TOKEN", "kbo_x")
    found = json.loads(CliRunner().invoke(build(), ["key", "list", "--org", "acme", "--json"]).stdout)
    assert [one["status"] for one in found] == ["active", "requested"]
    assert [path for path, _ in asked] == ["/v1/keys"]


def test_deliveries_come_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def page(_method: str, _path: str, *, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        asked.append(params["order"])
        return {"items": [], "next": None}

    monkeypatch.setattr(api, "send", page)
    monkeypatch.setenv("BROKER_TOKEN", "kbo_x")
    CliRunner().invoke(build(), ["notice", "deliveries"])
    assert asked == ["newest"]
