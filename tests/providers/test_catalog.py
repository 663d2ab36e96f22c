"""Bundled definitions, and a directory whose files replace them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.base.errors import NotFound
from broker.providers import catalog
from tests.providers.files import RIGHT, changed

EXAMPLE = 'id = "example"'


def test_a_directory_adds_a_provider(tmp_path: Path) -> None:
    (tmp_path / "ours.toml").write_text(RIGHT)
    loaded = catalog.load(tmp_path)
    assert loaded.get("example").title == "Example"
    assert [definition.id for definition in loaded] == sorted(definition.id for definition in loaded)


def test_a_directory_replaces_a_bundled_provider_by_its_id_and_not_its_file_name(tmp_path: Path) -> None:
    (tmp_path / "anything.toml").write_text(changed((EXAMPLE, 'id = "github"')))
    (tmp_path / "stripe.toml").write_text(RIGHT)
    loaded = catalog.load(tmp_path)
    assert loaded.get("github").title == "Example"
    assert loaded.get("stripe").title == "Stripe"
    assert catalog.load().get("github").title == "GitHub", "the bundled one is as it was"


def test_two_files_of_one_directory_may_not_declare_the_same_provider(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(RIGHT)
    (tmp_path / "b.toml").write_text(RIGHT)
    with pytest.raises(catalog.ProviderInvalid, match=r"^b\.toml: id: 'example' is declared by a\.toml too"):
        catalog.load(tmp_path)


def test_faults_of_all_files_are_listed_together(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(changed(("version = 1", "version = 0")))
    (tmp_path / "b.toml").write_text("not toml")
    with pytest.raises(catalog.ProviderInvalid) as refused:
        catalog.load(tmp_path)
    assert [line.split(":")[0] for line in refused.value.public.splitlines()] == ["a.toml", "b.toml"]


def test_what_is_not_a_directory_is_refused_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(catalog.ProviderInvalid, match="BROKER_PROVIDERS_DIR"):
        catalog.load(tmp_path / "missing")


def test_the_files_of_the_guides_are_right(tmp_path: Path) -> None:
    guides = Path(__file__).parents[2] / "docs" / "how-to"
    declared, rotated = (
        "".join(re.findall(r"^```toml\n(.*?)^```", (guides / name).read_text(), re.MULTILINE | re.DOTALL))
        for name in ("declare-an-upstream.md", "rotate.md")
    )
    file = tmp_path / "gridlog.toml"
    for text in (declared, declared + rotated):
        file.write_text(text)
        assert catalog.check(file).id == "gridlog"
    assert catalog.check(file).rotate is not None


def test_an_unknown_provider_is_not_found() -> None:
    with pytest.raises(NotFound):
        catalog.load().get("no-such-provider")
