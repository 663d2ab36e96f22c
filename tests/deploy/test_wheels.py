"""What `make wheel` builds: the whole, and the job's side alone under a name that is nobody else's."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest

from tests.client.served import ClientBench
from tests.deploy.conftest import built

ROOT = Path(__file__).parents[2]
PROJECTS = ("pyproject.toml", "client/pyproject.toml")
FURTHER_PACKAGES = 12


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def run_with(installed: Path, code: str, directory: Path) -> str:
    """What a program prints that has the installed folder and the dependencies, and none of our sources."""
    found = [str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    # -S: the environment's own link to our sources isn't followed.
    words = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {found!r}\n{code}"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_both_wheels_installed_together_share_no_file(client_wheel: Path, tmp_path: Path) -> None:
    whole = files(built(ROOT, tmp_path))
    alone = files(client_wheel)
    assert {"broker/client/client.py", "broker/_migrations/env.py"} <= whole
    assert not whole & alone
    assert {name.partition("/")[0] for name in alone} == {"keybroker", "keybroker_client-0.1.0.dist-info"}


def test_the_jobs_side_holds_every_module_of_the_client_and_none_of_the_server(client_wheel: Path) -> None:
    alone = files(client_wheel)
    here = ROOT / "broker/client"
    client = {f"keybroker/{path.relative_to(here)}" for path in here.rglob("*.py")}
    assert client <= alone
    assert {"keybroker/py.typed", "keybroker/LICENSE"} <= alone
    others = {name for name in alone - client if name.endswith(".py")}
    assert all(re.match("keybroker/(base|formats)/", name) for name in others)
    with zipfile.ZipFile(client_wheel) as archive:
        for name in client | others:
            assert not re.search(rb"\bbroker\.(client|base|formats|cli)\b", archive.read(name)), name


def test_the_same_sources_give_the_same_wheel(client_wheel: Path, tmp_path: Path) -> None:
    assert built(ROOT / "client", tmp_path).read_bytes() == client_wheel.read_bytes()


def test_the_jobs_side_brings_few_packages_along(client_wheel: Path) -> None:
    with zipfile.ZipFile(client_wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(archive.read(name))
    waiting = [*(metadata.get_all("Requires-Dist") or [])]
    found = set[str]()
    while waiting:
        one = waiting.pop()
        package = re.split(r"[^\w.-]", one)[0].lower().replace("_", "-")
        if "extra ==" in one or package in found:
            continue
        try:
            waiting += requires(package) or []
        except PackageNotFoundError:
            continue  # for another system
        found.add(package)
    assert {"cryptography", "httpx2", "joserfc"} <= found
    assert len(found) <= FURTHER_PACKAGES, sorted(found)
    lock = (ROOT / "requirements-client.lock").read_text()
    assert found <= set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))


def test_both_projects_say_the_same_of_what_they_share() -> None:
    whole, alone = (tomllib.loads((ROOT / file).read_text())["project"] for file in PROJECTS)
    assert set(alone["dependencies"]) <= set(whole["dependencies"])
    for name in ("version", "requires-python", "license"):
        assert whole[name] == alone[name]


def test_what_is_imported_is_found_without_our_sources(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib, pkgutil, keybroker
for name in keybroker.__all__:
    assert getattr(keybroker, name).__module__.startswith("keybroker."), name
for module in pkgutil.walk_packages(keybroker.__path__, "keybroker."):
    importlib.import_module(module.name)
print(sorted({name.partition(".")[0] for name in sys.modules} & {"broker", "keybroker", "typer", "fastapi"}))
"""
    assert run_with(installed, code, tmp_path) == "['keybroker']\n"


def snippets(document: str) -> Sequence[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "client/README.md"])
async def test_the_readmes_python_runs_as_it_is_pasted(
    document: str, installed: Path, bench: ClientBench, tmp_path: Path
) -> None:
    pasted = snippets(document)
    assert pasted
    for snippet in pasted:
        assert "from keybroker import" in snippet
        printed = await asyncio.to_thread(run_with, installed, snippet, tmp_path)
        assert printed.count("Riverside Substation") == snippet.count("print(")
    assert set(await bench.states()) == {"ended"}
