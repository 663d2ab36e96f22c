"""The image as far as it can be made without Docker: what reaches the build, what it installs, and what that runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def copied() -> list[str]:
    """What the build stage takes from the context."""
    found = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    return [name for names in found for name in names.split()]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``.dockerignore`` lets through of this repository."""
    made = tmp_path_factory.mktemp("context")
    first, *rest = (ROOT / ".dockerignore").read_text().split()
    assert first == "*", "nothing goes in but what is named"
    left_out = shutil.ignore_patterns(*(line.removeprefix("**/") for line in rest if line.startswith("**/")))
    for name in (line[1:] for line in rest if line.startswith("!")):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, made / name, ignore=left_out)
        else:
            shutil.copy(source, made / name)
    return made


def test_the_image_is_linted_and_its_last_stage_runs_nothing() -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "distroless" in last.splitlines()[0]
    assert "\nRUN" not in last
    assert "USER 65532" in last
    assert "--require-hashes" in DOCKERFILE


def test_what_the_image_copies_reaches_the_build_and_nothing_else_does(context: Path) -> None:
    assert {path.name for path in context.iterdir()} == set(copied())
    assert not list(context.rglob("__pycache__"))
    assert not list(context.rglob("node_modules"))


def test_what_the_image_installs_runs_and_brings_the_migrations_along(context: Path, tmp_path: Path) -> None:
    # pip as in the Dockerfile; the dependencies are this environment's, which come from the same lock
    shutil.copytree(context, tmp_path / "source")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, *install, "--target", tmp_path / "app", "."], cwd=tmp_path / "source", check=True, timeout=100
    )
    licences = Path("broker", "web", "pages", "static", "licences.txt")
    assert (tmp_path / "app" / licences).read_bytes() == (ROOT / licences).read_bytes(), "they go with the script"
    installed = {path.name for path in (tmp_path / "app" / "broker" / "_migrations" / "versions").glob("*.py")}
    assert installed == {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    environment = {"PYTHONPATH": str(tmp_path / "app"), "BROKER_STATE_DIR": str(tmp_path / "state")}
    done = subprocess.run(
        [sys.executable, "-m", "broker", "migrate"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The database is at head" in done.stdout
