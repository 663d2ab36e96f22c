"""Commits say what they do, and why, since the commit that brought the rule."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RULE = "CONTRIBUTING.md"
_SUBJECT_MOST = 72
_SUBJECT = re.compile(r"[a-z][a-z0-9_./-]*: (?P<verb>[a-z][a-z'-]*)(?:[ ,].*[^.\s])?")
# No verb in the form of an order, but for those that only look like "adding", "added" or "adds".
_NO_ORDER = re.compile(r"a|an|the|no|\w+(?:ing|[^e]ed|[^s]s)")
_ORDERS = frozenset({"alias", "bring", "embed", "focus", "ping", "ring", "shed", "spring", "string", "wring"})
_TRAILER = re.compile(r"[A-Z][A-Za-z-]+: .+")


def faults(message: str) -> list[str]:
    """What is wrong with a commit's message; nothing where it keeps to the rule."""
    subject, *rest = message.strip().splitlines() or [""]
    found = []
    if len(subject) > _SUBJECT_MOST:
        found.append(f"the subject has {len(subject)} characters, at most {_SUBJECT_MOST} are read")
    form = _SUBJECT.fullmatch(subject)
    if form is None or (_NO_ORDER.fullmatch(form["verb"]) and form["verb"] not in _ORDERS):
        found.append("the subject is `area: imperative`, without a full stop")
    if rest and rest[0].strip():
        found.append("the second line is blank")
    if all(not line.strip() or _TRAILER.fullmatch(line) for line in rest):
        found.append("the body says why, and what was rejected")
    return found


def git(repository: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=True).stdout


def messages(repository: Path) -> Iterator[tuple[str, str]]:
    """The commits since the one that brought the rule: short id and message.

    Merges are left out, as their words are a tool's.  In a shallow clone the oldest commit seems to bring every
    file, so only the commits after it are judged.
    """
    brought = git(repository, "log", "--diff-filter=A", "--format=%H", "--", RULE).split()
    if brought:
        since = f"{brought[-1]}..HEAD"
        for one in filter(None, git(repository, "log", "-z", "--no-merges", "--format=%h%n%B", since).split("\0")):
            name, _, message = one.partition("\n")
            yield name, message


def test_every_commit_since_the_rule_keeps_to_it() -> None:
    judged = {f"{name} {message}": faults(message) for name, message in messages(ROOT)}
    assert {commit: wrong for commit, wrong in judged.items() if wrong} == {}


@pytest.mark.parametrize(
    "subject",
    ["proxy: refuse two lengths", "docs: say", "web/api: need a role", "formats: pass `kid` on", "x: don't ask"],
)
def test_a_message_with_an_area_an_order_and_a_reason_is_taken(subject: str) -> None:
    assert faults(f"{subject}\n\nWhy it is so.\n") == []
    assert faults(f"{subject}\n\nWhy it is so.\n\nSigned-off-by: Ada <ada@example.org>\n") == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("proxy: " + "x" * 66 + "\n\nwhy", "73 characters"),
        ("refuse two lengths\n\nwhy", "area: imperative"),
        ("Proxy: refuse two lengths\n\nwhy", "area: imperative"),
        ("proxy: Refuse two lengths\n\nwhy", "area: imperative"),
        ("proxy: refuse two lengths.\n\nwhy", "area: imperative"),
        ("proxy: refused two lengths\n\nwhy", "area: imperative"),
        ("proxy: refusing two lengths\n\nwhy", "area: imperative"),
        ("proxy: refuses two lengths\n\nwhy", "area: imperative"),
        ("proxy: the lengths\n\nwhy", "area: imperative"),
        ("proxy: refuse two lengths\nwhy", "second line"),
        ("proxy: refuse two lengths", "says why"),
        ("proxy: refuse two lengths\n\n  \n", "says why"),
        ("proxy: refuse two lengths\n\nSigned-off-by: Ada <ada@example.org>\n", "says why"),
    ],
)
def test_a_message_without_one_of_them_is_not(message: str, said: str) -> None:
    (found,) = faults(message)
    assert said in found


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with commits from before the rule, the rule, and two commits since."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "ada@example.org")
    made = tmp_path / "made"
    made.mkdir()
    git(made, "init", "--quiet", "--initial-branch=main")
    for message in ("Old ways", "More of them", "docs: bring the rule\n\nWhy.", "web: add one\n\nWhy.", "No area"):
        if message.startswith("docs"):
            (made / RULE).write_text("rule")
            git(made, "add", RULE)
        git(made, "commit", "--quiet", "--allow-empty", "--message", message)
    return made


def subjects(repository: Path) -> list[str]:
    return [message.splitlines()[0] for _, message in messages(repository)]


def test_only_commits_after_the_one_that_brought_the_rule_are_judged(repository: Path) -> None:
    assert subjects(repository) == ["No area", "web: add one"]
    git(repository, "checkout", "--quiet", "HEAD~3")
    assert subjects(repository) == []


def test_a_branch_is_judged_and_its_merge_is_not(repository: Path) -> None:
    git(repository, "checkout", "--quiet", "-b", "side", "HEAD~1")
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "side: add two\n\nWhy.")
    git(repository, "merge", "--quiet", "--no-ff", "--message", "Merge of others", "main")
    assert set(subjects(repository)) == {"No area", "web: add one", "side: add two"}


@pytest.mark.parametrize(("depth", "judged"), [(1, 0), (2, 1), (3, 2), (4, 2), (9, 2)])
def test_a_shallow_clone_of_one_branch_judges_what_it_has(
    repository: Path, tmp_path: Path, depth: int, judged: int
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", f"--depth={depth}", "--single-branch", repository.as_uri(), str(clone))
    assert len(subjects(clone)) == judged
