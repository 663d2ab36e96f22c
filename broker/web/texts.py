"""What the customer's pages say, in every language that there is a file of.

Files are TOML, named for their language (``de.toml``, ``pt-BR.toml``).  ``pages/texts/en.toml`` is the reference: it
says what the texts are called, and what is filled into them.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

_SHIPPED = Path(__file__).parent / "pages" / "texts"
_REFERENCE = "en"
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_PLACE = re.compile(r"\{(\w+)\}")
_FORMS = frozenset({"zero", "one", "two", "few", "many", "other"})
_DIRECTIONS = frozenset({"ltr", "rtl"})

# By dotted name: {"form.submit": "Seal and submit"}.
Words = Mapping[str, str]


class TextsUnusable(Exception):
    """A file of texts is broken; the message names the file, the text and the fix."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language of the pages: its tag, as in ``lang``, and every text."""

    tag: str
    words: Words

    @property
    def name(self) -> str:
        """What it is called by those who speak it."""
        return self.words["language.name"]

    @property
    def direction(self) -> str:
        """Which way it is written: ``ltr`` or ``rtl``."""
        return self.words["language.direction"]


@dataclass(frozen=True, slots=True)
class Texts:
    """All languages by their tags.  ``missing`` has, for each file, what it leaves to English."""

    languages: Mapping[str, Language]
    missing: Mapping[str, tuple[str, ...]]

    def choose(self, wanted: str, accepted: str) -> Language:
        """The language of the tag ``wanted``, else the one that the reader likes best.

        ``accepted`` is their ``Accept-Language`` (RFC 9110 §12.5.4).
        """
        for tag in (wanted, *_ranked(accepted)):
            if (found := self._nearest(tag)) is not None:
                return found
        return self.languages[_REFERENCE]

    def _nearest(self, tag: str) -> Language | None:
        # "de-AT" is served by "de", and "pt" by "pt-BR" if there is no nearer one.
        parts = tag.lower().split("-")
        known = {one.lower(): language for one, language in self.languages.items()}
        for end in range(len(parts), 0, -1):
            if (found := known.get("-".join(parts[:end]))) is not None:
                return found
        return next((language for one, language in known.items() if one.split("-")[0] == parts[0]), None)


def load(folder: Path | None = None) -> Texts:
    """The shipped languages, and those of ``folder``.

    A file there may also change single texts of a shipped language.

    Raises:
        TextsUnusable: a file can't be read, or a text in it is unknown, empty, or filled in otherwise than in English.
    """
    english = _flat(_SHIPPED / "en.toml", _read(_SHIPPED / "en.toml"))
    files = [*_files(_SHIPPED), *(_files(folder) if folder else ())]
    given = [(file, _checked(file, english)) for file in files]
    fallback: dict[str, str] = {}
    for file, words in given:
        if file.stem == _REFERENCE:
            fallback |= words
    languages, missing = {}, {}
    for tag in dict.fromkeys(file.stem for file in files):
        own: dict[str, str] = {}
        for file, words in given:
            if file.stem == tag:
                own |= words
                last = file
        if "language.name" not in own:
            raise TextsUnusable(f"{last}: language.name: it is missing; write there what its speakers call it.")
        languages[tag] = Language(tag, {**fallback, **own})
        if lacking := tuple(name for name in english if name not in own and not _is_form(name, english)):
            missing[str(last)] = lacking
    return Texts(languages, missing)


def _files(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(file for file in folder.iterdir() if file.suffix == ".toml")
    except OSError as error:
        raise TextsUnusable(
            f"{folder} can't be read ({error.strerror}); name a folder of files such as fr.toml."
        ) from None
    for file in found:
        if not _LANGUAGE.fullmatch(file.stem):
            raise TextsUnusable(f"{file}: the name is no language's; call it fr.toml, or pt-BR.toml.")
        yield file


def _checked(file: Path, english: Words) -> dict[str, str]:
    words = _flat(file, _read(file))
    for name, text in words.items():
        like = name if name in english else _other(name)
        if like not in english or (like != name and not _is_form(name, english)):
            near = get_close_matches(name, english, 1)
            hint = f"; is it {near[0]}?" if near else "; en.toml has those that there are."
            raise TextsUnusable(f"{file}: {name}: there is no such text{hint}")
        if not text.strip():
            raise TextsUnusable(f"{file}: {name}: it is empty; leave it out to have the English one shown.")
        _check_places(file, name, text, english[like])
    if words.get("language.direction", "ltr") not in _DIRECTIONS:
        raise TextsUnusable(f"{file}: language.direction: it is ltr or rtl.")
    return words


def _check_places(file: Path, name: str, text: str, english: str) -> None:
    has, wants = set(_PLACE.findall(text)), set(_PLACE.findall(english))
    if name.rpartition(".")[2] in _FORMS - {"other"}:  # "one character" needn't say 1
        has.add("count")
    if has != wants or _PLACE.sub("", text).strip("{}") != _PLACE.sub("", text):
        braces = ", ".join(f"{{{one}}}" for one in sorted(wants)) or "nothing"
        raise TextsUnusable(f"{file}: {name}: braces are for what is filled in, as in English: {braces}.")


def _other(name: str) -> str:
    return f"{name.rpartition('.')[0]}.other"


def _is_form(name: str, english: Words) -> bool:
    """Whether a text is one of several by a count, other than the one that every language has."""
    return name.rpartition(".")[2] in _FORMS - {"other"} and _other(name) in english


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TextsUnusable(
            f"{file} can't be read ({error.strerror}); make it readable for the broker's user."
        ) from None
    except UnicodeDecodeError:
        raise TextsUnusable(f"{file} is not UTF-8 text; save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise TextsUnusable(f"{file} is not TOML: {error}.") from None


def _flat(file: Path, table: Mapping[str, Any], above: str = "") -> dict[str, str]:
    words: dict[str, str] = {}
    for key, value in table.items():
        name = f"{above}{key}"
        if isinstance(value, dict):
            words |= _flat(file, value, f"{name}.")
        elif isinstance(value, str):
            words[name] = value
        else:
            raise TextsUnusable(f"{file}: {name}: it is no text; put it in quotation marks.")
    return words


def _ranked(accepted: str) -> Iterable[str]:
    ranked: list[tuple[float, str]] = []
    for one in accepted.split(",")[:50]:
        tag, _, weight = one.strip().partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight else 1.0
        except ValueError:
            continue
        if quality > 0 and _LANGUAGE.fullmatch(tag.strip().lower()):
            ranked.append((quality, tag.strip()))
    return [tag for _, tag in sorted(ranked, key=lambda one: -one[0])]
