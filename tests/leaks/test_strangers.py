"""A repository that a stranger packed: what it says is read, and nothing that it asks for is done."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.leaks import repository
from tests.leaks.test_repository import git, made, object_of  # noqa: F401 - a fixture
from tests.leaks.test_scan import KEY, scan, told
from tests.support.commands import run

WAYS = [(), ("--staged",), ("--history",)]
# Every setting of git's whose value is a program, or is handed to one.
_PROGRAMS = """
alias.<name> browser.<tool>.cmd browser.<tool>.path core.alternateRefsCommand core.askPass core.editor core.fsmonitor
core.gitProxy core.hooksPath core.pager core.sshCommand credential.helper credential.<url>.helper
diff.<driver>.command diff.<driver>.textconv diff.external difftool.<tool>.cmd difftool.<tool>.path
filter.<driver>.clean filter.<driver>.process filter.<driver>.smudge gpg.<format>.program gpg.program
gpg.ssh.defaultKeyCommand gpg.ssh.program guitool.<name>.cmd help.browser hook.<name>.command http.proxy
imap.tunnel instaweb.browser instaweb.httpd interactive.diffFilter man.<tool>.cmd man.<tool>.path man.viewer
merge.<driver>.driver mergetool.<tool>.cmd mergetool.<tool>.path pager.<cmd> remote.<name>.proxy
remote.<name>.receivepack remote.<name>.uploadpack remote.<name>.vcs sendemail.ccCmd sendemail.headerCmd
sendemail.sendmailCmd sendemail.smtpServer sendemail.toCmd sequence.editor submodule.<name>.update tar.<format>.command
trailer.<keyAlias>.cmd trailer.<keyAlias>.command uploadpack.packObjectsHook web.browser
"""
PROGRAMS = frozenset(_PROGRAMS.split())
_RUNS = re.compile(
    r"\.(\w*command|\w*cmd|program|\w*editor|askpass|helper|\w*hook|hookspath|fsmonitor|textconv|driver|clean|smudge"
    r"|process|uploadpack|receivepack|vcs|\w*proxy|external|browser|viewer|diffFilter|pager)$",
    re.IGNORECASE,
)
_RUN_NOTHING = {"column.clean", "color.pager", "gitcvs.dbdriver", "advice.ignoredhook", "advice.waitingforeditor"}


def test_no_setting_that_names_a_program_is_missing_here() -> None:
    known = subprocess.run(["git", "help", "--config"], capture_output=True, check=True, text=True).stdout.split()
    named = {name.lower() for name in known if _RUNS.search(name)}
    assert named - _RUN_NOTHING <= {name.lower() for name in PROGRAMS}


class Trap:
    """A program that leaves a mark when it is run, and a port that notes whoever connects to it."""

    def __init__(self, folder: Path) -> None:
        self._mark = folder / "mark"
        self.program = folder / "trap"
        self.program.write_text(f'#!/bin/sh\necho "$0 $*" >> {self._mark}\nexit 1\n')
        self.program.chmod(0o755)
        self._port = socket.create_server(("127.0.0.1", 0))
        self._port.setblocking(False)
        self.url = f"http://127.0.0.1:{self._port.getsockname()[1]}/x"

    def sprung(self) -> bool:
        """Whether the program was run or the port reached, since last asked."""
        try:
            self._port.accept()[0].close()
        except BlockingIOError:
            return self._marked()
        return True

    def _marked(self) -> bool:
        try:
            self._mark.unlink()
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        self._port.close()


@pytest.fixture
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    one = Trap(tmp_path_factory.mktemp("trap"))
    yield one
    one.close()


@pytest.fixture
def planted(made: Path) -> Path:  # noqa: F811 - the fixture
    """A repository with the key in a committed file, and in one that is staged."""
    (made / "committed.env").write_text(f"KEY={KEY}")
    (made / "gone.txt").write_text("is not there any more")
    git(made, "add", ".")
    git(made, "commit", "-qm", "add")
    (made / "staged.env").write_text(f"KEY={KEY}")
    git(made, "add", ".")
    return made


def found(path: Path, *words: str) -> None:
    """The real command finds the key, whatever else it says."""
    done = run("scan", "--offline", str(path), *words)
    assert done.returncode == 1, done.stderr.decode()


def settings(values: dict[str, str]) -> str:
    """As they stand in a configuration, each of these names with a placeholder filled in."""
    text = ""
    for name, value in values.items():
        section, _, rest = re.sub("<[^>]+>", "x", name).partition(".")
        inner, _, key = rest.rpartition(".")
        text += f'[{section} "{inner}"]' if inner else f"[{section}]"
        text += f"\n\t{key} = {value}\n"
    return text


def configure(kept: Path, values: dict[str, str]) -> None:
    with (kept / "config").open("a") as config:
        config.write(settings(values))


def test_git_itself_springs_the_trap(planted: Path, trap: Trap) -> None:
    configure(planted / ".git", {"core.fsmonitor": str(trap.program)})
    subprocess.run(["git", "-C", planted, "diff", "--cached"], capture_output=True, check=True)
    assert trap.sprung()
    lazy(planted, trap, "ssh")
    subprocess.run(["git", "-C", planted, "cat-file", "-p", "HEAD:gone.txt"], capture_output=True, check=False)
    assert trap.sprung()


@pytest.mark.parametrize("words", WAYS)
def test_no_program_that_its_configuration_names_is_run(planted: Path, trap: Trap, words: tuple[str, ...]) -> None:
    kept = planted / ".git"
    included = planted / "included"
    included.write_text(settings({name: str(trap.program) for name in PROGRAMS}))
    configure(
        kept,
        dict.fromkeys(PROGRAMS, str(trap.program))
        | {"alias.diff": f"!{trap.program}", "include.path": str(included), "includeIf.gitdir:/.path": str(included)}
        | {"core.attributesFile": str(planted / ".gitattributes"), "core.worktree": "/", "protocol.allow": "always"}
        | {"extensions.worktreeConfig": "true"},
    )
    (kept / "config.worktree").write_text(included.read_text())
    for attributes in (planted / ".gitattributes", kept / "info" / "attributes"):
        attributes.parent.mkdir(exist_ok=True)
        attributes.write_text("* filter=x diff=x merge=x textconv\n")
    for hook in ("post-index-change", "pre-commit", "fsmonitor-watchman", "post-checkout", "reference-transaction"):
        (kept / "hooks" / hook).symlink_to(trap.program)
    found(planted, *words)
    assert not trap.sprung()


def id_of(planted: Path, name: str) -> str:
    path = object_of(planted, name)
    return path.parent.name + path.name


def lazy(planted: Path, trap: Trap, by: str) -> None:
    """Make it a partial clone that lacks a file, which git would fetch in this way."""
    object_of(planted, "HEAD:gone.txt").unlink()
    urls = {"ssh": "ssh://127.0.0.1/x", "ext": f"ext::{trap.program}", "http": trap.url, "file": str(planted)}
    (planted / ".git" / "config").write_text(
        settings(
            {"core.repositoryformatversion": "1", "core.sshCommand": str(trap.program), "protocol.ext.allow": "always"}
            | {"extensions.partialClone": "origin", "remote.origin.promisor": "true", "remote.origin.url": urls[by]}
            | {"remote.origin.uploadpack": str(trap.program)}
        )
    )


@pytest.mark.parametrize("words", WAYS)
@pytest.mark.parametrize("by", ["ssh", "ext", "http", "file"])
def test_what_is_missing_is_not_fetched(planted: Path, trap: Trap, words: tuple[str, ...], by: str) -> None:
    lazy(planted, trap, by)
    found(planted, *words)
    assert not trap.sprung()


@pytest.mark.parametrize("words", WAYS)
def test_a_repository_among_the_files_of_another_runs_nothing(
    planted: Path, trap: Trap, tmp_path_factory: pytest.TempPathFactory, words: tuple[str, ...]
) -> None:
    docs = tmp_path_factory.mktemp("clone") / "docs"
    git(planted, "clone", "-q", "--bare", str(planted), str(docs))
    configure(docs, {"core.fsmonitor": str(trap.program), "core.bare": "false", "core.worktree": ".."})
    (docs / "note.txt").write_text(KEY)
    (docs / "index").write_bytes((planted / ".git" / "index").read_bytes())
    object_ = object_of(planted, ":staged.env")
    into = docs / "objects" / object_.parent.name
    into.mkdir(exist_ok=True)
    (into / object_.name).write_bytes(object_.read_bytes())
    found(docs, *words)
    assert not trap.sprung()


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another repository of whoever scans, with the key in it."""
    folder = tmp_path_factory.mktemp("private")
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.env").write_text(f"KEY={KEY}")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "add")
    return folder


