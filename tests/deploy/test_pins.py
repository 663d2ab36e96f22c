"""What is installed anywhere is what was pinned, by its hash."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LOCKS = sorted(ROOT.glob("requirements*.lock"))
LOCKED = [("pyproject.toml", "requirements-cli.lock"), ("client/pyproject.toml", "requirements-client.lock")]
INSTALLERS = [ROOT / "Makefile", ROOT / "deploy" / "Dockerfile"]


def pinned(lock: Path) -> dict[str, str]:
    """Each requirement of a lock, with its lines."""
    found = re.findall(r"^([a-z0-9][\w.-]*)(?:\[[\w,]+\])?==(.*(?:\n .*)*)", lock.read_text(), re.MULTILINE)
    return dict(found)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_pin_has_hashes_and_no_registry(lock: Path) -> None:
    text = lock.read_text()
    # A package may be pinned once for each version of Python.
    pins = re.split(r"^(?=[^ #\n])", text, flags=re.MULTILINE)[1:]
    assert all(re.match(r"[a-z0-9][\w.-]*(\[[\w,-]+\])?==", pin) for pin in pins), "nothing but pins"
    assert all("--hash=sha256:" in pin for pin in pins)
    assert pins
    assert "://" not in text


def test_the_locks_of_servers_and_of_clients_pin_the_same() -> None:
    servers, version = pinned(ROOT / "requirements.lock"), re.compile(r"^[\w.]+")
    for file, lock in (
        ("pyproject.toml", "requirements-cli.lock"),
        ("client/pyproject.toml", "requirements-client.lock"),
    ):
        project, pins = tomllib.loads((ROOT / file).read_text()), pinned(ROOT / lock)
        wanted = {re.split(r"[\[><= ]", one)[0] for one in project["project"]["dependencies"]}
        assert wanted <= pins.keys()
        for name in pins.keys() & servers.keys():
            assert version.findall(pins[name]) == version.findall(servers[name]) != [], name
    assert "uv" in pinned(ROOT / "requirements-uv.lock")


@pytest.mark.parametrize("file", INSTALLERS, ids=lambda file: file.name)
def test_nothing_is_installed_without_hashes_but_what_is_here(file: Path) -> None:
    commands = re.findall(r"\bpip install (.+)", file.read_text())
    assert commands
    for command in commands:
        if "--require-hashes" not in command:
            assert {"--no-deps", "--no-build-isolation"} <= set(shlex.split(command.rstrip("\\"))), command
            assert command.rstrip("\\ ").endswith(" ."), command
    assert not re.search(r"\bnpm (install|ci)(?!.*--ignore-scripts)", file.read_text())


PYTHON = """#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
  *pip*--require-hashes*) [ ! -e {broken} ] ;;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
"""


def test_the_hook_installs_pins_once_whole_or_not_at_all_and_runs_nothing_of_where_it_is(tmp_path: Path) -> None:
    # given the hook in a clone of this repository, as pre-commit makes one, and a Python that writes down what it does
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    clone, log, broken = tmp_path / "clone", tmp_path / "log", tmp_path / "broken"
    script, *words = shlex.split(hook["entry"])
    assert (hook["language"], (ROOT / script).stat().st_mode & 0o111) == ("script", 0o111)
    (clone / "deploy").mkdir(parents=True)
    (clone / script).write_text((ROOT / script).read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text(PYTHON.format(log=log, broken=broken))
    (tmp_path / "bin" / "python3").chmod(0o755)

    def run() -> tuple[int, list[str]]:
        log.write_text("")
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        done = subprocess.run(["sh", clone / script, *words], env=environment, cwd=tmp_path, check=False, timeout=60)
        return done.returncode, log.read_text().splitlines()

    # when an installation fails, then nothing is run, and nothing is left
    broken.touch()
    assert run()[0] != 0
    assert not list(clone.glob(".hook*"))
    # when it can be done, then only what is pinned is installed, beside what is here
    broken.unlink()
    status, did = run()
    assert status == 0
    locks = f"-r {clone}/requirements-cli.lock -r {clone}/requirements-build.lock"
    installed = [
        line.partition(" -m pip install --quiet --disable-pip-version-check ")[2] for line in did if "pip" in line
    ]
    assert installed == [f"--require-hashes {locks}", f"--no-deps --no-build-isolation {clone}"]
    runs = f"{clone}/.hook/bin/python -I -m broker scan --offline --staged"
    assert did[-1] == runs
    # and the next commit installs nothing
    assert run() == (0, [runs])
