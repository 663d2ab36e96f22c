"""Variables that begin as the settings do: none that nobody reads is passed over in silence."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import broker
from broker.base import variables
from broker.config import Settings
from tests.support.commands import MINIMAL, run

OF_SERVERS = [
    ("serve",),
    ("worker",),
    ("migrate",),
    ("doctor",),
    ("operator", "recover"),
    ("keystore", "init"),
    ("keystore", "rotate"),
    ("keystore", "rewrap"),
    ("restored", "--list"),
]


@pytest.mark.parametrize("words", OF_SERVERS, ids=" ".join)
def test_a_misspelt_setting_ends_every_command_of_the_server_and_the_nearest_is_named(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    environment = {**MINIMAL, "BROKER_STATE_DIR": str(tmp_path), "BROKER_KEYSTOR": "vault-transit", "broker_prot": "1"}
    refused = run(*words, environment=environment)
    assert refused.returncode == 1, refused
    said = refused.stderr.decode()
    assert "BROKER_KEYSTOR: there is no such setting. Did you mean BROKER_KEYSTORE?" in said
    assert "broker_prot: there is no such setting. Did you mean BROKER_PORT?" in said
    assert "vault-transit" not in said, "a value may be a secret"
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_what_is_near_nothing_is_refused_without_a_guess(tmp_path: Path) -> None:
    environment = {**MINIMAL, "BROKER_STATE_DIR": str(tmp_path), "BROKER_XYZZY_QUUX": ""}
    said = run("doctor", environment=environment).stderr.decode()
    assert "BROKER_XYZZY_QUUX: there is no such setting. `broker doctor --settings`" in said


def test_variables_of_commands_may_be_there_too(tmp_path: Path) -> None:
    environment = {**MINIMAL, "BROKER_STATE_DIR": str(tmp_path), **dict.fromkeys(variables.OF_COMMANDS, "x")}
    done = run("doctor", environment={**environment, "Broker_Port": "8090"})
    assert done.returncode == 0, done.stderr


def test_every_variable_that_a_command_reads_is_one_that_the_server_knows() -> None:
    root = Path(broker.__file__).parent
    settings = {f"BROKER_{name.upper()}" for name in Settings.model_fields}
    for path in (*root.glob("cli/**/*.py"), *root.glob("client/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            value = node.value if isinstance(node, ast.Constant) else None
            if isinstance(value, str) and re.fullmatch("BROKER_[A-Z_]+", value) and value not in settings:
                pytest.fail(f"{path.name}: take {value!r} from broker.base.variables")
