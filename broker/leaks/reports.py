"""Reports from partner scanners, in the form of GitHub's secret scanning partner program.

The body is a JSON array of ``{"token", "type", "url", "source"}``.  Its headers name a public key and carry an ECDSA
P-256 signature over the raw body; the keys are published by id.  A verified report of a key that is ours is an
exposure: the key is cut off at once, whatever else the report says.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from broker.audit.events import Actor
from broker.base.clock import Clock
from broker.base.db import Database, Scope
from broker.base.errors import Forbidden, Invalid, NotFound, Unavailable
from broker.base.shown import shown
from broker.credentials.masking import Masking
from broker.credentials.tables import VersionRow
from broker.incidents.exposure import Found, expose
from broker.intake.rotating import Rotating
from broker.keystore.internal import InternalKeys
from broker.leaks.matching import Seen, note, recognised
from broker.leaks.partner import PartnerKeys
from broker.proxy.flights import Flights

PARTNER = Actor("stranger", "github", "GitHub secret scanning")

_PLACE_MAX = 2_000
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


def _text(value: object) -> str:
    """What is said about a token never makes its report be refused."""
    return value if isinstance(value, str) else ""


_Said = Annotated[str, BeforeValidator(_text)]


class Reported(BaseModel):
    """One token that a partner found."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    token: str = Field(min_length=1, repr=False)
    type: _Said = ""
    url: _Said = ""
    source: _Said = ""

    @property
    def digest(self) -> bytes:
        """What it is recognised by."""
        return hashlib.sha256(self.token.encode()).digest()

    @property
    def place(self) -> str:
        """Where it was found, for people."""
        said = self.url or self.source or "not told"
        return shown(said)


_ARRAY = TypeAdapter(list[Any], config=ConfigDict(hide_input_in_errors=True))


@dataclass(slots=True)
class Reports:
    """Takes reports; ``partner`` None takes none.  ``refused`` counts what was not signed: strangers' own doing."""

    db: Database
    keys: InternalKeys
    rotating: Rotating
    flights: Flights
    clock: Clock
    partner: PartnerKeys | None
    refused: int = 0

    async def take(self, key_id: str, signature: str, body: bytes) -> list[dict[str, str]]:
        """Verify a report, cut off what is ours, and say of each token whether it was.

        Answered when no call under a key that was reported can pass a byte any more.

        Raises:
            ReportsOff: not switched on. SignatureRefused: counted. Invalid: the body is no report. Unavailable: the
                partner's keys can't be fetched, or one of ours could not be cut off; sent again, it is tried again.
        """
        if self.partner is None:
            raise ReportsOff
        if not await self.partner.signed(key_id, signature, body):
            self.refused += 1
            raise SignatureRefused
        report = _read(body)
        found = await recognised(self.db, self.keys, [one.digest.hex() for one in report])
        ours = {one: found[one.digest.hex()] for one in report if one.digest.hex() in found}
        every = list(ours.values())
        missed = [one for one, version in ours.items() if not await self._cut_off(one, version, every)]
        await self.flights.settled(*{version.credential_id for version in every})
        if missed:
            raise Unavailable("Not every key in this report could be cut off just now; send the report again.")
        return [
            {
                "token_hash": base64.b64encode(one.digest).decode(),
                "token_type": one.type,
                "label": "true_positive" if one in ours else "false_positive",
            }
            for one in report
        ]

    async def _cut_off(self, one: Reported, version: VersionRow, every: Sequence[VersionRow]) -> bool:
        """Whether that went well; where not, the rest of the report is acted on all the same."""
        masking = Masking(self.rotating.catalog, self.keys)
        place = masking.masked(one.place, every)[:_PLACE_MAX]
        try:
            await self._expose(version, place)
            await note(self.db, masking, PARTNER, [Seen(version, place)], "github", now=self.clock())
        except Exception as error:  # noqa: BLE001 - whatever it is, the other keys are out as well
            _log.error("leak.not_cut_off", credential=version.credential_id, error=type(error).__name__)
            return False
        return True

    async def _expose(self, version: VersionRow, place: str) -> None:
        found = Found(version.number, PARTNER.name, place)
        async with self.db.write(Scope.of(version.organization_id)) as session:
            await expose(session, self.rotating, PARTNER, version.credential_id, found, now=self.clock())


def _read(body: bytes) -> list[Reported]:
    """What is reported; an item that is none is left out, so that it keeps no other key in use.

    Raises:
        Invalid: the body is no report at all.
    """
    items: list[Any] | None = None
    report: list[Reported] = []
    try:
        items = _ARRAY.validate_json(body)
    except ValidationError:
        items = None
    for item in items or []:
        try:
            report.append(Reported.model_validate(item))
        except ValidationError:
            _log.warning("leak.report_item_left_out")
    if items is None or (items and not report):
        raise Invalid("body: is not a JSON array of objects with token, type, url and source.")
    return report
