"""However much there is to do, the worker reads and writes it in pages: a backlog makes it slower, never impossible."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import select, update

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId
from broker.intake.tables import IntakeRow
from broker.notifications.tables import NoticeRow
from broker.organizations.tables import OrganizationRow
from tests.support.ids import nth
from tests.support.sent import noted, plan
from tests.support.world import World

HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "credentials.duties.PAGE",
        "credentials.revocation.PAGE",
        "intake.links.PAGE",
        "intake.links.TOGETHER",
        "care.health.PAGE",
        "identity.operators.PAGE",
    ):
        monkeypatch.setattr(f"broker.{name}", 2)


async def test_keys_are_counted_a_page_at_a_time(world: World) -> None:
    for number in range(7):
        await world.key_for(f"customer-{number}")
    duty = world.broker.worker.duties["count"]
    with noted(world.broker.worker.db, "GROUP BY") as sent:
        await duty.do(world.clock())
    assert duty.counted == {("active", "healthy"): 7}
    assert len(sent) == 3


async def test_all_that_revoked_organizations_still_have_is_cut_off(world: World) -> None:
    made = [await world.key_for(f"customer-{number}") for number in range(5)]
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(
            update(OrganizationRow).where(OrganizationRow.slug != "customer-2").values(state="revoked")
        )
    await world.broker.worker.duties["cut_off_rest"].run()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        active = list(await session.scalars(select(CredentialRow.id).where(CredentialRow.state == "active")))
    assert active == [made[2]]


async def test_links_that_expired_are_all_closed_at_once(world: World) -> None:
    await world.organization("acme")
    made = [(await world.request_key("acme", label=f"label-{number}"))[0] for number in range(5)]
    world.clock.forward(hours=24 * 60)
    await world.broker.worker.duties["expire_links"].run()
    assert await states(world) == dict.fromkeys(made, "expired")


async def test_links_whose_credential_ended_are_come_round_to(world: World) -> None:
    organization = (await world.organization("acme"))["id"]
    made = [(await world.request_key("acme", label=f"label-{number}"))[0] for number in range(5)]
    later = world.clock() + 1000
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add_all(
            CredentialRow(
                id=CredentialId(nth("crd", number + 1)),
                organization_id=organization,
                provider="raptor-comply",
                label=f"label-{number}",
                state="revoked",
                variables={},
                created_at=later,
                revoked_at=later,
            )
            for number in range(5)
        )
    duty, closed = world.broker.worker.duties["expire_links"], []
    for _ in range(3):
        await duty.run()
        found = await states(world)
        closed.append(sum(found[intake] == "expired" for intake in made))
    assert closed == [2, 4, 5]


async def test_all_checks_that_were_set_before_the_clock_stepped_back_are_made_due(world: World) -> None:
    made = [await world.key_for(f"customer-{number}") for number in range(5)]
    now = world.services.parts.clock()
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        for number, credential in enumerate(made):
            late = {"health_at": now + HOUR_MS if number < 3 else None, "next_probe_at": now + 3 * HOUR_MS}
            await session.execute(update(VersionRow).where(VersionRow.credential_id == credential).values(late))
    await world.broker.worker.duties["catch_up"].run()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert all((at or 0) <= world.clock() for at in await session.scalars(select(VersionRow.next_probe_at)))


async def test_all_whose_tokens_end_are_told_of_a_page_at_a_time(world: World) -> None:
    made = [f"olga-{number}" for number in range(5)]
    for name in made:
        await world.machine(name, "operator")
    world.clock.forward(hours=24 * 80)
    with noted(world.broker.worker.db, "FROM operators") as sent:
        await world.broker.worker.duties["remind_of_accounts"].run()
    assert len(sent) == 4  # the admin's account is one, too
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        told = await session.scalars(select(NoticeRow.facts).where(NoticeRow.kind == "account_ends"))
        assert sorted(str(facts["account"]) for facts in told) == made


@pytest.mark.parametrize("duty", ["count", "cut_off_rest", "expire_links", "catch_up", "remind_of_accounts"])
async def test_each_page_is_found_by_an_index(world: World, duty: str) -> None:
    for number in range(5):
        await world.key_for(f"customer-{number}")
    await world.request_key("customer-0", label="another")
    db = world.broker.worker.db
    with noted(db) as sent:
        await world.broker.worker.duties[duty].run()
    sent = [each for each in sent if re.match("SELECT.*FROM|UPDATE", each[0], re.DOTALL)]
    assert sent
    for statement, parameters in sent:
        found = await plan(db, statement.replace("FOR UPDATE", "").replace("SKIP LOCKED", ""), parameters)
        assert not re.search(r"Seq Scan|SCAN (credential|organization|intake|rotation)\w+$", found, re.MULTILINE), found


async def states(world: World) -> dict[str, str]:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return {row.id: row.state for row in await session.scalars(select(IntakeRow)) if row.label != "default"}
