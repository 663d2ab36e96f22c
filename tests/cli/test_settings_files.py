"""Files that settings come from: those with secrets are nobody else's to read or write."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import SettingsUnusable, load

SECRETS = {
    "smtp_password": "p",
    "database_url": "postgresql://keybroker:p@database/keybroker",
    "master_keys": f"a:{'A' * 43}=",
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where mounted secrets are, of which there are none yet."""
    monkeypatch.setenv("BROKER_SECRETS_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("setting", SECRETS)
def test_a_settings_file_with_a_secret_in_it_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f'vendor_name = "Gridwise"\n{setting} = "{SECRETS[setting]}"\n')
    monkeypatch.setenv("BROKER_CONFIG", str(file))
    for mode in (0o644, 0o602):
        file.chmod(mode)
        with pytest.raises(SettingsUnusable, match=f"chmod (600|o-w) {file}"):
            load()
    file.chmod(0o600)
    assert load().vendor_name == "Gridwise"


def test_a_settings_file_without_secrets_is_everybodys_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "broker.toml"
    file.write_text('vendor_name = "Gridwise"\n')
    file.chmod(0o644)
    monkeypatch.setenv("BROKER_CONFIG", str(file))
    assert load().vendor_name == "Gridwise"


@pytest.mark.parametrize("setting", SECRETS)
def test_a_mounted_secret_is_closed_to_others(directory: Path, setting: str) -> None:
    version = directory / "..data"
    version.mkdir()
    (version / setting).write_text(SECRETS[setting])
    (directory / setting.upper()).symlink_to(version / setting)  # as Kubernetes does
    (version / setting).chmod(0o644)
    with pytest.raises(SettingsUnusable, match=f"{setting.upper()}: others can read it"):
        load()
    (version / setting).chmod(0o400)
    assert getattr(load(), setting) is not None


def test_what_is_no_secret_may_be_mounted_for_everybody(directory: Path) -> None:
    for name, content in (("vendor_name", "Gridwise"), ("openbao-ca.pem", "not a setting")):
        (directory / name).write_text(content)
        (directory / name).chmod(0o444)
    assert load().vendor_name == "Gridwise"


def test_the_private_key_for_the_database_is_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "client.key"
    key.write_text("pem")
    key.chmod(0o644)
    monkeypatch.setenv("BROKER_DATABASE_URL", f"postgresql://keybroker@database/keybroker?sslkey={key}")
    with pytest.raises(SettingsUnusable, match=f"BROKER_DATABASE_URL: sslkey: {key}: others can read it"):
        load()
    key.chmod(0o600)
    assert "sslkey" in load().database()
