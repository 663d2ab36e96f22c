"""``broker scan``: wherever a key of ours was put, it is found; and nothing that a stranger packed hurts."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


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
    done = command._scanned(str(tmp_path), False, False, None)
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
    assert sorted(Path(one["where"]).name for one in scan(str(tmp_path))) == ["….txt", "….txt"]
    done = run("scan", "--offline", str(tmp_path))
    assert number.encode() not in done.stdout


def test_a_finding_ends_with_one_none_with_zero_and_trouble_with_two(tmp_path: Path) -> None:
    (tmp_path / "clean").write_text("x")
    scan(str(tmp_path), status=0)
    nobody = {"PATH": "/usr/bin:/bin", "BROKER_URL": "http://127.0.0.1:1", "HOME": str(tmp_path)}
    done = run("scan", str(tmp_path), environment=nobody)
    assert done.returncode == 0, "nothing to ask about"
    (tmp_path / "k").write_text(KEY)
    done = run("scan", str(tmp_path), environment=nobody)
    assert done.returncode == 2
    assert b"operator token" in done.stderr


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
    assert [json.loads(line)["credential"] for line in done.stdout.splitlines()] == ["crd_0", "crd_1"]
    assert asked == ["/v1/credentials/crd_0/exposure", "/v1/credentials/crd_1/exposure"]
    assert "Version 1 of crd_0 is NOT cut off." in done.stderr


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