OUT = {
    "file": 'mv .git aside; echo "gitdir: $there" > .git',
    "link": 'mv .git aside; ln -s "$there" .git',
    "commondir": 'echo "$there" > .git/commondir',
    "alternates": 'echo "$there/objects" > .git/objects/info/alternates',
    "objects": 'mv .git/objects aside; ln -s "$there/objects" .git/objects',
    "pack": 'rmdir .git/objects/pack; ln -s "$there/objects/pack" .git/objects/pack',
    "fan": 'ln -s "$there/objects/$fan" .git/objects/$fan',
    "object": 'mkdir .git/objects/$fan; ln -s "$there/objects/$fan/$rest" .git/objects/$fan/$rest',
    "index": 'rm -f .git/index; ln -s "$there/index" .git/index',
}


@pytest.mark.parametrize("words", WAYS[1:])
@pytest.mark.parametrize("way", OUT)
def test_what_leads_out_of_it_is_not_followed_and_said(
    made: Path,  # noqa: F811 - the fixture
    private: Path,
    way: str,
    words: tuple[str, ...],
) -> None:
    git(made, "commit", "-qm", "empty", "--allow-empty")
    wanted = id_of(private, "HEAD:a.env")
    values = {"there": str(private / ".git"), "fan": wanted[:2], "rest": wanted[2:], "PATH": os.environ["PATH"]}
    subprocess.run(["sh", "-ec", OUT[way]], cwd=made, env=values, check=True)
    assert "skipped " in told(str(made), *words)


