"""The wheel's sources: ``broker.client`` as the package ``keybroker``, with what it imports of ``broker`` below that.

The whole project's package is called ``broker``, and so is somebody else's in the index.  Two distributions that have
one package overwrite each other's files, and no installer says so.  So a job, whose environment is anybody's, gets
these modules by a name that is ours alone.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_ROOT = Path(__file__).resolve().parents[1]
_CLIENT = _ROOT / "broker/client"
_TO = "keybroker"
# `broker.client.errors` is `keybroker.errors`, and `broker.formats.ids` is `keybroker.formats.ids`.
_NAMES = [(re.compile(r"\bbroker\.client\b"), _TO), (re.compile(r"\bbroker\.(?=(?:base|formats)\b)"), f"{_TO}.")]


class Sources(BuildHookInterface[Any]):
    """Hatch's hook: it makes the tree, and has it put into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the modules into a folder of their own, for hatch to take from there."""
        if version == "editable":
            raise SystemExit("keybroker-client is made of the whole project's sources: install that to change them.")
        if not _CLIENT.is_dir():
            raise SystemExit("keybroker-client is built from a checkout of the whole project: run `make wheel` there.")
        self._made = Path(tempfile.mkdtemp(prefix="keybroker-client-"))
        for name in _needed():
            source = _source(name)
            place = self._made / _place(name, is_package=source.name == "__init__.py")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(_renamed(source.read_text(encoding="utf-8")), encoding="utf-8")
        (self._made / "py.typed").touch()
        shutil.copy(_ROOT / "LICENSE", self._made)
        build_data["force_include"][str(self._made)] = _TO

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self._made)


def _needed() -> list[str]:
    """Every module of the client, and of ours what these import, also lazily and for type checkers."""
    modules = (".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in _CLIENT.rglob("*.py"))
    waiting = [module.removesuffix(".__init__") for module in modules]
    found = set[str]()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imported(_source(name))
    return sorted(found)


def _imported(source: Path) -> set[str]:
    named = set[str]()
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = {name for name in named if name.startswith("broker.") and _source(name).is_file()}
    return ours | {parent for name in ours if (parent := name.rpartition(".")[0]) != "broker"}


def _source(name: str) -> Path:
    place = _ROOT.joinpath(*name.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def _place(name: str, *, is_package: bool) -> Path:
    parts = _renamed(name).split(".")[1:]
    return Path(*parts, "__init__.py") if is_package else Path(*parts).with_suffix(".py")


def _renamed(text: str) -> str:
    for old, new in _NAMES:
        text = old.sub(new, text)
    return text
