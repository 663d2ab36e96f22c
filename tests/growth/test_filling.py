"""A filled database is as if brokers had written it: what is sealed opens, rights give something, the record holds."""

from __future__ import annotations

from sqlalchemy import func, select

from broker import rights
from broker.audit.tables import EventRow, HeadRow
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.formats.audit_event import entry_from
from broker.intake.tables import IntakeRow
from tests.growth.conftest import SIZE, Grown

_SOME = 200


async def test_every_right_is_the_brokers_own(grown: Grown) -> None:
    world = grown.world
    assert not [row async for row in rights.altered(world.services.parts.db, world.clock())]


async def test_what_is_sealed_opens_where_it_is(grown: Grown) -> None:
    parts = grown.world.services.parts
    async with parts.db.read(EVERY_TENANT) as session:
        versions = (await session.scalars(select(VersionRow).where(VersionRow.sealed.is_not(None)).limit(_SOME))).all()
        links = (
            await session.scalars(select(IntakeRow).where(IntakeRow.private_sealed.is_not(None)).limit(_SOME))
        ).all()
    for version in versions:
        assert version.sealed is not None
        key = await parts.keystore.open(version.sealed, version.binding)
        assert parts.keys.fingerprint(key) == version.fingerprint
    for link in links:
        assert link.private_sealed is not None
        await parts.keystore.open(link.private_sealed, link.binding)


async def test_the_record_is_dense_and_each_event_is_what_its_entry_says(grown: Grown) -> None:
    async with grown.world.services.parts.db.read(EVERY_TENANT) as session:
        size = await session.scalar(select(HeadRow.size))
        assert size is not None
        assert size >= SIZE.events
        counted = await session.execute(select(func.count(), func.min(EventRow.idx), func.max(EventRow.idx)))
        assert tuple(counted.one()) == (size, 0, size - 1)
        for row in await session.scalars(select(EventRow).order_by(EventRow.idx.desc()).limit(_SOME)):
            assert row.entry == entry_from(row.core, row.salt_core, row.personal_commitment)


async def test_the_job_gets_leases_of_subjects(grown: Grown) -> None:
    for slug in grown.customers.subjects()[:20]:
        await grown.job.lease(slug)
