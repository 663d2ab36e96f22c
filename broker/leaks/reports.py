"""Reports from partner scanners, in the form of GitHub's secret scanning partner program.

The body is a JSON array of ``{"token", "type", "url", "source"}``.  Its headers name a public key and carry an ECDSA
P-256 signature over the raw body; the keys are published by id.  A verified report of a key that is ours is an
exposure: the key is cut off at once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from broker.audit.events import Actor, Event
from broker.audit.log import AuditLog
from broker.base.clock import Clock
from broker.base.db import Database, Scope
from broker.base.errors import Forbidden, Invalid, NotFound, Unavailable
from broker.base.outbound import Outbound, Unreachable
from broker.credentials.tables import VersionRow
from broker.incidents.exposure import Found, expose
from broker.intake.rotating import Rotating
from broker.keystore.internal import InternalKeys
from broker.leaks.matching import note, recognised

PARTNER = Actor("stranger", "github", "GitHub secret scanning")

_KEYS_MAX = 262_144
_FRESH_MS = 3_600_000
# An unknown key id makes the list be fetched anew, but not more often than this.
_AGAIN_MS = 60_000


class ReportsOff(NotFound):
    """This broker takes no reports."""

    code = "reports_off"

    def __init__(self) -> None:
        super().__init__("This broker takes no reports of leaks; BROKER_LEAK_REPORT_KEYS_URL switches them on.")


class SignatureRefused(Forbidden):
    """The report is not signed by the partner."""

    code = "report_signature"
    title = "The report's signature is not valid"

    def __init__(self) -> None:
        super().__init__("Sign the raw body with a key that is published under its identifier (ECDSA P-256, SHA-256).")


class Reported(BaseModel):
    """One token that a partner found."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    token: str = Field(min_length=1, max_length=16_384, repr=False)
    type: str = Field(default="", max_length=200)
    url: str = Field(default="", max_length=2_000)
    source: str = Field(default="", max_length=200)


_REPORT = TypeAdapter(list[Reported])


class Reports:
    """Takes reports; ``keys_url`` empty takes none."""

    def __init__(
        self,
        db: Database,
        audit: AuditLog,
        outbound: Outbound,
        rotating: Rotating,
        keys: InternalKeys,
        clock: Clock,
        *,
        keys_url: str,
        private: bool,
    ) -> None:
        self._db = db
        self._audit = audit
        self._outbound = outbound
        self._rotating = rotating
        self._keys = keys
        self._clock = clock
        self._url = keys_url
        self._private = private
        self._published: Mapping[str, str] = {}
        self._fetched_at = -_FRESH_MS

    async def take(self, key_id: str, signature: str, body: bytes) -> list[dict[str, str]]:
        """Verify a report, cut off what is ours, and say of each token whether it was.

        Raises:
            ReportsOff: not switched on. SignatureRefused: recorded. Invalid: the body is no report.
        """
        if not self._url:
            raise ReportsOff
        if not await self._verified(key_id, signature, body):
            refusal = Event(
                kind="leak.report_refused", time=self._clock(), actor=PARTNER, decision="denied", reason="signature"
            )
            await self._audit.append(refusal)
            raise SignatureRefused
        try:
            report = _REPORT.validate_json(body)
        except ValidationError:
            raise Invalid("body: is not a JSON array of objects with token, type, url and source.") from None
        digests = {one: hashlib.sha256(one.token.encode("utf-8", "surrogatepass")) for one in report}
        found = await recognised(self._db, self._keys, [digest.hexdigest() for digest in digests.values()])
        for one in report:
            version = found.get(digests[one].hexdigest())
            if version is not None:
                await self._expose(version, one)
        return [
            {
                "token_hash": base64.b64encode(digests[one].digest()).decode(),
                "token_type": one.type,
                "label": "true_positive" if digests[one].hexdigest() in found else "false_positive",
            }
            for one in report
        ]

    async def _expose(self, version: VersionRow, one: Reported) -> None:
        now = self._clock()
        place = (one.url or one.source or "not told").replace(one.token, "…")
        await note(self._db, PARTNER, [(version, place)], "github", now=now)
        found = Found(version.number, PARTNER.name, place)
        async with self._db.write(Scope.of(version.organization_id)) as session:
            await expose(session, self._rotating, PARTNER, version.credential_id, found, now=now)

    async def _verified(self, key_id: str, signature: str, body: bytes) -> bool:
        published = (await self._keys_published(key_id)).get(key_id)
        if published is None:
            return False
        try:
            key = serialization.load_pem_public_key(published.encode())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return False
            key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, binascii.Error):
            return False
        return True

    async def _keys_published(self, key_id: str) -> Mapping[str, str]:
        age = abs(self._clock() - self._fetched_at)
        if age >= _FRESH_MS or (key_id not in self._published and age >= _AGAIN_MS):
            self._published, self._fetched_at = await self._fetch(), self._clock()
        return self._published

    async def _fetch(self) -> Mapping[str, str]:
        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "keybroker")]
        try:
            async with self._outbound.call("GET", self._url, headers=headers, private=self._private) as response:
                body = await response.content.read(_KEYS_MAX)
                document: Any = json.loads(body) if response.status == 200 else None
        except (Unreachable, ValueError):
            document = None
        if not isinstance(document, dict) or not isinstance(document.get("public_keys"), list):
            raise Unavailable("The partner's public keys can't be fetched just now; send the report again.")
        return {
            str(one["key_identifier"]): str(one["key"])
            for one in document["public_keys"]
            if isinstance(one, dict) and "key_identifier" in one and "key" in one
        }
