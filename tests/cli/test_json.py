"""What every command does with --json: one value, and one problem if it fails."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.reference.commands import walked
from tests.support.commands import MINIMAL, run


def test_every_command_takes_json() -> None:
    without = [
        name
        for name, command, _ in walked()
        if not hasattr(command, "commands") and not any("--json" in parameter.opts for parameter in command.params)
    ]
    assert without == []


def test_the_exit_statuses_are_in_the_help() -> None:
    said = " ".join(run("--help", environment=MINIMAL).stdout.decode().split())
    for status in ("0 done", "1 refused or invalid", "2 wrong usage", "3 the broker", "4 not found", "5 in conflict"):
        assert status in said


@pytest.mark.parametrize(
    "words",
    [
        ("org", "add"),
        ("org", "list", "--no-such-option"),
        ("org", "nosuch"),
        ("org", "list", "too", "many"),
        ("key", "exposed", "crd_x"),
        ("lease", "list", "--limit", "none"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_a_problem_too(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*words, "--json", environment={**MINIMAL, "HOME": str(tmp_path)}, directory=tmp_path)
    problem = json.loads(done.stderr)
    assert (done.returncode, done.stdout, problem["code"], problem["exit_status"]) == (2, b"", "usage", 2)
    assert problem["detail"]


def test_the_servers_commands_print_one_value(tmp_path: Path) -> None:
    here = {**MINIMAL, "HOME": str(tmp_path), "BROKER_STATE_DIR": str(tmp_path / "var")}

    def printed(*words: str) -> object:
        done = run(*words, "--json", environment=here, directory=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    assert printed("migrate") == {"revision": "head"}
    file = Path(printed("operator", "recover")["token_file"])  # type: ignore[index]  # an object
    assert file.read_text().startswith("kb")
    active = printed("keystore", "rotate")["active"]  # type: ignore[index]  # an object
    held = printed("keystore", "rewrap")
    assert [row["master_key"] for row in held] == [active]  # type: ignore[attr-defined]  # an array
