"""What the documents promise is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.house.named import found_in

ROOT = Path(__file__).parents[2]
_PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
DOCUMENTS = {str(path.relative_to(ROOT)): path.read_text() for path in _PAGES}
EVERY = pytest.mark.parametrize("name", DOCUMENTS)
DECISIONS = {name: text for name, text in DOCUMENTS.items() if re.match(r"docs/adr/\d{4}-", name)}


@EVERY
def test_every_make_target_of_a_document_exists(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^    )make ([a-z]+)", DOCUMENTS[name], re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_of_the_documents_exists() -> None:
    from typer.core import TyperGroup
    from typer.main import get_command

    from broker.cli import build

    program = get_command(build())
    assert isinstance(program, TyperGroup)
    commands = program.commands
    for group, command in set(re.findall(r"\bbroker ([a-z]+)(?: ([a-z-]+))?", "\n".join(DOCUMENTS.values()))):
        if group in commands:
            inner = getattr(commands[group], "commands", None)
            assert inner is None or not command or command in inner, f"broker {group} {command}"
    assert {
        "serve",
        "worker",
        "migrate",
        "demo",
        "org",
        "provider",
        "key",
        "workload",
        "grant",
        "lease",
        "audit",
    } <= set(commands)


@EVERY
def test_what_a_document_links_to_exists(name: str) -> None:
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", DOCUMENTS[name]):
        assert ((ROOT / name).parent / link).exists(), link


def test_every_document_is_reached_from_the_readme() -> None:
    reached, found = {"README.md"}, ["README.md"]
    while found:
        name = found.pop()
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", DOCUMENTS[name])
        named = {str(((ROOT / name).parent / link).resolve().relative_to(ROOT)) for link in links} & set(DOCUMENTS)
        found += named - reached
        reached |= named
    assert reached == set(DOCUMENTS)


@EVERY
def test_files_and_tests_that_a_document_names_exist(name: str) -> None:
    for path, test in re.findall(
        r"`((?:broker|migrations|tests|deploy(?!/test_))/[\w/.-]*)(?:::(\w+))?`", DOCUMENTS[name]
    ):
        assert (ROOT / path).exists(), path
        assert not test or test in found_in(ROOT / path), f"{path}::{test}"


def test_decisions_are_numbered_listed_and_say_why() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", DOCUMENTS["docs/adr/README.md"], re.MULTILINE)
    assert [int(number) for number, _, _ in listed] == [*range(1, len(DECISIONS) + 1)]
    assert [f"docs/adr/{path}" for _, _, path in listed] == sorted(DECISIONS)
    for number, title, path in listed:
        text = DECISIONS[f"docs/adr/{path}"]
        assert path.startswith(f"{int(number):04}-")
        assert text.startswith(f"# {number}. {title}\n")
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert headings == ["Problem", "Decision", "What follows", "Rejected", "Where"], path


def test_no_registry_and_no_machine_path_stands_in_the_tree() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    registry = re.compile(r"py" + r"pi\.org|python" + r"hosted|npm" + r"js\.(org|com)|deb\.deb" + r"ian\.org")
    for name in tracked:
        path = ROOT / name
        if path.is_file() and path.suffix != ".png":
            text = path.read_text(errors="replace")
            assert not registry.search(text), name
            assert str(ROOT) not in text or len(str(ROOT)) < 6, name


def test_every_pin_has_a_hash() -> None:
    for lock in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock"):
        entries = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text().strip(), flags=re.IGNORECASE)
        assert len(entries) > (40 if "build" not in lock else 3)
        assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
