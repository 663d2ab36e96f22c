"""Other languages than the shipped ones are files in a folder of the vendor's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser

from broker.web import texts
from tests.page.conftest import visiting
from tests.support.world import World

PAGE = "/intake/int_" + "0" * 32
FRENCH = """
[language]
name = "Français"

[form]
submit = "Sceller et envoyer </script><script>document.title='ran'</script>\u2028"

[check.too_short]
one = "il manque un caractère"
many = "il manque {count} de caractères"
other = "il manque {count} caractères"
"""


@pytest.fixture
def page_settings(tmp_path: Path) -> dict[str, Any]:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "fr.toml").write_text(FRENCH)
    (folder / "ar.toml").write_text('[language]\nname = "العربية"\ndirection = "rtl"\n')
    (folder / "en.toml").write_text('[form]\nhide = "Hide again"\n')
    return {"texts_dir": folder}


async def test_a_file_is_a_language_and_what_it_lacks_is_english(
    browser: Browser, page_world: tuple[World, str]
) -> None:
    async with visiting(browser, page_world, locale="fr-CA") as visit:
        await visit.world.organization("acme")
        await visit.open(await visit.world.request_key("acme"))
        assert await visit.page.get_attribute("html", "lang") == "fr"
        assert "Gridwise Compliance asks for" in await visit.title()
        # a text is a text, whatever is in it
        button = await visit.page.text_content("button[type=submit]")
        assert button == "Sceller et envoyer </script><script>document.title='ran'</script>\u2028"
        assert "asks for" in await visit.page.title()
        await visit.page.fill("#key", "rc_live_" + "a" * 63)
        assert await visit.page.inner_text("#key-verdict") == "il manque un caractère"
        await visit.page.fill("#key", "rc_live_" + "a" * 60)
        assert await visit.page.inner_text("#key-verdict") == "il manque 4 caractères"
        await visit.page.get_by_role("button", name="Show").click()
        assert await visit.page.query_selector("text=Hide again") is not None, "a text of a shipped file was changed"
        assert visit.complaints == []


async def test_a_language_may_be_written_from_right_to_left(page_world: tuple[World, str]) -> None:
    answer = await page_world[0].http.get(f"{PAGE}?lang=ar")
    assert '<html lang="ar" dir="rtl">' in answer.text


def test_a_region_is_served_by_its_language_and_a_language_by_a_region(tmp_path: Path) -> None:
    for tag in ("pt-BR", "fr"):
        (tmp_path / f"{tag}.toml").write_text(f'[language]\nname = "{tag}"\n')
    loaded = texts.load(tmp_path)
    for wanted, chosen in (("fr-CA", "fr"), ("pt", "pt-BR"), ("pt-PT", "pt-BR"), ("PT-br", "pt-BR"), ("nl-BE", "en")):
        assert loaded.choose(wanted, "").tag == chosen


async def test_what_is_missing_is_known_by_file_and_text(page_world: tuple[World, str]) -> None:
    missing = page_world[0].services.options.texts.missing
    french, arabic = sorted(missing, reverse=True)
    assert (Path(french).name, Path(arabic).name) == ("fr.toml", "ar.toml"), "a change of a whole one lacks nothing"
    assert "form.title" in missing[french]
    assert "form.submit" not in missing[french]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("fr.toml", "[form\n", "fr.toml is not TOML"),
        ("fr.toml", b"\xff\xfe", "fr.toml is not UTF-8"),
        ("fr.toml", '[form]\nsubmitt = "x"\n', "fr.toml: form.submitt: there is no such text; is it form.submit?"),
        ("fr.toml", '[form]\nsubmit = " "\n', "fr.toml: form.submit: it is empty"),
        ("fr.toml", "[form]\nsubmit = 7\n", "fr.toml: form.submit: it is no text"),
        (
            "fr.toml",
            '[form]\nopen_provider = "Ouvrir"\n',
            "fr.toml: form.open_provider: braces are for what is filled in",
        ),
        ("fr.toml", '[form]\nsubmit = "Envoyer {key}"\n', "fr.toml: form.submit: braces are for what is filled in"),
        ("fr.toml", '[form]\nsubmit = "Envoyer {"\n', "fr.toml: form.submit: braces are for what is filled in"),
        ("fr.toml", '[form.submit]\nfew = "x"\n', "fr.toml: form.submit.few: there is no such text"),
        ("fr.toml", '[form]\nhide = "Cacher"\n', "fr.toml: language.name: it is missing"),
        ("fr.toml", '[language]\nname = "F"\ndirection = "down"\n', "fr.toml: language.direction: it is ltr or rtl"),
        ("french.toml", "", "french.toml: the name is no language's"),
    ],
)
def test_a_broken_file_is_named_with_its_text(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(texts.TextsUnusable) as refused:
        texts.load(tmp_path)
    assert said in str(refused.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(texts.TextsUnusable, match="none can't be read"):
        texts.load(tmp_path / "none")
