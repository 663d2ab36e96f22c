"""What the documents promise is there."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.house.named import found_in
from tests.reference.commands import walked

ROOT = Path(__file__).parents[2]
_PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
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


def links(text: str) -> set[tuple[str, str]]:
    """The links of a document that lead to files or headings of ours: path and anchor, either of them empty."""
    prose = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"\]\(\s*([^)\s]+)\s*\)", prose)
    return {(path, anchor) for path, _, anchor in (one.partition("#") for one in found) if ":" not in path}


def anchors(text: str) -> set[str]:
    """What links to headings of a document end with, as repositories show it."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    named: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", prose, re.MULTILINE):
        name = re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        named.add(next(one for one in (name, *(f"{name}-{n}" for n in range(1, 999))) if one not in named))
    return named


@EVERY
def test_what_a_document_links_to_exists(name: str) -> None:
    for path, anchor in links(DOCUMENTS[name]):
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists(), path
        if anchor:
            document = str(target.relative_to(ROOT))
            assert document in DOCUMENTS, path
            assert anchor in anchors(DOCUMENTS[document]), f"{path}#{anchor}"


def test_links_and_anchors_are_read_as_they_are_shown() -> None:
    text = "# A *b*: c_d\n\n## Same\n\n## Same\n\n[x](a.md#b) ![y](z.svg)\n[two\nlines](#same-1)\n"
    text += "```\n[no](no)\n# no\n```\n"
    assert links(text) == {("a.md", "b"), ("z.svg", ""), ("", "same-1")}
    assert anchors(text) == {"a-b-c_d", "same", "same-1"}


@cache
def options() -> dict[str, set[str]]:
    """Every command with its options."""
    return {
        command: {word for one in found.get_params(context) for word in (*one.opts, *one.secondary_opts)}
        for command, found, context in walked()
        if not hasattr(found, "commands")
    }


@EVERY
def test_every_option_of_a_command_in_a_document_exists(name: str) -> None:
    known = options()
    examples = re.findall(r"^```sh.*?\n(.*?)^```|((?:^ {4,}.*\n)+)", DOCUMENTS[name], re.MULTILINE | re.DOTALL)
    said = "\n".join(map("".join, examples)).replace("\\\n", " ")
    said += "\n".join(one.replace("\n", " ") for one in re.findall(r"`(broker [^`]+)`", DOCUMENTS[name]))
    for line in re.findall(r"\bbroker [a-z].*", said):
        before_another = re.split(r" -- | \| | \(| #", line)[0]
        for command in (" ".join(before_another.split()[:words]) for words in (3, 2)):
            if command in known:
                assert set(re.findall(r"(?<=\s)--[a-z][a-z-]*", before_another)) <= known[command] | {"--help"}, line
                break


def test_every_document_is_reached_from_the_readme() -> None:
    reached, found = {"README.md"}, ["README.md"]
    while found:
        name = found.pop()
        near = (ROOT / name).parent
        named = {str((near / path).resolve().relative_to(ROOT)) for path, _ in links(DOCUMENTS[name]) if path}
        named &= set(DOCUMENTS)
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


def test_every_alert_is_in_the_guide_to_monitoring() -> None:
    rules = (ROOT / "deploy/monitoring/alerts.yaml").read_text()
    alerts = re.findall(r"- alert: (\w+).*?severity: (\w+)", rules, re.DOTALL)
    listed = re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENTS["docs/how-to/monitor.md"], re.MULTILINE)
    assert listed == alerts


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
    for lock in ("requirements.lock", "requirements-build.lock", "requirements-dev.lock", "requirements-docs.lock"):
        entries = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text().strip(), flags=re.IGNORECASE)
        assert len(entries) > (30 if "build" not in lock else 3)
        assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
