"""The issuers whose tokens jobs may bring, as files have them.

Some come with the broker, others are one's own.

A file says who signs, where the keys are, and for whom a token has to be.  What a trust has to bind is the preset's.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.base.wording import wording
from broker.issuers import declared
from broker.issuers.declared import Declared
from broker.issuers.presets import PRESETS
from broker.issuers.presets.model import Preset
from broker.issuers.published import FAMILIES, SVID
from broker.providers import authority

_BUNDLED: Final = Path(__file__).parent / "definitions"
_ID: Final = r"^[a-z0-9][a-z0-9-]{0,40}$"
SPIFFE: Final = "spiffe"
_TRUST_DOMAIN: Final = re.compile(r"spiffe://[a-z0-9._-]{1,255}")
Text = Annotated[str, Field(min_length=1, max_length=500)]


class IssuersUnusable(Exception):
    """Files of issuers are wrong; the text names file, field and fix, a line each."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Keys(_Part):
    """Where an issuer's keys are: it says so itself, or they are at ``url``, or in ``file``."""

    source: Literal["discovery", "url", "file"] = Field("discovery", alias="from")
    url: str = ""
    file: Path | None = None
    hosts: tuple[Text, ...] = ()
    private: bool = False
    ca_file: Path | None = None
    bearer_file: Path | None = None


class Tokens(_Part):
    """What a token has to be; what isn't set is the preset's.  Times are in seconds."""

    algorithms: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    lifetime_max: Annotated[int, Field(ge=60, le=604_800)] | None = None
    leeway: Annotated[int, Field(ge=0, le=300)] = 30
    replay: Literal["once", "reuse"] | None = None


class Required(_Part):
    """What a trust has to bind, beside what the preset says."""

    claims: tuple[Text, ...] = ()


class IssuerFile(_Part):
    """One issuer.

    With ``shared`` it signs for everybody on its platform, so strangers have tokens of it.
    """

    id: Annotated[str, Field(pattern=_ID)]
    version: Annotated[int, Field(ge=1)]
    preset: str
    issuer: Text
    audience: Annotated[str, Field(max_length=500)] = ""
    shared: bool = False
    keys: Keys = Keys()
    tokens: Tokens = Tokens()
    required: Required = Required()

    @property
    def kind(self) -> Preset:
        """Its platform."""
        return PRESETS[self.preset]

    @property
    def declared(self) -> Declared:
        """Who signs, for whoever fetches the keys."""
        tls = authority.read(self.keys.ca_file).tls if self.keys.ca_file else None
        return Declared(
            self.issuer,
            frozenset(self.keys.hosts),
            self.keys.private,
            tls,
            self.algorithms,
            keys_url=self.keys.url,
            keys_file=self.keys.file,
            bearer_file=self.keys.bearer_file,
            use=SVID if self.preset == SPIFFE else "sig",
        )

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What it may sign with."""
        return self.tokens.algorithms or self.kind.algorithms

    @property
    def lifetime_s(self) -> int:
        """How many seconds a token of it may last."""
        return self.tokens.lifetime_max or self.kind.lifetime_s

    @property
    def once(self) -> bool:
        """Whether each token is good for one exchange."""
        return self.kind.once if self.tokens.replay is None else self.tokens.replay == "once"

    def digest(self) -> str:
        """A short name of all that it says, which every broker that has the same file has, too.

        Files beside it count by their names, as folders differ between brokers.
        """
        said = self.model_dump(mode="json")
        beside = {field: Path(said["keys"][field] or "").name for field in ("file", "ca_file", "bearer_file")}
        return hashlib.sha256(json.dumps({**said, "keys": {**said["keys"], **beside}}).encode()).hexdigest()[:16]

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with it beyond its form: field and fix."""
        if self.preset not in PRESETS:
            yield "preset", f"is none of {', '.join(PRESETS)}"
            return
        yield from self._faults_of_source()
        if unknown := [one for one in self.algorithms if one not in FAMILIES]:
            yield "tokens: algorithms", f"{unknown[0]} is none of {', '.join(FAMILIES)}"
        if unknown := [one for one in self.required.claims if self.kind.claim(one) is None]:
            names = ", ".join(one.name for one in self.kind.claims)
            yield "required: claims", f"{unknown[0]} is none of {names}"
        try:
            _ = self.declared
        except (OSError, ValueError) as error:
            yield "keys: ca_file", getattr(error, "strerror", None) or str(error)

    def _faults_of_source(self) -> Iterator[tuple[str, str]]:
        keys = self.keys
        if self.preset == SPIFFE:
            if not _TRUST_DOMAIN.fullmatch(self.issuer):
                yield "issuer", "write the trust domain, such as spiffe://prod.vendor.example"
            if keys.source == "discovery":
                yield "keys: from", 'name where the bundle is: from = "url" or from = "file"'
        elif why := declared.fault(self.issuer, private=keys.private):
            yield "issuer", why
        if (keys.source == "url") != bool(keys.url) or (keys.source == "file") != (keys.file is not None):
            yield "keys: from", 'set url with from = "url", file with from = "file", and neither with "discovery"'
        elif keys.url and (why := declared.fault(keys.url, private=keys.private, query=True)):
            yield "keys: url", why
        if keys.bearer_file and keys.source == "file":
            yield "keys: bearer_file", "leave it out: nobody is asked for the keys"


