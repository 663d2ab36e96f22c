"""``broker scan``: wherever a key of ours was put, it is found; and nothing that a stranger packed hurts."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import py_compile
import random
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import pytest
import typer
from typer.testing import CliRunner

from broker.cli import scan as command
from broker.leaks import sources
from tests.support.commands import run

KEY = "rc_live_" + "k9Zq" * 16


def scan(*words: str, given: bytes = b"", status: int = 1) -> list[dict[str, Any]]:
    """Offline findings of the real command; whatever it writes, it is not the key."""
    done = run("scan", "--offline", "--json", *words, given=given)
    assert done.returncode == status, done.stderr.decode()
    assert KEY.encode() not in done.stdout + done.stderr
    return list(json.loads(done.stdout or b"[]"))


def told(*words: str) -> str:
    """What the real command says where it finds nothing and could not read everything."""
    done = run("scan", "--offline", *words)
    assert done.returncode == 2, done.stdout.decode()
    assert KEY.encode() not in done.stdout + done.stderr
    return (done.stdout + done.stderr).decode()


def test_files_folders_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "settings.py").write_text(f'a = 1\nKEY = "{KEY}"\n')
    (tmp_path / "clean.txt").write_text("nothing here")
    (found,) = scan(str(tmp_path))
    assert found["where"].endswith("src/settings.py")
    assert (found["line"], found["column"], found["provider"], found["ours"]) == (2, 8, "raptor-comply", None)
    assert found["key"] == "rc_live_…k9Zq"
    assert [one["where"] for one in scan("-", given=f"log: {KEY}\n".encode())] == ["-"]
    assert scan(str(tmp_path / "clean.txt"), status=0) == []
    scan(str(tmp_path / "absent"), status=2)


def test_an_object_of_gits_by_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "object").write_bytes(zlib.compress(b"blob 80\0token=" + KEY.encode()))
    (tmp_path / "x.txt").write_text("x\x01 and x^2 are no archives")
    (found,) = scan(str(tmp_path))
    assert found["where"].endswith("/object")


def archives() -> dict[str, bytes]:
    """The key in every kind of archive, and in one inside another."""
    made = {}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("inner/a.txt", f"x {KEY}")
    made["a.zip"] = packed.getvalue()
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as tar:
            entry = tarfile.TarInfo("inner/a.txt")
            entry.size = len(KEY)
            tar.addfile(entry, io.BytesIO(KEY.encode()))
        made[f"a.tar.{mode[2:]}"] = packed.getvalue()
    made["app.log.gz"] = gzip.compress(KEY.encode())
    made["app.log.lzma"] = lzma.compress(KEY.encode(), format=lzma.FORMAT_ALONE)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("nested.tar.gz", made["a.tar.gz"])
    made["nested.zip"] = packed.getvalue()
    return made


@pytest.mark.parametrize("name", archives())
def test_archives_are_looked_into(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(archives()[name])
    (found,) = scan(str(tmp_path))
    assert found["where"].startswith(str(tmp_path / name))


def test_a_bomb_is_left_and_said_so_and_the_rest_is_scanned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sources, "_UNPACKED_MAX", 1_000_000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\0" * 50_000_000))
    (tmp_path / "z.txt").write_text(KEY)
    done = command.scanned(str(tmp_path), False, False, None)
    assert [Path(one.where).name for one in done.found] == ["z.txt"]
    assert "bomb.gz: unpacks to too much" in capfd.readouterr().err.replace("\n", "")


def test_what_is_packed_too_deep_is_said(tmp_path: Path) -> None:
    data = KEY.encode()
    for _ in range(4):
        data = gzip.compress(data)
    (tmp_path / "deep.gz").write_bytes(data)
    assert len(scan(str(tmp_path))) == 1
    (tmp_path / "deep.gz").write_bytes(gzip.compress(data))
    assert "deep.gz: is packed more than 4 deep" in told(str(tmp_path))


def test_links_that_lead_in_circles_and_broken_archives_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b and then nothing")
    (tmp_path / "a" / "k.txt").write_text(KEY)
    (found,) = scan(str(tmp_path))
    assert found["where"].endswith("a/k.txt")


def test_a_link_to_a_file_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "k.txt").write_text(KEY)
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "link").symlink_to(tmp_path / "outside" / "k.txt")
    (tmp_path / "repo" / "read").write_text(KEY)
    read = {one.where: one.stream.read() for one in sources.files(tmp_path / "repo", lambda *_: None)}
    assert [where for where, text in read.items() if KEY.encode() in text] == [str(tmp_path / "repo" / "read")]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("tarred", [False, True])
@pytest.mark.parametrize("noise", [300, 2_000_000])
def test_what_can_be_read_of_a_broken_archive_is_scanned(
    tmp_path: Path, pack: Callable[[bytes], bytes], tarred: bool, noise: int
) -> None:
    if noise == 300 and pack is bz2.compress:
        pytest.skip("it shows nothing of a block that is not whole")
    plain = io.BytesIO(KEY.encode() + b"\n" + random.Random(1).randbytes(noise))
    if tarred:
        content, plain = plain.getvalue(), io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for member, data in (("first.txt", KEY.encode()), ("rest.bin", content[len(KEY) :])):
                entry = tarfile.TarInfo(member)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    whole = pack(plain.getvalue())
    (tmp_path / "archive").write_bytes(whole[: len(whole) * 3 // 4])
    assert len(scan(str(tmp_path))) == 1


def test_a_member_that_can_not_be_read_hides_none_after_it(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name in ("a.txt", "b.txt"):
            file.writestr(name, KEY)
    # the first one says that it has a password: in its own header, and in the index
    data = bytearray(packed.getvalue())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    (found,) = scan(str(tmp_path))
    assert found["where"].endswith("a.zip!b.txt")


def test_where_nothing_was_found_but_not_all_was_read_the_scan_failed(tmp_path: Path) -> None:
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b and then nothing")
    said = told(str(tmp_path))
    assert "broken.gz: " in said
    assert "No key was found in what could be read." in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    assert "closed: PermissionError" in told(str(tmp_path))


def test_what_the_system_does_not_let_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "z.txt").write_text(KEY)

    def walk(path: Path, onerror: Any) -> Any:
        onerror(PermissionError(13, "no", str(path / "closed")))
        yield str(path), [], ["gone.txt", "z.txt"]

    monkeypatch.setattr(os, "walk", walk)
    skipped: list[tuple[str, str]] = []
    found = [source.where for source in sources.files(tmp_path, lambda where, why: skipped.append((where, why)))]
    assert found == [str(tmp_path / "z.txt")]
    assert skipped == [
        (str(tmp_path / "closed"), "PermissionError"),
        (str(tmp_path / "gone.txt"), "FileNotFoundError"),
    ]


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_log_of_two_bytes_a_character_is_read(tmp_path: Path, form: str) -> None:
    (tmp_path / "a.log").write_bytes(f"2026-01-01 a line before\r\ntoken={KEY}\r\n".encode(form))
    (found,) = scan(str(tmp_path))
    assert found["line"] == 2


def test_a_file_that_is_named_after_its_key_is_shown_without_it(tmp_path: Path) -> None:
    (tmp_path / f"{KEY}.txt").write_text(KEY)
    number = "0a1b2c3d" * 4
    (tmp_path / f"{number}.txt").write_text(f"datadog {number}")
    (tmp_path / f"{KEY}.gz").write_bytes(b"\x1f\x8b and then nothing")
    found = sorted((one["where"].startswith("the name of "), Path(one["where"]).name) for one in scan(str(tmp_path)))
    assert found == [(False, "….txt"), (False, "….txt"), (True, "….gz"), (True, "….txt")]
    done = run("scan", "--offline", str(tmp_path))
    assert number.encode() not in done.stdout


def test_a_key_in_every_line_of_a_log_is_one_finding_with_a_count(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(f"start\n{KEY}\n" + f"token={KEY}\n" * 2_999 + f"rc_live_{'7' * 64}\n")
    first, other = scan(str(tmp_path))
    assert (first["line"], first["count"]) == (2, 3_000)
    assert (other["line"], other["count"]) == (3_002, 1)


def asked(monkeypatch: pytest.MonkeyPatch, *words: str, ours: tuple[str, ...] = (KEY,)) -> list[dict[str, Any]]:
    """What the broker is asked in a scan; it knows these keys."""
    candidates: list[dict[str, Any]] = []
    known = {hashlib.sha256(key.encode()).hexdigest() for key in ours}

    def call(_method: str, _path: str, *, json: dict[str, Any]) -> dict[str, Any]:
        assert len(json["candidates"]) <= 200
        candidates.extend(json["candidates"])
        return {"items": [{"digest": one["digest"], "ours": one["digest"] in known} for one in json["candidates"]]}

    monkeypatch.setattr(command, "call", call)
    app = typer.Typer()
    app.command()(command.run)
    done = CliRunner().invoke(app, [*words, "--json"])
    assert [found["key"][-4:] for found in json.loads(done.stdout)] == [key[-4:] for key in ours]
    assert not [key for key in ours if key in done.output + json.dumps(candidates)]
    return candidates


def test_each_key_and_place_is_asked_about_once_with_its_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.log").write_text(f"{KEY}\n" * 3_000)
    (candidate,) = asked(monkeypatch, str(tmp_path))
    assert candidate["place"].endswith("a.log:1")
    assert candidate["count"] == 3_000


def test_where_a_key_ends_is_asked_for_every_length_that_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-" + "k9Zq" * 10
    for number in range(20):
        (tmp_path / f"{number}.db").write_bytes(b"\1admin" + key.encode() + b"ada\0")
    candidates = asked(monkeypatch, str(tmp_path), ours=(key,) * 20)
    assert len(candidates) < 200 + 20, "what isn't ours never again; what is, at every place"
    assert len({one["digest"] for one in candidates}) == len(key + "ada") - len("sk-" + "k" * 20) + 1
    assert scan(str(tmp_path), status=0) == [], "offline it is a part of another word"


def test_what_is_hardly_a_key_is_asked_about_but_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    number = "0a1b2c3d" * 4
    (tmp_path / f"ff{number}ff.css").write_text(f".task-list-of-everything-there-is datadog-ff{number}ff")
    assert scan(str(tmp_path), status=0) == []
    candidates = asked(monkeypatch, str(tmp_path), ours=(number,))
    assert number not in json.dumps(candidates)


def closed() -> dict[str, bytes]:
    """What can't be read here, and says so by its first bytes."""
    noise = random.Random(1).randbytes(300)
    return {
        "a.7z": b"7z\xbc\xaf\x27\x1c" + noise,
        "a.zst": b"\x28\xb5\x2f\xfd" + noise,
        "a.Z": b"\x1f\x9d\x90" + noise,
        "a.lz4": b"\x04\x22\x4d\x18" + noise,
        "a.rar": b"Rar!\x1a\x07\x01\x00" + noise,
        "a.pack": b"PACK\0\0\0\2" + noise,
        "a.bundle": b"# v2 git bundle\n" + noise,
        "a.psd": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
        "a.lzma": b"\x5d\0\0\x80\0" + noise,
        "cut.deb": b"!<arch>\n" + gzip.compress(noise)[:200],
        "cut.jar": b"#!/bin/sh\n" + archives()["a.zip"][:-30],
        "cut.object": zlib.compress(noise)[:200],
        "two.object": zlib.compress(noise) + noise,
    }


