"""Files of the customer's page: what is wrong with one is said at start, and by ``doctor``."""

from __future__ import annotations

from pathlib import Path

from tests.cli.test_commands import CliRunner
from tests.support.commands import MINIMAL


def test_doctor_names_a_file_of_texts_that_is_broken_or_lacks_some(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "fr.toml").write_text('[language]\nname = "Français"\n[form]\nsubmit = "Sceller"\n')
    shell = CliRunner({**MINIMAL, "BROKER_TEXTS_DIR": str(folder)}, tmp_path)
    whole, french = [row for row in shell.json("doctor") if row["part"] == "page texts"]
    assert (whole["state"], whole["what"]) == ("ok", "de, en, fr")
    assert french["state"] == "incomplete"
    assert "fr.toml has no" in french["what"]
    assert "form.title" in french["what"]
    (folder / "fr.toml").write_text('[form]\nsubmit = "Sceller {quoi}"\n')
    for command in ("doctor", "serve"):
        said = " ".join(shell.run(command, status=1).split())
        assert "BROKER_TEXTS_DIR" in said
        assert "fr.toml: form.submit: braces are for what is filled in" in said


def test_a_logo_that_can_not_be_shown_is_named_at_start(tmp_path: Path) -> None:
    (tmp_path / "logo.gif").write_bytes(b"GIF89a")
    shell = CliRunner({**MINIMAL, "BROKER_VENDOR_LOGO": str(tmp_path / "logo.gif")}, tmp_path)
    assert "a logo is an .svg, .png or .webp file" in " ".join(shell.run("serve", status=1).split())
