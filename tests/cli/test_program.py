"""The program itself, each kind of end once; and commands that tests run as copies of one process end like it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import MINIMAL, run

KEY = b"rc_live_" + b"k9Zq" * 16


@pytest.mark.parametrize(
    ("words", "environment", "status"),
    [
        (("scan", "here.toml", "--offline"), {}, 0),
        (("doctor",), {"BROKER_CONFIG": "here.toml"}, 0),
        (("scan", "-", "--offline"), {}, 1),
        (("org", "list"), {}, 1),
        (("serve",), {"BROKER_PORT": "x"}, 1),
        (("org", "list", "--nonsense"), {}, 2),
    ],
    ids=["output", "settings and directory", "input", "error", "setting", "usage"],
)
def test_the_program_ends_so_and_a_copy_like_it(
    tmp_path: Path, words: tuple[str, ...], environment: dict[str, str], status: int
) -> None:
    (tmp_path / "here.toml").write_text('vendor_name = "Gridwise"\n')
    whole = {**MINIMAL, "HOME": str(tmp_path), **environment}
    itself = subprocess.run(
        [sys.executable, "-m", "broker", *words],
        check=False,
        input=KEY,
        env=whole,
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    copy = run(*words, environment=whole, directory=tmp_path, given=KEY)
    assert itself.returncode == status, itself.stderr
    assert KEY not in itself.stdout + itself.stderr
    assert (copy.returncode, copy.stdout, copy.stderr) == (itself.returncode, itself.stdout, itself.stderr)
