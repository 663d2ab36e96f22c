"""What the broker states of a key that is out of use here.

That is: its upstream refuses it, or takes it again.  It is the text of a signed note
(:mod:`broker.formats.signed_note`).  Statements of one version are numbered; each names the one before by its digest,
so none can be left out.

::

    text        = "keybroker death certificate v1\\n" line…            each line once, in this order
    line        = name ": " value "\\n"

    statement   = "dead" | "accepted-again"
    serial      = number                                               1 is the version's first
    supersedes  = "nothing" | digest                                   of the text of the serial before
    issued      = time " " event                                       the event whose subject is this text's digest
    organization, credential                                           ids
    provider    = its name
    version     = number
    fingerprint = hex                                                  as every event about the key has it
    commitment  = base64(salt[16] | scrypt(key, label | 0x00 | salt, N = 32768, r = 8, p = 1)[:32])
    ended       = time " " event " " kind [" " reason] | time " not-kept"
    last-use    = time " " event | "never" | "not-kept"                a call that the broker made with the key
    last-shown  = time " " event | "never" | "not-kept"                a lease that handed the key out
    refused     = status " " time " " event                            the first refusal since it was last accepted
    answered    = status " " time " " event                            the newest answer about the key
    material    = "sealed" | "destroyed " time " " event

    label       = "keybroker/key-commitment/v1"
    digest      = hex(SHA-256(text))
    time        = RFC 3339 in UTC, with milliseconds: 2026-11-24T16:00:01.234Z
    number      = decimal, without zeros before it
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from broker.formats import ids
from broker.formats.ids import AuditEventId, CredentialId, OrganizationId

TITLE: Final = "keybroker death certificate v1"
NEVER: Final = "never"
NOT_KEPT: Final = "not-kept"
_LABEL = b"keybroker/key-commitment/v1\x00"
_SALT_BYTES = 16
_COST = 2**15
_MEMORY_MOST = 2**26
_NAMES = (
    "statement",
    "serial",
    "supersedes",
    "issued",
    "organization",
    "credential",
    "provider",
    "version",
    "fingerprint",
    "commitment",
    "ended",
    "last-use",
    "last-shown",
    "refused",
    "answered",
    "material",
)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")
_STATUS = re.compile(r"[1-5][0-9]{2}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32}")
_PROVIDER = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_WORD = re.compile(r"[A-Za-z0-9_.,:/=+-]{1,200}")

Statement = Literal["dead", "accepted-again"]
# Nothing of it ever happened; or the record doesn't tell any more.
NoMoment = Literal["never", "not-kept"]


class NoCertificate(ValueError):
    """Not the text of a certificate."""


class Moment(NamedTuple):
    """When something happened, in milliseconds since the epoch, and the event that has it."""

    time: int
    event: AuditEventId

    def line(self) -> str:
        return f"{_written(self.time)} {self.event}"

    @classmethod
    def read(cls, value: str) -> Moment:
        time, _, event = value.partition(" ")
        if not ids.is_id(event, AuditEventId):
            raise NoCertificate("an event's id is expected")
        return cls(_moment(time), event)


class Ended(NamedTuple):
    """How a version ended here: the kind of the event and its reason.

    ``event`` is None if the record doesn't tell any more.
    """

    time: int
    event: AuditEventId | None
    kind: str = ""
    reason: str = ""

    def line(self) -> str:
        parts = (NOT_KEPT,) if self.event is None else (self.event, self.kind, self.reason)
        return " ".join(filter(None, (_written(self.time), *parts)))

    @classmethod
    def read(cls, value: str) -> Ended:
        time, _, rest = value.partition(" ")
        if rest == NOT_KEPT:
            return cls(_moment(time), None)
        event, _, rest = rest.partition(" ")
        kind, _, reason = rest.partition(" ")
        if not (ids.is_id(event, AuditEventId) and _WORD.fullmatch(kind) and _WORD.fullmatch(reason or "-")):
            raise NoCertificate("ended: an event, its kind and its reason are expected")
        return cls(_moment(time), event, kind, reason)


class Answered(NamedTuple):
    """What the upstream answered when it was asked with the key.

    The event has the status as well.
    """

    status: int
    time: int
    event: AuditEventId

    def line(self) -> str:
        return f"{self.status} {Moment(self.time, self.event).line()}"

    @classmethod
    def read(cls, value: str) -> Answered:
        status, _, rest = value.partition(" ")
        return cls(int(_matching(_STATUS, status)), *Moment.read(rest))


@dataclass(frozen=True, slots=True)
class Certificate:
    """One statement about one key.

    ``destroyed`` is None while the key is kept, to ask again with it.
    """

    statement: Statement
    serial: int
    supersedes: str
    issued: Moment
    organization: OrganizationId
    credential: CredentialId
    provider: str
    version: int
    fingerprint: str
    commitment: bytes
    ended: Ended
    last_use: Moment | NoMoment
    last_shown: Moment | NoMoment
    refused: Answered
    answered: Answered
    destroyed: Moment | None = None

    def text(self) -> str:
        """What is signed."""
        values = (
            self.statement,
            str(self.serial),
            self.supersedes or "nothing",
            self.issued.line(),
            self.organization,
            self.credential,
            self.provider,
            str(self.version),
            self.fingerprint,
            base64.b64encode(self.commitment).decode(),
            self.ended.line(),
            _last(self.last_use),
            _last(self.last_shown),
            self.refused.line(),
            self.answered.line(),
            "sealed" if self.destroyed is None else f"destroyed {self.destroyed.line()}",
        )
        lines = (f"{name}: {value}\n" for name, value in zip(_NAMES, values, strict=True))
        return f"{TITLE}\n{''.join(lines)}"

    def digest(self) -> str:
        """The SHA-256 of the text in hexadecimal.

        The next statement supersedes it by that, and its own event has it as its subject.
        """
        return hashlib.sha256(self.text().encode()).hexdigest()

    def following(
        self,
        issued: Moment,
        *,
        statement: Statement | None = None,
        refused: Answered | None = None,
        answered: Answered | None = None,
        destroyed: Moment | None = None,
    ) -> Certificate:
        """The next statement about the key, with what is new."""
        return replace(
            self,
            serial=self.serial + 1,
            supersedes=self.digest(),
            issued=issued,
            statement=statement or self.statement,
            refused=refused or self.refused,
            answered=answered or self.answered,
            destroyed=destroyed,
        )

    def events(self) -> tuple[AuditEventId, ...]:
        """The events that it names, each once, in the order of its lines."""
        return tuple(dict.fromkeys(self._named()))

    def _named(self) -> Iterator[AuditEventId]:
        yield self.issued.event
        if self.ended.event is not None:
            yield self.ended.event
        for last in (self.last_use, self.last_shown):
            if isinstance(last, Moment):
                yield last.event
        yield self.refused.event
        yield self.answered.event
        if self.destroyed is not None:
            yield self.destroyed.event

    @classmethod
    def read(cls, text: str) -> Certificate:
        """The certificate of a text.

        Raises:
            NoCertificate: it is in another form, or says what can't be.
        """
        title, _, rest = text.partition("\n")
        lines = [line.partition(": ") for line in rest.split("\n")]
        if title != TITLE or [name for name, _, _ in lines] != [*_NAMES, ""]:
            raise NoCertificate("not a certificate of a known version, with its lines in their order")
        found = cls._of({name: value for name, _, value in lines})
        if found.text() != text:
            raise NoCertificate("not in the one spelling that a certificate has")
        _check(found)
        return found

    @classmethod
    def _of(cls, said: dict[str, str]) -> Certificate:
        statement = said["statement"]
        if statement not in {"dead", "accepted-again"}:
            raise NoCertificate("statement: is unknown")
        return cls(
            statement="dead" if statement == "dead" else "accepted-again",
            serial=int(_matching(_NUMBER, said["serial"])),
            supersedes="" if said["supersedes"] == "nothing" else _matching(_DIGEST, said["supersedes"]),
            issued=Moment.read(said["issued"]),
            organization=_id(said["organization"], OrganizationId),
            credential=_id(said["credential"], CredentialId),
            provider=_matching(_PROVIDER, said["provider"]),
            version=int(_matching(_NUMBER, said["version"])),
            fingerprint=_matching(_FINGERPRINT, said["fingerprint"]),
            commitment=_decoded(said["commitment"]),
            ended=Ended.read(said["ended"]),
            last_use=_read_last(said["last-use"]),
            last_shown=_read_last(said["last-shown"]),
            refused=Answered.read(said["refused"]),
            answered=Answered.read(said["answered"]),
            destroyed=_destroyed(said["material"]),
        )


def _check(found: Certificate) -> None:
    """Raises NoCertificate if what its lines say doesn't go together."""
    one_answer = found.answered.event == found.refused.event
    if (found.serial == 1) != (not found.supersedes):
        raise NoCertificate("supersedes: only the first one supersedes nothing")
    if found.statement == "accepted-again" and (found.serial == 1 or one_answer):
        raise NoCertificate("statement: what was never stated dead isn't accepted again")
    if one_answer and found.answered != found.refused:
        raise NoCertificate("answered: one event has one answer")


