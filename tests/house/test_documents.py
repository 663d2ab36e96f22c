"""What the documents promise is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^    )make ([a-z]+)", (ROOT / "README.md").read_text(), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_command_of_the_readme_exists() -> None:
    from typer.main import get_command

    from broker.cli import build

    commands = get_command(build([])).commands  # type: ignore[attr-defined]
    for group, command in set(re.findall(r"\bbroker ([a-z]+)(?: ([a-z-]+))?", (ROOT / "README.md").read_text())):
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
