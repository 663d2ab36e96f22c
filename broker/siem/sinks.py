"""Places that the record is pushed to, as the file that BROKER_SINKS names has them."""

from __future__ import annotations

import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from broker.base import closed
from broker.base.wording import wording
from broker.siem.export import Form

_LABEL: Final = r"^[a-z0-9][a-z0-9-]{0,40}$"


class SinksUnusable(Exception):
    """The file is wrong; the text names what, and the fix."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=_LABEL)]
    format: Form = "ocsf"

    def check(self) -> None:
        """Check what the file names; raises OSError, OpenToOthers or ValueError."""


class Https(_Declared):
    """A receiver of NDJSON over HTTPS; what 2xx answers is delivered.

    ``authorization_file`` holds the value of the header Authorization.  ``private`` says that its address may be
    within the network, and only such a one may be http:.
    """

    kind: Literal["https"]
    url: str
    authorization_file: Path | None = None
    ca_file: Path | None = None
    private: bool = False

    @model_validator(mode="after")
    def _an_address(self) -> Https:
        url = urlsplit(self.url)
        if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.fragment:
            raise ValueError("url: must be such as https://siem.vendor.example/ingest, without a password in it")
        if url.scheme == "http" and not self.private:
            raise ValueError("url: must be https:, as events name people")
        return self

    def check(self) -> None:
        """As above."""
        if self.authorization_file is not None:
            closed.check(self.authorization_file)
        tls_of(self.ca_file)


class Syslog(_Declared):
    """A receiver of syslog over TLS (RFC 5424, 5425).  ``private`` is as for HTTPS."""

    kind: Literal["syslog"]
    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)] = 6514
    ca_file: Path | None = None
    private: bool = False

    def check(self) -> None:
        """As above."""
        tls_of(self.ca_file)


class File(_Declared):
    """A file that lines are appended to; ``{date}`` in its name is the day (UTC)."""

    kind: Literal["file"]
    path: Path

    def check(self) -> None:
        """As above."""
        if not self.path.parent.is_dir():
            raise ValueError(f"path: {self.path.parent} is no folder; make it, for the user that the broker runs as")


Sink = Https | Syslog | File


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    sink: tuple[Annotated[Sink, Field(discriminator="kind")], ...]


def tls_of(ca_file: Path | None) -> ssl.SSLContext:
    """What vouches for a receiver: the public authorities, or that file's alone."""
    return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))


def load(file: Path | None) -> tuple[Sink, ...]:
    """The declared sinks; none without a file.

    Raises:
        SinksUnusable: names the file, what is wrong, and the fix.
    """
    if file is None:
        return ()
    try:
        sinks = _Document.model_validate(tomllib.loads(file.read_text(encoding="utf-8"))).sink
    except OSError as error:
        raise SinksUnusable(f"{file}: {error.strerror}; name a file that can be read") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SinksUnusable(f"{file}: is not TOML: {error}") from None
    except ValidationError as error:
        raise SinksUnusable(
            "\n".join(f"{file}: {_where(item['loc'])}{wording(item)}" for item in error.errors())
        ) from None
    names = [sink.name for sink in sinks]
    for sink in sinks:
        if names.count(sink.name) > 1:
            raise SinksUnusable(f"{file}: two sinks are called {sink.name}; give each its own name")
        try:
            sink.check()
        except OSError as error:
            raise SinksUnusable(
                f"{file}: {sink.name}: {error.filename or 'ca_file'}: {error.strerror or error}"
            ) from None
        except (closed.OpenToOthers, ValueError) as error:
            raise SinksUnusable(f"{file}: {sink.name}: {error}") from None
    return sinks


def _where(location: tuple[int | str, ...]) -> str:
    names = [f"number {part + 1}" if isinstance(part, int) else part for part in location[1:]]
    return "".join(f"{name}: " for name in names)