def test_borrowed_objects_are_read_where_whoever_scans_names_them(
    made: Path,  # noqa: F811 - the fixture
    private: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    git(made, "clone", "-q", "--shared", "--no-checkout", str(private), "clone")
    clone = made / "clone"
    (clone / "b.env").write_text(KEY)
    git(clone, "add", "b.env")
    (found,) = scan(str(clone), "--history")
    assert found["where"].startswith(f"blob {id_of(clone, ':b.env')[:12]}")
    (clone / ".git" / "index").unlink()
    assert "names objects of other repositories" in told(str(clone), "--staged")
    git(clone, "add", "b.env")
    monkeypatch.chdir(clone)
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(private / ".git" / "objects"))
    assert [one["where"].split()[0] for one in scan(".", "--history")] == ["blob", "blob"]
    assert [one["where"] for one in scan(".", "--staged")] == ["b.env"]


def test_pipes_and_a_broken_configuration_stop_nothing(planted: Path) -> None:
    kept = planted / ".git"
    (kept / "config").write_text("[core\n")
    os.mkfifo(kept / "objects" / "pack" / "pack-1.idx")
    os.mkfifo(kept / "packed-refs")
    (kept / "HEAD").write_text("ref: refs/heads/other\n")
    os.mkfifo(planted / ".gitmodules")
    for words in WAYS:
        done = run("scan", "--offline", str(planted), *words)
        assert done.returncode == 1
        assert b"skipped " in done.stderr


def test_an_object_that_unpacks_to_too_much_is_said(planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_OBJECT_MAX", 1_000)
    (planted / "large.txt").write_text("x" * 2_000)
    git(planted, "add", ".")
    said: list[tuple[str, str]] = []
    sources = [one.where for one in repository.history(planted, lambda *one: said.append(one))]
    assert any(where.endswith(" committed.env") for where in sources)
    assert [why for _, why in said] == ["unpacks to too much"]


def test_refs_that_are_no_text_leave_no_staged_file_out(planted: Path) -> None:
    kept = planted / ".git"
    (kept / "HEAD").write_text("ref: refs/heads/.invalid\n")
    (kept / "reftable").mkdir()
    assert sorted(one["where"] for one in scan(str(planted), "--staged")) == ["committed.env", "staged.env"]
    done = run("scan", "--offline", str(planted), "--history")
    assert b"whose names are not read" in done.stderr.replace(b"\n", b" ")


def test_an_index_in_two_parts_and_long_ids_are_read(made: Path, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: F811 - the fixture
    newer = tmp_path_factory.mktemp("newer")
    git(newer, "init", "-q", "--object-format=sha256")
    for folder in (made, newer):
        (folder / "a.txt").write_text("x")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "add")
        git(folder, "update-index", "--split-index")
        (folder / "b.env").write_text(KEY)
        git(folder, "add", ".")
        assert [one["where"] for one in scan(str(folder), "--staged")] == ["b.env"]
        assert [one["where"].split()[0] for one in scan(str(folder), "--history")] == ["blob"]


def test_the_hook_works_in_work_trees_and_submodules(
    made: Path,  # noqa: F811 - the fixture
    private: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With what git tells its hooks: ``commit -a`` and ``commit FILE`` stage into an index of their own."""
    (made / "a.txt").write_text("x")
    git(made, "add", ".")
    git(made, "commit", "-qm", "add")
    tree = tmp_path_factory.mktemp("trees") / "tree"
    git(made, "worktree", "add", "-q", str(tree))
    git(made, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(private), "sub")
    for hooks in (made / ".git" / "hooks", made / ".git" / "modules" / "sub" / "hooks"):
        hook = hooks / "pre-commit"
        hook.write_text(f"#!/bin/sh\nexec {sys.executable} -m broker scan --offline --staged\n")
        hook.chmod(stat.S_IRWXU)
    (tree / "a.txt").write_text("clean")
    git(tree, "commit", "-qam", "clean")
    for folder, name, words in (
        (tree, "a.txt", ("-a",)),
        (made, "a.txt", ("a.txt",)),
        (made / "sub", "a.env", ("-a",)),
    ):
        (folder / name).write_text(f"export KEY={KEY}")
        with pytest.raises(subprocess.CalledProcessError) as refused:
            git(folder, "commit", "-qm", "leak", *words)
        assert KEY.encode() not in refused.value.stderr
        assert b"raptor-comply" in refused.value.stdout + refused.value.stderr
        assert scan(str(folder), "--staged", status=0) == []
