"""A key that is given as an argument is refused without being written out, whichever command it is given to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from broker.cli import build
from broker.client.identity import Identity, generate
from tests.support.commands import MINIMAL, run

KEY = "rc_live_" + "k9Zq" * 16
TOKEN = "kbo_" + "t0kN" * 12
UNKNOWN = "pass-\x1b\\" + "w0rD'" * 9
EVERY_SECRET = pytest.mark.parametrize("secret", [KEY, TOKEN, f"NAME={KEY}", f"Bearer {TOKEN}"], ids=range(4))


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that isn't a group, with the words that lead to it."""
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from leaves(inner, (*words, name))
    else:
        yield words, command


APP = build()
EVERY = [(words, command) for words, command in leaves(get_command(APP)) if words != ("exec",)]


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no broker, no account and no settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("BROKER_URL", "http://127.0.0.1:1")
    monkeypatch.chdir(tmp_path)


def said(*words: str, status: int = 2) -> str:
    """What the command says: it is refused before it does anything."""
    done = CliRunner().invoke(APP, words, input="")
    assert done.exit_code == status, (words, done.output)
    return done.output


@EVERY_SECRET
def test_no_command_takes_a_key_or_a_token_as_an_argument_or_repeats_it(secret: str) -> None:
    assert len(EVERY) > 80
    for words, command in EVERY:
        options = [name for parameter in command.params for name in parameter.opts if name.startswith("--")]
        for given in ([secret], ["x", secret], *([name, secret] for name in options), [f"--from={secret}"]):
            told = said(*words, *given)
            assert "looks like a key or a token" in told, (words, told)
            assert secret[8:24] not in told


def test_no_usage_error_repeats_what_may_be_a_secret() -> None:
    for words, command in EVERY:
        needed = len([one for one in command.params if one.param_type_name == "argument"])
        numbers = [one.opts[0] for one in command.params if one.opts[0] in {"--limit", "--hours", "--settle", "--alg"}]
        takes_many = any(one.nargs == -1 for one in command.params)
        wrong = (
            *([] if takes_many else [[UNKNOWN]]),
            [f"--{UNKNOWN}"],
            [f"--{UNKNOWN}=x"],
            [f"-{UNKNOWN}"],
            *([name, UNKNOWN] for name in numbers),
        )
        for given in wrong:
            told = said(*words, *["x"] * needed, *given)
            assert "w0rD" not in told, (words, told)


@pytest.mark.parametrize("words", [[KEY], [f"--{KEY}"], ["--profile", KEY], [UNKNOWN], ["key", KEY], ["key", UNKNOWN]])
def test_nor_does_one_before_the_command_or_in_its_place(words: list[str]) -> None:
    told = said(*words)
    assert "k9Zq" not in told
    assert "w0rD" not in told


@pytest.mark.parametrize("words", [("key", "add"), ("login",), ("webhook", "add"), ("operator", "bootstrap")])
def test_where_a_secret_is_taken_it_is_said_how(words: tuple[str, ...]) -> None:
    given = {"key add": ["--org", "a", "--provider", "b"], "operator bootstrap": ["--name", "ada"]}
    told = " ".join(said(*words, *given.get(" ".join(words), []), "s3cret").replace("│", " ").split())
    assert "A secret is taken from standard input only." in told
    assert "s3cret" not in told


def test_short_words_and_names_of_options_are_repeated() -> None:
    assert "'lst'" in said("org", "lst")
    assert "Did you mean 'list'?" in said("org", "lst")
    assert "--rotation-days-and-more" in said("org", "policy", "acme", "--rotation-days-and-more", "1")


def test_ids_and_names_are_no_secrets() -> None:
    for name in ("crd_" + "0a" * 16, "nightly-sync-2026-of-the-production", "b3bdd65a-6ddd-4b5b-8b0e-9a2d0a2d4c11"):
        assert "looks like" not in said("key", "show", name, status=1)


def test_a_command_under_exec_gets_any_argument_and_its_own_name_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    Identity("http://127.0.0.1:1", "wkl_1", generate()).write(file)
    words = ("exec", "--identity", str(file), "--org", "a", "--provider", "b", "--", "echo", KEY)
    done = run(*words, environment=MINIMAL, directory=tmp_path)
    assert (done.returncode, b"unreachable" in done.stderr) == (1, True), done.stderr
    assert KEY.encode() not in done.stderr


@pytest.mark.parametrize("option", ["--allow", "--rate"])
def test_a_limit_that_cannot_be_read_is_not_repeated_if_it_is_long(option: str) -> None:
    names = ("--workload", "w", "--org", "a", "--provider", "b")
    assert "w0rD" not in said("grant", "add", *names, option, UNKNOWN, status=1)
    assert json.dumps("6/x")[1:-1] in said("grant", "add", *names, "--rate", "6/x", status=1)