@pytest.mark.parametrize("name", closed())
def test_what_is_not_read_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(closed()[name])
    (tmp_path / "z.txt").write_text("clean")
    assert f"skipped {tmp_path / name}" in told(str(tmp_path))


def test_a_pipe_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: is no file" in told(str(tmp_path))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize(
    "before", [b"!<arch>\n", b"#!/bin/sh\nexit\n", b"x" * 1_048_570, b"x" * 3_000_000, b" \x1f\x8b\x08PK\3\4BZh"]
)
def test_an_archive_with_something_before_and_behind_it_is_found(
    tmp_path: Path, pack: Callable[[bytes], bytes], before: bytes
) -> None:
    noise = random.Random(1).randbytes(3_000)
    (tmp_path / "a").write_bytes(before + pack(noise) + b"debian" + pack(noise + KEY.encode()) + noise)
    (found,) = scan(str(tmp_path))
    assert found["where"].startswith(str(tmp_path / "a!"))


@pytest.mark.parametrize("before", [b"#!/bin/sh\nexec java -jar $0\n", b"\x7fELF" + b"\0" * 2_000_000])
@pytest.mark.parametrize("behind", [b"", b"a signature" * 9_000])
def test_a_zip_with_something_before_it_is_looked_into(tmp_path: Path, before: bytes, behind: bytes) -> None:
    (tmp_path / "a.jar").write_bytes(before + archives()["a.zip"] + behind)
    (found,) = scan(str(tmp_path))
    assert found["where"] == str(tmp_path / "a.jar!inner/a.txt")


