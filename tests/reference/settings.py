"""The page of settings, and of the variables that commands read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

import broker
from broker.config import Settings
from tests.reference.markdown import code, page, table

# Variables that are no settings of a broker.
COMMANDS = {
    "BROKER_CONFIG": "A TOML file of settings, by the names of this page without `BROKER_`, in small letters.",
    "BROKER_SECRETS_DIR": "A directory of one file for each setting, named as in the TOML file.",
    "BROKER_URL": "Which broker the commands of operators ask; by default the one that the account is for.",
    "BROKER_TOKEN": "An operator's token, instead of the account that is kept.",
    "BROKER_PROFILE": "Whose account to use, where several are kept, instead of `--profile`.",
    "BROKER_IDENTITY": "A job's identity file, instead of `--identity`.",
    "BROKER_WORKLOAD": "A job's id where it has no identity file, instead of `--workload`.",
    "BROKER_ID_TOKEN": "A token of the job's platform for this broker; `--ambient` takes it before all others.",
    "BROKER_CLIENT_PROXY": "An HTTP proxy that leads to the broker; `http_proxy` and its like are not read.",
}
ABOUT = """\
A broker reads its settings once, at its start: from the environment (`BROKER_PORT=8080`), from a directory with one
file for each (`BROKER_SECRETS_DIR`), and from one TOML file (`BROKER_CONFIG`, `port = 8080`). The environment wins over
the directory, and the directory over the file. `broker doctor --settings` prints what is in force, without secrets;
`broker serve` refuses to start with a message that names what is wrong.

Files that hold a secret are their owner's alone (0600, 0400), or root's with 0440."""


def made() -> str:
    """The page."""
    settings = [
        (code(f"BROKER_{name.upper()}"), _default(field), f"{field.description}{_choices(field)}{_bounds(field)}")
        for name, field in Settings.model_fields.items()
    ]
    return page(
        "Settings",
        ABOUT,
        "## Of a broker\n\n" + table(("setting", "default", "meaning"), settings),
        "## Of commands\n\n" + table(("variable", "meaning"), [(code(name), text) for name, text in COMMANDS.items()]),
    )


def variables() -> set[str]:
    """Every variable that the code names."""
    return {
        value
        for path in Path(broker.__path__[0]).rglob("*.py")
        for value in _texts(ast.parse(path.read_text(encoding="utf-8")))
        if re.fullmatch(r"BROKER_[A-Z][A-Z0-9_]+", value)
    }


def _texts(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _default(field: FieldInfo) -> str:
    if field.default is None or field.default == "":
        return "–"
    return code(str(field.default))


def _choices(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return " One of " + ", ".join(map(code, get_args(field.annotation))) + "."
    return " A secret." if SecretStr in get_args(field.annotation) else ""


def _bounds(field: FieldInfo) -> str:
    """From where to where a number may go."""
    found: dict[str, Any] = {}
    for rule in field.metadata:
        found |= {name: getattr(rule, name) for name in ("ge", "gt", "le", "lt") if hasattr(rule, name)}
    low = f"from {found['ge']:,}" if "ge" in found else f"more than {found['gt']:,}" if "gt" in found else ""
    high = f"to {found['le']:,}" if "le" in found else ""
    both = " ".join(filter(None, (low, high)))
    return f" ({both})" if both else ""
