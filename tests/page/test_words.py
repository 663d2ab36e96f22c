"""The texts of the customer's pages: whole in both languages, each used, and with one word for each act."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.web import texts

PAGES = Path(texts.__file__).parent / "pages"
SHIPPED = texts.load()
ENGLISH, GERMAN = (SHIPPED.languages[tag].words for tag in ("en", "de"))
# The pages that people at the vendor sign in with are in English alone.
_FOR_THE_VENDOR = {"asking.js", "login.js", "passkey.js"}
SCRIPT = "\n".join(
    file.read_text() for file in sorted((PAGES / "script/src").glob("*.js")) if file.name not in _FOR_THE_VENDOR
)
SHOWN = SCRIPT + (PAGES / "templates/page.html").read_text()
_FORM = re.compile(r"\.(?:zero|one|two|few|many|other)$")


def sentences(words: texts.Words) -> list[tuple[str, str]]:
    return [(name, one) for name, text in words.items() for one in re.split(r"(?<=[.:?;]) ", text)]


def used() -> list[str]:
    """What the page asks for, as patterns: a text's name may be put together."""
    quoted = re.findall(r'"((?:[a-z_0-9]+\.)+[a-z_0-9]+)"', SHOWN)
    composed = re.findall(r"`((?:[a-z_0-9]+\.)+(?:\$\{[^`}]*\}|[a-z_0-9.])*)`", SCRIPT)
    return [re.escape(one) for one in quoted] + [re.sub(r"\$\{[^`}]*\}", "[a-z_0-9]*", one) for one in composed]


def test_both_languages_are_whole() -> None:
    assert SHIPPED.missing == {}
    assert ENGLISH.keys() == GERMAN.keys()


@pytest.mark.parametrize("name", [name for name in ENGLISH if not _FORM.search(name)])
def test_what_is_filled_in_is_the_same_in_both_languages(name: str) -> None:
    places = [sorted(set(re.findall(r"\{(\w+)\}", words[name]))) for words in (ENGLISH, GERMAN)]
    assert places[0] == places[1]


def test_every_text_is_used_and_every_used_one_is_there() -> None:
    names = {_FORM.sub("", name) for name in ENGLISH}
    asked = used()
    assert len(asked) > 150
    own = {"language.name", "language.direction", "shell.intake_title", "shell.status_title"}
    assert {name for name in names - own if not any(re.fullmatch(one, name) for one in asked)} == set()
    assert {one for one in asked if not any(re.fullmatch(one, name) for name in names)} == set()


@pytest.mark.parametrize(
    ("words", "revoking", "withdrawing", "place"),
    [
        (ENGLISH, r"revok", r"withdr", r"\{provider\}|\bthere\b|where you created it|\bThe key is revoked\b"),
        (
            GERMAN,
            r"widerruf",
            r"zurück(?:zu)?(?:zieh|gezogen)|zieh\w* \w+ .*zurück",
            r"\{provider\}|\bdort\b|ist widerrufen$",
        ),
    ],
    ids=["English", "German"],
)
def test_a_key_is_withdrawn_here_and_revoked_where_it_was_made(
    words: texts.Words, revoking: str, withdrawing: str, place: str
) -> None:
    both = sentences(words)
    revoked = [(name, one) for name, one in both if re.search(revoking, one, re.IGNORECASE)]
    withdrawn = [(name, one) for name, one in both if re.search(withdrawing, one, re.IGNORECASE)]
    assert len(revoked) > 10
    assert len(withdrawn) > 4
    assert [one for one in revoked if not re.search(place, one[1])] == [], "revoking names where"
    assert [one for one in withdrawn if "{provider}" in one[1]] == [], "withdrawing is nothing of the provider's"


def test_neither_act_has_a_third_word() -> None:
    others = r"cut off|take (?:it|the key) back|taking (?:it|the key) back|invalidat|deactivat|disabl|delete the key"
    allowed = {"over.link_cut_off.title", "code.cut_off"}
    assert [
        one for one in sentences(ENGLISH) if re.search(others, one[1], re.IGNORECASE) and one[0] not in allowed
    ] == []
    assert [
        one for one in sentences(GERMAN) if re.search(r"sperr|deaktivier|ungültig machen", one[1], re.IGNORECASE)
    ] == []


@pytest.mark.parametrize("words", [ENGLISH, GERMAN], ids=["English", "German"])
def test_no_full_stop_follows_an_ellipsis(words: texts.Words) -> None:
    assert [name for name, text in words.items() if re.search(r"…\s*\.|\.…|\.\.", text)] == []
    # what is cut short by the page stands at the end of its text
    assert words["form.looks_like"].endswith("{example}")


def test_the_script_has_no_words_of_its_own() -> None:
    sentence = re.compile(r"[\"`>]([A-ZÄÖÜ][a-z’]+(?: [a-zA-Z’,]+){2,}[^\"`<]*)[\"`<]")
    code = "\n".join(line.split("//")[0] for line in SCRIPT.splitlines())
    assert sentence.findall(code) == []
    template = re.sub(r"\{[{%].*?[%}]\}", "", (PAGES / "templates/page.html").read_text())
    visible = re.sub(r"<[^>]*>", " ", template).split()
    assert visible == ["Keybroker"]