def test_a_compiled_file_and_a_database_are_read(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(f'TOKEN = "{KEY}"\n')
    py_compile.compile(str(tmp_path / "m.py"), cfile=str(tmp_path / "m.pyc"))
    (tmp_path / "m.py").unlink()
    with closing(sqlite3.connect(tmp_path / "a.db")) as database, database:
        database.execute("create table t (a text, b text, c text)")
        database.execute("insert into t values ('admin', ?, 'owner')", [KEY])
    assert [Path(one["where"]).name for one in scan(str(tmp_path))] == ["a.db", "m.pyc"]


def test_names_of_files_folders_and_members_and_where_links_lead_are_read(tmp_path: Path) -> None:
    for kind in ("file", "folder", "link", "zip", "tar"):
        (tmp_path / kind).mkdir()
    (tmp_path / "file" / f"{KEY}.json").touch()
    (tmp_path / "folder" / KEY).mkdir()
    (tmp_path / "link" / "l").symlink_to(f"/nowhere?token={KEY}")
    with zipfile.ZipFile(tmp_path / "zip" / "a.zip", "w") as file:
        file.writestr(f"{KEY}.txt", "")
    with tarfile.open(tmp_path / "tar" / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("a")
        entry.type, entry.linkname = tarfile.SYMTYPE, KEY
        tar.addfile(entry)
    assert len(scan(str(tmp_path))) == 5
    assert len(scan(str(tmp_path / "file" / f"{KEY}.json"))) == 1, "given by itself"


def test_a_finding_ends_with_one_none_with_zero_and_trouble_with_two(tmp_path: Path) -> None:
    (tmp_path / "clean").write_text("x")
    scan(str(tmp_path), status=0)
    nobody = {"PATH": "/usr/bin:/bin", "BROKER_URL": "http://127.0.0.1:1", "HOME": str(tmp_path)}
    done = run("scan", str(tmp_path), environment=nobody)
    assert done.returncode == 0, "nothing to ask about"
    (tmp_path / "k").write_text(KEY)
    done = run("scan", str(tmp_path), environment=nobody)
    assert done.returncode == 2
    assert b"Nobody is signed in here" in done.stderr


def test_what_was_found_is_shown_and_the_rest_cut_off_although_one_key_could_not_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "k").write_text(f"{KEY}\nrc_live_{'7' * 64}\n")
    asked: list[str] = []

    def call(_method: str, path: str, *, json: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/leaks/check":
            digests = [one["digest"] for one in json["candidates"]]
            return {"items": [{"ours": True, "credential": f"crd_{n}", "version": 1} for n, _ in enumerate(digests)]}
        asked.append(path)
        if "crd_0" in path:
            raise typer.Exit(1)
        return {}

    monkeypatch.setattr(command, "call", call)
    app = typer.Typer()
    app.command()(command.run)
    done = CliRunner().invoke(app, [str(tmp_path), "--json", "--expose", "--yes"])
    assert done.exit_code == 2
    assert [found["credential"] for found in json.loads(done.stdout)] == ["crd_0", "crd_1"]
    assert asked == ["/v1/credentials/crd_0/exposure", "/v1/credentials/crd_1/exposure"]
    assert "Version 1 of crd_0 is NOT cut off." in done.stderr


@pytest.fixture
def exposing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[TextIO | None, str], tuple[int, list[str]]]:
    """A scan that cuts off what it finds, of a file with this name: how it ends, and what was asked of the broker."""

    def scanning(output: TextIO | None, name: str) -> tuple[int, list[str]]:
        asked: list[str] = []

        def call(_method: str, path: str, *, json: dict[str, Any]) -> dict[str, Any]:
            asked.append(path)
            match = {"ours": True, "credential": "crd_1", "version": 1, "digest": ""}
            return {"items": [match for _ in json["candidates"]]} if path == "/v1/leaks/check" else {}

        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(KEY)
        monkeypatch.setattr(command, "call", call)
        for stream in ("stdout", "stderr"):
            monkeypatch.setattr(sys, stream, output)
        with pytest.raises(typer.Exit) as ended:
            command.run(str(tmp_path), expose=True, yes=True)
        monkeypatch.undo()
        return ended.value.exit_code, asked

    return scanning


CUT_OFF = ["/v1/leaks/check", "/v1/credentials/crd_1/exposure"]
Exposing = Callable[[TextIO | None, str], tuple[int, list[str]]]


@pytest.mark.parametrize(
    "name", ["a[/]x].txt", "a\\[/x].txt", "[bold", "\x1b[31m", "\u202e", "\udcff", "x" * 255, "[/red]/\n"]
)
def test_no_name_keeps_a_key_from_being_cut_off_and_shown(exposing: Exposing, name: str) -> None:
    with io.TextIOWrapper(io.BytesIO(), "ascii") as output:
        assert exposing(output, name) == (1, CUT_OFF)
        output.seek(0)
        said = output.read()
    assert "rc_live_" in said
    assert "crd_1 is cut off" in said


def test_what_could_not_be_shown_was_cut_off_and_the_end_says_so(exposing: Exposing) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed, Path("/dev/full").open("w") as full:
        for output in (closed, full, None):
            assert exposing(output, "k.txt") == (2, CUT_OFF)


def test_a_scan_that_nobody_reads_to_its_end_says_so(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(KEY)
    said = [sys.executable, "-m", "broker", "scan", "--offline", "--json", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(said, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (2, b"")


def test_nobody_to_ask_leaves_keys_and_shows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "k").write_text(KEY)
    match = {"ours": True, "credential": "crd_1", "version": 1, "digest": ""}
    monkeypatch.setattr(command, "call", lambda *_words, **_body: {"items": [match]})
    app = typer.Typer()
    app.command()(command.run)
    done = CliRunner().invoke(app, [str(tmp_path), "--expose"], input="")
    assert done.exit_code == 1
    assert "crd_1" in done.stdout


def test_a_flood_of_candidates_and_of_names_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_KEPT_MAX", 100)
    (tmp_path / "a").write_text("\n".join(f"rc_live_{number:064d}" for number in range(1_000)))
    (tmp_path / "b").write_text(KEY)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        file.writestr("rc_live_" * 8_000 + "/x.txt", KEY)
    done = command.scanned(str(tmp_path), False, False, None)
    assert not done.whole
    assert len(done.found) == 50 + 2
    assert max(len(one.where) for one in done.found) < 4_096


def test_the_scanner_needs_nothing_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(KEY)
    script = (
        "import sys\n"
        "for name in ('sqlalchemy', 'fastapi', 'aiohttp', 'structlog'): sys.modules[name] = None\n"
        "sys.argv = ['broker', 'scan', '--offline', sys.argv[1]]\n"
        "from broker.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, check=False)
    assert done.returncode == 1, done.stderr.decode()
    assert b"raptor-comply" in done.stdout
