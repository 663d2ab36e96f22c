"""A certificate as people keep it: with the receipts of the events that it names.

::

    file        = {"v": 1, "certificate": note, "receipts": [receipt…]}     JSON in UTF-8
    receipt     = {"event": id, "receipt": proof}
    note        = the signed note (signed_note) of a certificate (certificate), as a text
    proof       = a C2SP tlog-proof of that event, as a text

The receipts are no part of what is signed: each proves itself.  They are of events that the certificate names, in the
order of its lines.  An event that is archived has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from broker.formats import ids
from broker.formats.certificate import Certificate
from broker.formats.ids import AuditEventId
from broker.formats.signed_note import Verifier, opened

VERSION: Final = 1
_BYTES_MOST = 2**20


class FileRefused(ValueError):
    """Not the file of a certificate."""


class _Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: str
    receipt: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    v: int
    certificate: str
    receipts: tuple[_Receipt, ...]


_decode = msgspec.json.Decoder(_File).decode


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """The note, and the receipts by event."""

    note: bytes
    receipts: Mapping[AuditEventId, bytes]

    def encode(self) -> bytes:
        """The bytes of the file."""
        receipts = [{"event": event, "receipt": proof.decode()} for event, proof in self.receipts.items()]
        whole = {"v": VERSION, "certificate": self.note.decode(), "receipts": receipts}
        return json.dumps(whole, indent=1, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def decode(cls, file: bytes) -> CertificateFile:
        """The parts of a file, none of which is verified by that.

        Raises:
            FileRefused: it is no such file, or of an unknown version.
        """
        try:
            found = _decode(file if len(file) <= _BYTES_MOST else b"")
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            raise FileRefused("not the file of a certificate") from None
        if found.v != VERSION:
            raise FileRefused("not of a known version")
        receipts: dict[AuditEventId, bytes] = {}
        for one in found.receipts:
            if not ids.is_id(one.event, AuditEventId) or one.event in receipts:
                raise FileRefused("a receipt is of no event, or of one that has another")
            receipts[one.event] = one.receipt.encode()
        return cls(found.certificate.encode(), receipts)

    def certificate(self, verifier: Verifier) -> Certificate:
        """What was signed; the receipts are for the reader to verify.

        Raises:
            NoteRefused: it was not signed by this key.
            NoCertificate: what was signed is no certificate.
            FileRefused: there is a receipt of an event that it doesn't name.
        """
        found = Certificate.read(opened(self.note, verifier))
        if not set(self.receipts) <= set(found.events()):
            raise FileRefused("a receipt is of an event that the certificate doesn't name")
        return found
