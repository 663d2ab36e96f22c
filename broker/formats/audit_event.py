"""The bytes of an audit event: canonical JSON in two parts and their salted commitments.

::

    core_bytes, personal_bytes = JCS (RFC 8785) of the two parts
    cc    = SHA-256("auditcore/v1\\0"  | salt_core[32]     | core_bytes)
    cp    = SHA-256("auditpii/v1\\0"   | salt_personal[32] | personal_bytes)
    entry = SHA-256("auditentry/v1\\0" | cc | cp)

``entry`` is all that a public log needs to hold.  The 256-bit salts keep it from being guessed.  The split lets the
personal part be withheld or erased while ``entry`` stays provable.

The bytes are stored as they are and never made again from columns.  A part is a struct whose fields are declared in
the order of RFC 8785, with ASCII names, and hold strings, integers below 2**53, null, or others of that kind: so
encoding it is all that is to be done.  What a field holds is checked by whoever builds it
(:class:`broker.audit.events.Event`).
"""

from __future__ import annotations

import hashlib
import os
from typing import NamedTuple

import msgspec

MAX_BYTES = 16_384
LARGEST = 2**53 - 1  # that every reader of JSON has (RFC 7493 §2.2)


class NotCanonical(ValueError):
    """A part has no canonical form, or is too large."""


class ActorCore(msgspec.Struct, frozen=True, gc=False):
    """Who did it."""

    id: str
    type: str


class OutcomeCore(msgspec.Struct, frozen=True, gc=False):
    """What came of a use: bytes each way, milliseconds, the upstream's status."""

    bytes_in: int
    bytes_out: int
    ms: int
    status: int | None


class TargetCore(msgspec.Struct, frozen=True, gc=False):
    """What an upstream was asked; ``query`` has names of parameters."""

    host: str
    method: str
    query: tuple[str, ...]


class Core(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The part that stays: ids, numbers and words of lists.  Empty fields are left out."""

    actor: ActorCore
    credential: str = ""
    decision: str
    fingerprint: str = ""
    grant: str = ""
    id: str
    intake: str = ""
    kind: str
    lease: str = ""
    mode: str = ""
    organization: str = ""
    outcome: OutcomeCore | None = None
    provider: str = ""
    reason: str = ""
    request: str = ""
    subject: str = ""
    target: TargetCore | None = None
    time: int
    use: str = ""
    v: int
    version: int = 0
    workload: str = ""


class Personal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The part that can be withheld or erased: texts.  Empty fields are left out."""

    actor_name: str = ""
    address: str = ""
    agent: str = ""
    note: str = ""
    path: str = ""
    query: str = ""
    upstream_id: str = ""


_encode = msgspec.json.Encoder().encode


def encode(part: Core | Personal) -> bytes:
    """RFC 8785 bytes of one part.

    Raises:
        NotCanonical: half a surrogate pair in a text, or over 16 KiB.
    """
    try:
        data = _encode(part)
    except UnicodeEncodeError as error:
        raise NotCanonical("a string holds a lone surrogate") from error
    if len(data) > MAX_BYTES:
        raise NotCanonical(f"a part of an event is capped at {MAX_BYTES} bytes")
    return data


class Committed(NamedTuple):
    """The bytes of one event, and the commitments to its personal part and to the whole."""

    core: bytes
    personal: bytes
    salt_core: bytes
    salt_personal: bytes
    personal_commitment: bytes
    entry: bytes


class _Salts:
    """Random bytes for salts, drawn from the system many at a time.

    Each piece is given out once.  A process that is forked must not give out its parent's pieces again.
    """

    _AT_ONCE = 64

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        os.register_at_fork(after_in_child=self._pieces.clear)

    def draw(self) -> bytes:
        """64 bytes."""
        try:
            return self._pieces.pop()  # atomic: no two threads get the same
        except IndexError:
            drawn = os.urandom(64 * self._AT_ONCE)
            self._pieces += [drawn[at : at + 64] for at in range(64, len(drawn), 64)]
            return drawn[:64]


_salts = _Salts()


def commit(core: Core, personal: Personal, salts: bytes | None = None) -> Committed:
    """Encode both parts and commit to them.

    ``salts`` (64 bytes) are given only to check a stored event again.

    Raises:
        NotCanonical: as :func:`encode`.
    """
    salts = _salts.draw() if salts is None else salts
    if len(salts) != 64:
        raise ValueError("two salts of 32 bytes each are needed")
    core_bytes, personal_bytes = encode(core), encode(personal)
    salt_core, salt_personal = salts[:32], salts[32:]
    cp = commitment_of(personal_bytes, salt_personal)
    entry = entry_from(core_bytes, salt_core, cp)
    return Committed(core_bytes, personal_bytes, salt_core, salt_personal, cp, entry)


def entry_of(core: bytes, salt_core: bytes, personal: bytes, salt_personal: bytes) -> bytes:
    """The 32-byte log entry of both parts' bytes and salts."""
    return entry_from(core, salt_core, commitment_of(personal, salt_personal))


def entry_from(core: bytes, salt_core: bytes, personal_commitment: bytes) -> bytes:
    """The same, of the core and the commitment to the personal part.

    That part may be withheld or erased.
    """
    cc = hashlib.sha256(b"auditcore/v1\0" + salt_core + core).digest()
    return hashlib.sha256(b"auditentry/v1\0" + cc + personal_commitment).digest()


def commitment_of(personal: bytes, salt_personal: bytes) -> bytes:
    """The 32-byte commitment to a personal part (``cp``)."""
    return hashlib.sha256(b"auditpii/v1\0" + salt_personal + personal).digest()
