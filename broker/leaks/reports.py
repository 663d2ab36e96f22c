"""Reports from partner scanners, in the form of GitHub's secret scanning partner program.

The body is a JSON array of ``{"token", "type", "url", "source"}``.  Its headers name a public key and carry an ECDSA
P-256 signature over the raw body.  The keys are published by id.  A verified report of a key of ours is an exposure:
the key is cut off at once, whatever else the report says.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from broker.audit.events import Actor
from broker.base.db import Scope
from broker.base.errors import Forbidden, Invalid, NotFound, Unavailable
from broker.base.shown import shown
from broker.credentials.masking import Masking
from broker.credentials.tables import VersionRow
from broker.incidents.exposure import Found, expose
from broker.leaks.arriving import Arriving
from broker.leaks.matching import Seen, note, recognised
from broker.leaks.partner import PartnerKeys, signed
from broker.parts import Parts
from broker.proxy.in_flight import InFlightCalls
from broker.rotations.requests import Rotating

PARTNER = Actor("stranger", "github", "GitHub secret scanning")

_LOCATION_MAX = 2_000
# So many locations of one key are kept, so that a key in every line of a file is cut off as fast as others.
_LOCATIONS_MAX = 100
_log = structlog.get_logger()


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


@dataclass(frozen=True, slots=True)
class Reported:
    """One token that a partner found; nothing that the report says of it leaves it out."""

    token: str
    type: str
    location: str

    @property
    def digest(self) -> bytes:
        """The SHA-256 by which it is recognised."""
        return hashlib.sha256(self.token.encode("utf-8", "surrogatepass")).digest()


@dataclass(slots=True)
class Reports:
    """Takes reports.

    If ``partner`` is None, it takes none.  ``refused`` counts reports without the partner's signature, which are
    strangers' own doing.
    """

    parts: Parts
    rotating: Rotating
    in_flight: InFlightCalls
    partner: PartnerKeys | None
    refused: int = 0
    arriving: Arriving = field(default_factory=Arriving)

    async def take(self, key_id: str, signature: str, body: AsyncIterable[bytes]) -> list[dict[str, str]]:
        """Verify a report, cut off the keys that are ours, and say of each token if it is ours.

        A stranger who knows no key id of the partner's is answered before the body is read.  Nothing is parsed before
        it is known to be the partner's.  This returns when no call under a reported key can pass a byte any more.

        Raises:
            ReportsOff: reports are not switched on. SignatureRefused: the partner didn't sign it; that is counted.
            Invalid: the body is no report.
            Unavailable: it can't be judged yet, or a key of ours could not be cut off; it may be sent again.
        """
        if self.partner is None:
            raise ReportsOff
        if not key_id or not signature:
            self._refuse()
        published = await self.partner.published(key_id)
        whole = await self.arriving.whole(body)
        if not signed(published, signature, whole):
            self._refuse()
        report = _read(whole)
        found = await recognised(self.parts.db, self.parts.keys, [one.digest.hex() for one in report])
        await self._cut_all_off(report, found)
        return [
            {
                "token_hash": base64.b64encode(one.digest).decode(),
                "token_type": one.type,
                "label": "true_positive" if one.digest.hex() in found else "false_positive",
            }
            for one in report
        ]

    def _refuse(self) -> NoReturn:
        self.refused += 1
        raise SignatureRefused

    async def _cut_all_off(self, report: Iterable[Reported], found: Mapping[str, VersionRow]) -> None:
        locations: dict[str, dict[str, None]] = {digest: {} for digest in found}
        for one in report:
            if (digest := one.digest.hex()) in locations:
                locations[digest][one.location] = None
        every = list(found.values())
        missed = [one for one in found if not await self._cut_off(found[one], list(locations[one]), every)]
        await self.in_flight.drained(*{version.credential_id for version in every})
        if missed:
            raise Unavailable(
                "Not every key in this report could be cut off just now; send the report again.", retry_after=5
            )

    async def _cut_off(self, version: VersionRow, locations: Sequence[str], every: Sequence[VersionRow]) -> bool:
        """Cut one key off; False if that failed, so that the rest of the report is still acted on."""
        masking = Masking(self.parts.catalog, self.parts.keys)
        clean = [masking.masked(location, every)[:_LOCATION_MAX] for location in locations[:_LOCATIONS_MAX]]
        if more := len(locations) - len(clean):
            clean.append(f"and {more} more places")
        try:
            await self._expose(version, clean[0])
            seen = [Seen(version, location) for location in clean]
            await note(self.parts.db, masking, PARTNER, seen, "github", now=self.parts.clock())
        except Exception as error:  # noqa: BLE001 - whatever it is, the other keys are out as well
            _log.error("leak.not_cut_off", credential=version.credential_id, error=type(error).__name__)
            return False
        return True

    async def _expose(self, version: VersionRow, location: str) -> None:
        found = Found(version.number, PARTNER.name, location)
        async with self.parts.db.write(Scope.of(version.organization_id)) as session:
            await expose(
                session, self.parts, self.rotating, PARTNER, version.credential_id, found, now=self.parts.clock()
            )


def _read(body: bytes) -> list[Reported]:
    """The reported tokens.

    An item that is no report of a token is left out, so that it keeps no other key in use.

    Raises:
        Invalid: the body is no report at all.
    """
    items: object = None
    try:
        # Bytes that aren't UTF-8, a lone surrogate or a number of any length spoil their own item at most.
        items = json.loads(body.decode("utf-8-sig", "replace"), strict=False, parse_int=_number, parse_float=_number)
    except (ValueError, RecursionError):
        items = None
    report = [one for one in map(_reported, items) if one is not None] if isinstance(items, list) else []
    if not isinstance(items, list) or (items and not report):
        _log.warning("leak.report_unreadable")  # even though the partner signed it
        raise Invalid("body: is not a JSON array of objects with token, type, url and source.")
    if left_out := len(items) - len(report):
        _log.warning("leak.report_items_left_out", count=left_out)
    return report


def _number(_written: str) -> None:
    """Drop a number: none says anything here, so one of any length may come."""


def _reported(item: object) -> Reported | None:
    if not isinstance(item, dict) or not isinstance(token := item.get("token"), str) or not token:
        return None
    location = _line(item.get("url")) or _line(item.get("source")) or "not told"
    return Reported(token, _line(item.get("type")), location)


def _line(said: object) -> str:
    """A value about a token as a line that can be kept and sent; empty if it is no text."""
    return shown(said) if isinstance(said, str) else ""