class Issuers:
    """The declared issuers by id."""

    def __init__(self, files: Mapping[str, IssuerFile]) -> None:
        self._files = dict(sorted(files.items()))

    def get(self, issuer: str) -> IssuerFile | None:
        """The one of that id."""
        return self._files.get(issuer)

    def __iter__(self) -> Iterator[IssuerFile]:
        return iter(self._files.values())


def load(extra: Path | None = None) -> Issuers:
    """The issuers that come with the broker, and those of the directory ``extra``.

    The latter replace those of the same id, if they are of the same issuer.

    Raises:
        IssuersUnusable: lists every fault of every file.
    """
    if extra is not None and not extra.is_dir():
        raise IssuersUnusable(f"{extra}: is not a directory; BROKER_ISSUERS_DIR must name one.")
    bundled, wrong = _read(_BUNDLED)
    own, faulty = _read(extra) if extra else ({}, [])
    wrong += faulty
    for file, one in own.items():
        wrong += [f"{file}: {fault}" for fault in _against(one, bundled.values(), own.values())]
    if wrong:
        raise IssuersUnusable("\n".join(wrong))
    return Issuers({one.id: one for one in (*bundled.values(), *own.values())})


def _against(one: IssuerFile, bundled: Collection[IssuerFile], own: Collection[IssuerFile]) -> Iterator[str]:
    """What is wrong with a file beside the others."""
    for other in bundled:
        if one.issuer == other.issuer and one.preset != other.preset:
            yield f'preset: must be "{other.preset}" for this issuer, whose checks can\'t be left out'
        if one.issuer == other.issuer and other.shared and not one.shared:
            yield "shared: must be true for this issuer, which signs for everybody"
        if (one.id == other.id) != (one.issuer == other.issuer):
            yield f'id: "{other.id}" comes with the broker, for {other.issuer}; take another id, or the same for both'
    for field in ("id", "issuer"):
        if sum(getattr(one, field) == getattr(other, field) for other in own) > 1:
            yield f"{field}: two files have {getattr(one, field)}; leave one of them out"


def _read(directory: Path) -> tuple[dict[Path, IssuerFile], list[str]]:
    found, wrong = {}, []
    for file in sorted(directory.glob("*.toml")):
        one = parse(file)
        if isinstance(one, IssuerFile):
            found[file] = one
        else:
            wrong += one
    return found, wrong


def check(file: Path) -> IssuerFile:
    """One file, beside those that come with the broker; raises IssuersUnusable."""
    return _checked(file, parse(file))


def draft(text: str, file: Path) -> IssuerFile:
    """What is to be written to ``file``, checked as :func:`check` does; raises IssuersUnusable."""
    return _checked(file, _understood(text, file))


def _checked(file: Path, one: IssuerFile | list[str]) -> IssuerFile:
    if isinstance(one, IssuerFile):
        bundled, _ = _read(_BUNDLED)
        wrong = [f"{file}: {fault}" for fault in _against(one, bundled.values(), ())]
        if not wrong:
            return one
    else:
        wrong = one
    raise IssuersUnusable("\n".join(wrong))


def parse(file: Path) -> IssuerFile | list[str]:
    """One file, or all that is wrong with it: the file, the field and the fix, a line each."""
    try:
        return _understood(file.read_text(encoding="utf-8"), file)
    except OSError as error:
        return [f"{file}: {error.strerror}; name a file that can be read"]
    except UnicodeDecodeError as error:
        return [f"{file}: is not TOML: {error}"]


def _understood(text: str, file: Path) -> IssuerFile | list[str]:
    try:
        one = IssuerFile.model_validate(_beside(tomllib.loads(text), file.parent))
    except tomllib.TOMLDecodeError as error:
        return [f"{file}: is not TOML: {error}"]
    except ValidationError as error:
        return [f"{file}: {': '.join(map(str, item['loc'])) or 'file'}: {wording(item)}" for item in error.errors()]
    return [f"{file}: {field}: {fix}" for field, fix in one.faults()] or one


def _beside(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The document, whose files are named relative to its own folder."""
    keys = document.get("keys")
    for field in ("file", "ca_file", "bearer_file"):
        if isinstance(keys, dict) and isinstance(keys.get(field), str) and keys[field]:
            keys[field] = str(folder / keys[field])
    return document
