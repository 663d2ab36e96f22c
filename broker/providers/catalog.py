"""Load and check every provider file at start."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError

from broker.base.errors import BrokerError, NotFound
from broker.providers import faults
from broker.providers.authority import DIRECTORY
from broker.providers.definition import Definition
from broker.providers.recognition import masking

_BUNDLED = Path(__file__).parent / "definitions"


class ProviderInvalid(BrokerError):
    """A provider file is wrong; the text names file, field and fix, a line each."""

    code = "provider_invalid"
    title = "A provider file is not valid"


class UnknownProvider(NotFound):
    """No such upstream is declared."""

    code = "unknown_provider"


class Catalog:
    """The declared upstreams by id.

    ``masked`` gives a text without what looks like one of their keys.
    """

    def __init__(self, definitions: Mapping[str, Definition]) -> None:
        self._definitions = dict(sorted(definitions.items()))
        self.masked = masking(one.key.pattern for one in self)
        self._any_key = re.compile("|".join(f"(?:{one.key.pattern[1:-1]})" for one in self) or "(?!)")

    def get(self, provider: str) -> Definition:
        """The definition of that id; raises UnknownProvider."""
        if provider not in self._definitions:
            raise UnknownProvider("There is no such provider; `broker provider list` shows those that are declared.")
        return self._definitions[provider]

    def could_be_key(self, text: str) -> bool:
        """Whether ``text`` has the form of a declared provider's key.

        Also if part of it has a form that tells a key by itself.
        """
        return self._any_key.fullmatch(text) is not None or self.masked(text) != text

    def __iter__(self) -> Iterator[Definition]:
        return iter(self._definitions.values())


def load(extra: Path | None = None) -> Catalog:
    """The bundled definitions and those of the directory ``extra``.

    The latter replace bundled ones of the same id.

    Raises:
        ProviderInvalid: lists every fault of every file.
    """
    if extra is not None and not extra.is_dir():
        raise ProviderInvalid(f"{extra}: is not a directory; BROKER_PROVIDERS_DIR must name one.")
    definitions: dict[str, Definition] = {}
    wrong: list[str] = []
    for directory in (_BUNDLED, *([extra] if extra else [])):
        found, faulty = _read(directory)
        definitions |= found
        wrong += faulty
    if wrong:
        raise ProviderInvalid("\n".join(wrong))
    return Catalog(definitions)


def _read(directory: Path) -> tuple[dict[str, Definition], list[str]]:
    """The definitions of one directory by id, and what is wrong there."""
    definitions: dict[str, Definition] = {}
    files: dict[str, str] = {}
    wrong: list[str] = []
    for path in sorted(directory.glob("*.toml")):
        try:
            definition = check(path)
        except ProviderInvalid as error:
            wrong.append(error.public)
            continue
        if files.setdefault(definition.id, path.name) != path.name:
            wrong.append(
                f"{path.name}: id: {definition.id!r} is declared by {files[definition.id]} too; give each its own"
            )
        definitions[definition.id] = definition
    return definitions, wrong


def check(path: Path) -> Definition:
    """The definition in one file.

    Raises:
        ProviderInvalid: names file, field and fix, a line each.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        return Definition.model_validate(document, context={DIRECTORY: path.parent})
    except OSError as error:
        raise ProviderInvalid(f"{path.name}: {error.strerror}; name a file that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProviderInvalid(f"{path.name}: is not TOML: {error}") from None
    except ValidationError as error:
        raise ProviderInvalid("\n".join(faults.lines(path.name, error))) from None
