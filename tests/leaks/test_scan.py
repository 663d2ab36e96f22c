"""``broker scan``: wherever a key of ours was put, it is found; and nothing that a stranger packed hurts."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from broker.cli import scan as command
from broker.leaks import sources

KEY = "rc_live_" + "k9Zq" * 16


def scan(*words: str, given: bytes | None = None, status: int = 1) -> list[dict[str, Any]]:
    """Offline findings of the real command; whatever it writes, it is not the key."""
    done = subprocess.run(
        [sys.executable, "-m", "broker", "scan", "--offline", "--json", *words],
        input=given,
        capture_output=True,
        check=False,
    )
    assert done.returncode == status, done.stderr.decode()
    assert KEY.encode() not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.decode().splitlines()]


def git(repository: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@x.example", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, "-C", str(repository), *words], check=True, capture_output=True)


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


def test_a_deleted_file_and_a_commit_message_are_found_in_the_history(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "a.env").write_text(f"KEY={KEY}")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "add")
    (tmp_path / "a.env").unlink()
    git(tmp_path, "commit", "-qam", f"remove {KEY}")
    assert scan(str(tmp_path), status=0) == []
    found = sorted(one["where"] for one in scan(str(tmp_path), "--history"))
    assert [where.split()[0] for where in found] == ["blob", "commit"]
    assert found[0].endswith(" a.env")
    scan(str(tmp_path / ".."), "--history", status=2)


def test_what_is_about_to_be_committed_is_refused(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "räksmörgås.env").write_text(f"KEY={KEY}")
    assert scan(str(tmp_path), "--staged", status=0) == [], "not staged yet"
    git(tmp_path, "add", ".")
    (tmp_path / "räksmörgås.env").write_text("clean again, but not staged")
    (found,) = scan(str(tmp_path), "--staged")
    assert found["where"] == "räksmörgås.env"


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
    found = command._scanned(str(tmp_path), False, False, None)
    assert [Path(one.where).name for one in found] == ["z.txt"]
    assert "bomb.gz: unpacks to too much" in capfd.readouterr().err.replace("\n", "")


def test_links_that_lead_in_circles_and_broken_archives_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b and then nothing")
    (tmp_path / "a" / "k.txt").write_text(KEY)
    (found,) = scan(str(tmp_path))
    assert found["where"].endswith("a/k.txt")


def test_a_finding_ends_with_one_none_with_zero_and_trouble_with_two(tmp_path: Path) -> None:
    (tmp_path / "clean").write_text("x")
    scan(str(tmp_path), status=0)
    done = subprocess.run(
        [sys.executable, "-m", "broker", "scan", str(tmp_path)],
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "BROKER_URL": "http://127.0.0.1:1", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, "nothing to ask about"
    (tmp_path / "k").write_text(KEY)
    done = subprocess.run(
        [sys.executable, "-m", "broker", "scan", str(tmp_path)],
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "BROKER_URL": "http://127.0.0.1:1", "HOME": str(tmp_path)},
    )
    assert done.returncode == 2
    assert b"operator token" in done.stderr


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
