"""Move every sealed value to the active master key, or to another keystore, while brokers serve.

Each row is changed only if its sealed bytes are still those that were read, so a value that is replaced or destroyed
meanwhile is left alone; running again goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import InstrumentedAttribute

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.db import EVERY_TENANT, Database, Table
from broker.credentials.tables import VersionRow
from broker.formats.envelope import Binding
from broker.identity.signing import binding as signing_binding
from broker.identity.tables import SigningKeyRow
from broker.intake.tables import IntakeRow
from broker.keystore import strays
from broker.keystore.internal import ROOT, InternalKeyRow
from broker.keystore.keyring import kek_of, name_of
from broker.keystore.keystore import NOTHING_KNOWN, Keystore
from broker.notifications.tables import WebhookRow
from broker.web.session import Services
from broker.web.tables import IdempotencyRow

Advance = Callable[[int, int], None]
_CHUNK = 200


@dataclass(frozen=True, slots=True)
class _Place:
    """A column of sealed bytes, the row's key, and where its values belong."""

    table: type[Table]
    sealed: InstrumentedAttribute[Any]
    key: tuple[InstrumentedAttribute[Any], ...]
    binding: Callable[[Any], Binding]
    about: Callable[[Any], Mapping[str, str]] = lambda _row: NOTHING_KNOWN


_PLACES = (
    _Place(InternalKeyRow, InternalKeyRow.sealed, (InternalKeyRow.name,), lambda _row: ROOT),
    _Place(SigningKeyRow, SigningKeyRow.sealed, (SigningKeyRow.kid,), lambda row: signing_binding(row.kid)),
    _Place(
        VersionRow,
        VersionRow.sealed,
        (VersionRow.credential_id, VersionRow.number),
        lambda row: row.binding,
        lambda row: {"provider": row.provider},
    ),
    _Place(IntakeRow, IntakeRow.private_sealed, (IntakeRow.id,), lambda row: row.binding),
    _Place(WebhookRow, WebhookRow.url_sealed, (WebhookRow.id,), lambda row: row.url_binding),
    _Place(WebhookRow, WebhookRow.secret_sealed, (WebhookRow.id,), lambda row: row.secret_binding),
    _Place(WebhookRow, WebhookRow.previous_sealed, (WebhookRow.id,), lambda row: row.secret_binding),
    _Place(
        IdempotencyRow,
        IdempotencyRow.answer_sealed,
        (IdempotencyRow.principal_id, IdempotencyRow.key),
        lambda row: row.binding,
    ),
)


async def rewrap_all(
    services: Services,
    *,
    to: Keystore | None = None,
    count_only: bool = False,
    advance: Advance = lambda _done, _total: None,
) -> dict[str, int]:
    """Re-wrap everything (or only look); how many sealed values each master key holds afterwards.

    Args:
        services: a running broker's parts.
        to: the keystore whose active master key everything is moved to; left out, the broker's own.
        count_only: change nothing.
        advance: told how many values of how many are done.
    """
    held: Counter[str] = Counter()
    keys = [(place, key) for place in _PLACES for key in await _keys(services.db, place)]
    for start in range(0, len(keys), _CHUNK):
        for place, key in keys[start : start + _CHUNK]:
            if kek_id := await _rewrap(services, None if count_only else to or services.keystore, place, key):
                held[kek_id] += 1
        advance(min(start + _CHUNK, len(keys)), len(keys))
    if not count_only:
        event = Event(
            kind="keystore.rewrapped",
            time=services.clock(),
            actor=BROKER,
            note=", ".join(sorted(held)),
            subject=", ".join(sorted({name_of(kek_id) for kek_id in held})),
        )
        async with services.db.write(EVERY_TENANT) as session:
            await record(session, event)
    return dict(held)


async def _keys(db: Database, place: _Place) -> list[tuple[Any, ...]]:
    async with db.read(EVERY_TENANT) as session:
        rows = await session.execute(select(*place.key).where(place.sealed.is_not(None)).order_by(*place.key))
        return [tuple(row) for row in rows]


async def _rewrap(services: Services, to: Keystore | None, place: _Place, key: tuple[Any, ...]) -> str | None:
    """The id of the master key that holds the value afterwards; None where it is gone."""
    matches = [column == value for column, value in zip(place.key, key, strict=True)]
    while True:
        async with services.db.read(EVERY_TENANT) as session:
            row = await session.scalar(select(place.table).where(*matches))
        sealed = getattr(row, place.sealed.key, None)
        if sealed is None:
            return None
        fresh = await to.rewrap(sealed, place.binding(row), place.about(row)) if to else None
        if fresh is None:
            return kek_of(sealed)
        async with services.db.write(EVERY_TENANT) as session:
            changed = await session.execute(
                update(place.table)
                .where(*matches, place.sealed == sealed)
                .values({place.sealed.key: fresh})
                .returning(*place.key)
            )
            if changed.first() is not None:
                now = services.clock()
                await session.run_sync(partial(strays.replace, old=sealed, fresh=fresh, now=now))
                return kek_of(fresh)
