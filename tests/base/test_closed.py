"""Files that hold secrets: made for their owner alone, and read only where nobody else has to do with them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from broker.base import closed

ROOT, SOMEBODY = 0, 12345


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    closed.create(path, b"the secret")
    return path


def owned(path: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ``path`` away, or, for want of the right, let it look so."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
        return
    found = path.stat()
    seen = os.stat_result([found.st_mode, 0, 0, 1, owner, owner, *found[6:10]])
    monkeypatch.setattr(os, "fstat", lambda _descriptor: seen)


@pytest.mark.parametrize(
    ("owner", "mode"),
    [(SOMEBODY, 0o600), (SOMEBODY, 0o400), (ROOT, 0o600), (ROOT, 0o400), (ROOT, 0o440), (ROOT, 0o640)],
)
def test_a_file_that_only_its_owner_or_roots_group_reads_is_taken(
    file: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(file, owner, mode, monkeypatch)
    assert closed.read(file) == b"the secret"


@pytest.mark.parametrize(
    ("owner", "mode"),
    [
        (SOMEBODY, 0o440),
        (SOMEBODY, 0o640),
        (ROOT, 0o444),
        (ROOT, 0o644),
        (ROOT, 0o404),
        (ROOT, 0o601),
        (ROOT, 0o602),
        (ROOT, 0o660),
        (ROOT, 0o620),
        (ROOT, 0o610),
    ],
)
def test_a_file_that_is_open_to_more_is_refused(
    file: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(file, owner, mode, monkeypatch)
    with pytest.raises(closed.OpenToOthers, match=rf"others can read it.*{mode:04o}.*chmod 600 {file}"):
        closed.read(file)


def test_a_mounted_secret_is_judged_by_the_file_behind_its_link(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.with_name("link")
    link.symlink_to(file)  # as Kubernetes does
    owned(file, ROOT, 0o440, monkeypatch)
    assert closed.read(link) == b"the secret"
    owned(file, ROOT, 0o444, monkeypatch)
    with pytest.raises(closed.OpenToOthers):
        closed.read(link)


@pytest.mark.parametrize("mask", [0, 0o777])
def test_what_is_made_is_its_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        closed.create(tmp_path / "made", b"1")
        closed.replace(tmp_path / "replaced", b"2")
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_what_is_replaced_keeps_neither_a_mode_nor_a_link_nor_a_leftover(tmp_path: Path) -> None:
    elsewhere, path, leftover = tmp_path / "elsewhere", tmp_path / "secret", tmp_path / "secret.new"
    elsewhere.write_bytes(b"another's")
    elsewhere.chmod(0o666)
    path.symlink_to(elsewhere)
    leftover.symlink_to(elsewhere)
    closed.replace(path, b"the secret")
    assert (closed.read(path), path.is_symlink(), leftover.is_symlink()) == (b"the secret", False, False)
    assert elsewhere.read_bytes() == b"another's"


def test_what_can_not_be_put_in_place_is_left_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    with pytest.raises(IsADirectoryError):
        closed.replace(tmp_path / "secret", b"the secret")
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_new_file_takes_no_place_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError):
        closed.create(tmp_path / "link", b"the secret")
    assert not (tmp_path / "nowhere").exists()
