"""That one event is in the log: a proof as C2SP tlog-proof has it, with the event beside it.

::

    file    = "c2sp.org/tlog-proof@v1\\n"
              "extra " base64(event) "\\n"
              "index " number "\\n"
              (base64(hash) "\\n")…                 inclusion (merkle), from the entry's neighbour up
              "\\n" checkpoint                       the signed note
    event   = {"core":"…","salt_core":"…",part}     JSON without spaces
    part    = "personal":"…","salt_personal":"…"    the personal part
            | "personal_commitment":"…"             cp of it (audit_event), where it is withheld

``core`` and ``personal`` are the bytes of an event (:mod:`broker.formats.audit_event`), as a text; salts and ``cp`` are
in base64.  They make the entry, and the entry and the proof make the checkpoint's root.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from broker.formats.audit_event import entry_from, entry_of

_TITLE: Final = "c2sp.org/tlog-proof@v1"


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event as its entry is made of it, with its personal part or without."""

    core: str
    salt_core: str
    personal: str | None = None
    salt_personal: str | None = None
    personal_commitment: str | None = None


def shown(core: bytes, salt_core: bytes, personal: bytes, salt_personal: bytes) -> ShownEvent:
    """An event with its personal part."""
    return ShownEvent(
        core=core.decode(), salt_core=_text(salt_core), personal=personal.decode(), salt_personal=_text(salt_personal)
    )


def withheld(core: bytes, salt_core: bytes, cp: bytes) -> ShownEvent:
    """An event without its personal part, for which ``cp`` stands."""
    return ShownEvent(core=core.decode(), salt_core=_text(salt_core), personal_commitment=_text(cp))


def entry(event: ShownEvent) -> bytes:
    """The entry that an event makes."""
    core, salt = event.core.encode(), _bytes(event.salt_core)
    if event.personal is not None:
        return entry_of(core, salt, event.personal.encode(), _bytes(event.salt_personal))
    return entry_from(core, salt, _bytes(event.personal_commitment))


def receipt(event: ShownEvent, index: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """The file of an event at ``index`` of the log, as ``proof`` shows for a checkpoint."""
    extra = _text(msgspec.json.encode(event))
    lines = [_TITLE, f"extra {extra}", f"index {index}", *map(_text, proof), "", ""]
    return "\n".join(lines).encode() + checkpoint


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str | None) -> bytes:
    return base64.b64decode(text or "", validate=True)