def committed(key: bytes, salt: bytes | None = None) -> bytes:
    """The commitment to a key: by it a holder of the key knows it again, and nobody else does.

    It takes a tenth of a second and 32 MiB, so that keys can't be guessed.  ``salt`` is 16 random bytes if left out.
    """
    salt = secrets.token_bytes(_SALT_BYTES) if salt is None else salt
    made = hashlib.scrypt(key, salt=_LABEL + salt, n=_COST, r=8, p=1, maxmem=_MEMORY_MOST, dklen=32)
    return salt + made


def commits_to(commitment: bytes, key: bytes) -> bool:
    """Whether a commitment is to this key; as slow as :func:`committed`."""
    return hmac.compare_digest(committed(key, commitment[:_SALT_BYTES]), commitment)


def _written(time: int) -> str:
    second = datetime.fromtimestamp(time // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{second:0>19}.{time % 1000:03}Z"


def _moment(text: str) -> int:
    try:
        second = datetime.fromisoformat(_matching(_TIME, text)[:-5]).replace(tzinfo=UTC)
    except ValueError:
        raise NoCertificate("a time in UTC with milliseconds is expected") from None
    return int(second.timestamp()) * 1000 + int(text[-4:-1])


def _last(last: Moment | NoMoment) -> str:
    return last.line() if isinstance(last, Moment) else last


def _read_last(value: str) -> Moment | NoMoment:
    if value == "never":
        return "never"
    return "not-kept" if value == "not-kept" else Moment.read(value)


def _destroyed(value: str) -> Moment | None:
    if value == "sealed":
        return None
    word, _, rest = value.partition(" ")
    if word != "destroyed":
        raise NoCertificate("material: is sealed or destroyed")
    return Moment.read(rest)


def _decoded(value: str) -> bytes:
    try:
        found = base64.b64decode(value, validate=True)
    except ValueError:
        found = b""
    if len(found) != _SALT_BYTES + 32:
        raise NoCertificate("commitment: a salt and a hash are expected")
    return found


def _matching(pattern: re.Pattern[str], value: str) -> str:
    if not pattern.fullmatch(value):
        raise NoCertificate("a line holds what it can't")
    return value


def _id(value: str, kind: Callable[[str], ids.Id]) -> ids.Id:
    if not ids.is_id(value, kind):
        raise NoCertificate("an id of another kind is expected")
    return value
