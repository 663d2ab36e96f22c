"""``broker scan`` of a repository: its whole history, what is about to be committed, and the hook for that."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from broker.leaks import repository
from broker.leaks.kept import GitFailed
from tests.leaks.test_scan import KEY, scan, told
from tests.support.commands import run


def git(repository: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@x.example", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", str(repository), *words], check=True, capture_output=True)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def test_a_deleted_file_and_a_commit_message_are_found_in_the_history(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "a.env").write_text(f"KEY={KEY}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "add")
    (tmp_path / "a.env").unlink()
    git(tmp_path, "commit", "-qam", f"remove {KEY}")
    assert scan(str(tmp_path), status=0) == []
    found = sorted(one["where"] for one in scan(str(tmp_path), "--history"))
    assert [where.split()[0] for where in found[-2:]] == ["blob", "commit"]
    assert found[-2].endswith(" a.env")
    assert {Path(where).name for where in found[:-2]} == {"COMMIT_EDITMSG", "HEAD", "main"}, (
        "what git kept of the message"
    )
    scan(str(tmp_path / ".."), "--history", status=2)


def test_what_is_about_to_be_committed_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "räksmörgås.env").write_text(f"KEY={KEY}")
    assert scan(str(tmp_path), "--staged", status=0) == [], "not staged yet"
    git(tmp_path, "add", ".")
    (tmp_path / "räksmörgås.env").write_text("clean again, but not staged")
    (found,) = scan(str(tmp_path), "--staged")
    assert found["where"] == "räksmörgås.env"


def test_the_rest_of_a_damaged_history_is_scanned(made: Path) -> None:
    (made / "a.env").write_text(f"KEY={KEY}")
    (made / "b.txt").write_text("damaged below")
    git(made, "add", ".")
    git(made, "commit", "-qm", "add")
    damaged = object_of(made, ":b.txt")
    damaged.chmod(0o644)
    damaged.write_bytes(b"nonsense")
    (found,) = scan(str(made), "--history")
    assert found["where"].endswith(" a.env")
    git(made, "rm", "-q", "--cached", "a.env")
    object_of(made, "HEAD:a.env").unlink()
    assert ": missing" in told(str(made), "--history")


def test_a_history_that_git_did_not_show_to_its_end_is_no_clean_one(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(made, "commit", "-qm", "empty", "--allow-empty")
    for script in ("printf 'abc blob 100\\nonly this'", "exit 128"):
        shim = made / "bin" / "git"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(f'#!/bin/sh\ncase "$*" in *cat-file*) {script};; esac\n')
        shim.chmod(0o755)
        monkeypatch.setenv("PATH", str(shim.parent), prepend=":")
        with pytest.raises(GitFailed, match="git ended"):
            list(repository.history(made, lambda _where, _why: None))
        assert "git ended" in told(str(made), "--history")


def test_a_submodule_does_not_stand_in_the_way(made: Path) -> None:
    git(made, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    assert scan(str(made), "--staged", status=0) == []
    (made / "a.env").write_text(KEY)
    git(made, "add", "a.env")
    (found,) = scan(str(made), "--staged")
    assert found["where"] == "a.env"


def test_a_submodule_is_no_part_of_what_is_read(made: Path) -> None:
    (made / ".gitmodules").write_text('[submodule "v"]\n\tpath = vendored\n\turl = ../v\n')
    git(made, "add", ".")
    git(made, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},vendored")
    git(made, "commit", "-qm", "vendor")
    assert "/vendored: is a submodule: another repository" in told(str(made), "--history")
    assert "/vendored: is a submodule that is not checked out" in told(str(made))
    (made / "vendored").mkdir()
    assert "/vendored: is a submodule that is not checked out" in told(str(made))
    (made / "vendored" / "a.env").write_text(KEY)
    assert len(scan(str(made))) == 1


def committed(repository_: Path) -> None:
    """Two commits, whose first one is of a file that the second one deletes."""
    (repository_ / "a.env").write_text("clean")
    git(repository_, "add", ".")
    git(repository_, "commit", "-qm", "first")
    git(repository_, "rm", "-q", "a.env")
    git(repository_, "commit", "-qm", "second")


def test_a_shallow_or_partial_clone_is_no_whole_history(made: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    committed(made)
    git(made, "config", "uploadpack.allowFilter", "true")
    there = tmp_path_factory.mktemp("clones")
    git(there, "clone", "-q", "--depth", "1", f"file://{made}", "shallow")
    assert "is a shallow clone" in told(str(there / "shallow"), "--history")
    git(there, "clone", "-q", "--filter", "blob:none", "--no-checkout", f"file://{made}", "partial")
    assert "is a partial clone" in told(str(there / "partial"), "--history")
    git(there, "clone", "-q", f"file://{made}", "whole")
    assert scan(str(there / "whole"), "--history", status=0) == []


def test_a_bare_repository_or_a_bundle_among_files_is_looked_into_or_said(
    made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    committed(made)
    there = tmp_path_factory.mktemp("copies")
    git(made, "bundle", "create", str(there / "a.bundle"), "main")
    assert "a.bundle: is a Git bundle" in told(str(there))
    (there / "a.bundle").unlink()
    git(there, "clone", "-q", "--bare", f"file://{made}", "bare")
    git(there / "bare", "gc", "-q")
    assert ".pack: holds objects of Git" in told(str(there))
    assert scan(str(there / "bare"), "--history", status=0) == []
    (made / "b.env").write_text(KEY)
    git(made, "add", ".")
    git(there, "clone", "-q", "--bare", f"file://{made}", "loose")
    git(there / "loose", "hash-object", "-w", str(made / "b.env"))
    assert [one["where"].split("/")[-3] for one in scan(str(there / "loose"))] == ["objects"]


@pytest.mark.parametrize("words", [(), ("--history",)])
def test_what_git_keeps_beside_its_objects_is_read(made: Path, words: tuple[str, ...]) -> None:
    committed(made)
    git(made, "remote", "add", "origin", f"https://x:{KEY}@git.example/a/b.git")
    (found,) = scan(str(made), *words)
    assert found["where"].endswith(".git/config")
    git(made, "remote", "remove", "origin")
    git(made, "branch", f"try/{KEY}")
    git(made, "tag", KEY)
    git(made, "pack-refs", "--all")
    where = {one["where"].split(made.name)[-1] for one in scan(str(made), *words)}
    assert "/.git/packed-refs" in where


def test_names_and_tags_of_the_history_are_read(made: Path) -> None:
    (made / f"{KEY}.json").write_text("x")
    git(made, "add", ".")
    git(made, "commit", "-qm", "add")
    git(made, "rm", "-q", f"{KEY}.json")
    git(made, "commit", "-qm", "remove")
    (found,) = scan(str(made), "--history")
    assert found["where"].startswith("the name of tree ")
    git(made, "tag", "-a", "v1", "-m", f"released with {KEY}")
    assert sorted(one["where"].split()[0] for one in scan(str(made), "--history")) == ["tag", "the"]


def test_what_stands_in_the_place_of_an_object_does_not_hide_it(made: Path) -> None:
    (made / "a.env").write_text(KEY)
    git(made, "add", ".")
    (made / "b.env").write_text("clean")
    git(made, "add", ".")
    git(made, "commit", "-qm", "add")
    git(made, "replace", ":a.env", ":b.env")
    assert any(one["where"].startswith("blob ") for one in scan(str(made), "--history"))


@pytest.mark.parametrize("words", [("--history",), ("--staged",)])
def test_a_file_of_git_lfs_is_read_where_it_is_and_said_where_it_is_not(made: Path, words: tuple[str, ...]) -> None:
    oid = hashlib.sha256(KEY.encode()).hexdigest()
    (made / "a.psd").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 72\n")
    git(made, "add", ".")
    assert "a.psd: is a pointer of Git LFS" in told(str(made), "--staged")
    assert "is a pointer of Git LFS" in told(str(made), "--history")
    stored = made / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
    stored.parent.mkdir(parents=True)
    stored.write_text(KEY)
    (found,) = scan(str(made), *words)
    assert found["where"].startswith("blob " if words == ("--history",) else "a.psd")


def test_what_was_a_link_and_is_now_a_file_is_looked_at(made: Path) -> None:
    (made / "a.env").symlink_to("elsewhere")
    git(made, "add", ".")
    git(made, "commit", "-qm", "a link")
    (made / "a.env").unlink()
    (made / "a.env").write_text(KEY)
    git(made, "add", ".")
    (found,) = scan(str(made), "--staged")
    assert found["where"] == "a.env"


def test_a_renamed_file_and_a_folder_below_hide_nothing(made: Path) -> None:
    (made / "below").mkdir()
    (made / "a.env").write_text("x\n" * 50)
    git(made, "add", ".")
    git(made, "commit", "-qm", "clean")
    git(made, "config", "diff.relative", "true")
    git(made, "mv", "a.env", "b.env")
    (made / "b.env").write_text("x\n" * 50 + KEY)
    git(made, "add", ".")
    (found,) = scan(str(made / "below"), "--staged")
    assert found["where"] == "b.env"


def test_the_hook_refuses_a_commit_that_holds_a_key(made: Path) -> None:
    (hook,) = yaml.safe_load((Path(__file__).parents[2] / ".pre-commit-hooks.yaml").read_text())
    command, *words = shlex.split(hook["entry"])
    assert (command, hook["pass_filenames"]) == ("deploy/pre-commit.sh", False), "which is `broker`, from pins"

    def hooked() -> int:
        done = run(*words, directory=made)
        assert KEY.encode() not in done.stdout + done.stderr
        return done.returncode

    (made / "clean.txt").write_text("nothing")
    git(made, "add", ".")
    assert hooked() == 0
    (made / "config.env").write_text(f"KEY={KEY}")
    assert hooked() == 0, "not staged"
    git(made, "add", ".")
    assert hooked() == 1


def object_of(repository_: Path, name: str) -> Path:
    """Where git keeps an object."""
    done = subprocess.run(
        ["git", "-C", str(repository_), "rev-parse", name], capture_output=True, check=True, text=True
    )
    return repository_ / ".git" / "objects" / done.stdout[:2] / done.stdout[2:].strip()
