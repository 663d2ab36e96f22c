"""What is due: every provider has its share of a round, suspects come first, and a clock may step back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from sqlalchemy import literal, select, update

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.care.health import SUSPECT, HealthCheck, suspicion
from broker.credentials import due
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId
from broker.organizations.tables import OrganizationRow
from broker.rotations.minting import Minting
from broker.rotations.revocation_check import RevocationCheck
from tests.support.world import World

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
# Two that are declared, and one that no longer is.
CROWDED, QUIET, GONE = "raptor-comply", "stripe", "gone"


async def keys(world: World, provider: str, times: Iterable[int], *, state: str = "active") -> list[CredentialId]:
    """Credentials of one organization, a key each, that are due at these times; their ids."""
    made = []
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        for number, at in enumerate(times):
            credential = CredentialId(f"crd_{provider}_{number}")
            made.append(credential)
            session.add(
                CredentialRow(
                    id=credential,
                    organization_id="org_1",
                    provider=provider,
                    label=str(number),
                    state="active",
                    variables={},
                    created_at=0,
                )
            )
            session.add(
                VersionRow(
                    organization_id="org_1",
                    credential_id=credential,
                    number=1,
                    provider=provider,
                    state=state,
                    sealed=b"sealed",
                    fingerprint=credential,
                    last4="xxxx",
                    verdict="active",
                    health_at=at - 10,
                    probes=0,
                    next_probe_at=at,
                    staged_at=0,
                )
            )
        if not await session.get(OrganizationRow, "org_1"):
            session.add(OrganizationRow(id="org_1", slug="one", name="One", state="active", created_at=0))
    return made


async def suspect(world: World, *credentials: CredentialId) -> None:
    """A job's call met a bad-key answer with each of these, whose last check was some minutes ago."""
    now = world.clock()
    checked = update(VersionRow).where(VersionRow.credential_id.in_(credentials))
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(checked.values(health_at=now - 5 * MINUTE_MS))
        await session.execute(SUSPECT, [suspicion(credential, 1, now) for credential in credentials])


def health(world: World) -> HealthCheck:
    return HealthCheck(world.services.parts, world.services.verification)


def of_each(rows: list[VersionRow]) -> Counter[str]:
    return Counter(row.provider for row in rows)


async def test_a_provider_with_many_keys_due_starves_no_other(world: World) -> None:
    now = world.clock()
    await keys(world, CROWDED, [now - 2 * MINUTE_MS] * 300)
    await keys(world, QUIET, [now - MINUTE_MS] * 2)
    asked = of_each(await health(world).due())
    assert asked[QUIET] == 2
    assert asked[CROWDED] == 300 // 12, "the more wait, the more are asked about"


async def test_few_keys_are_asked_about_a_few_at_a_time(world: World) -> None:
    await keys(world, CROWDED, [world.clock() - 1] * 8)
    assert of_each(await health(world).due()) == {CROWDED: due.FEWEST}


async def test_a_suspect_comes_before_any_backlog(world: World) -> None:
    now = world.clock()
    await keys(world, CROWDED, [now - 60 * MINUTE_MS] * 100 + [now + 60 * MINUTE_MS])
    await suspect(world, CredentialId(f"crd_{CROWDED}_100"))
    found = [row.credential_id for row in await health(world).due()]
    assert f"crd_{CROWDED}_100" in found
    assert len(found) > 1, "and the others keep their share"


async def test_suspects_have_a_share_of_their_own_however_many_they_are(world: World) -> None:
    now = world.clock()
    made = await keys(world, CROWDED, [now - 60 * MINUTE_MS] * 10 + [now + 60 * MINUTE_MS] * 10)
    late, suspects = made[:10], made[10:]
    await suspect(world, *suspects)
    found = [row.credential_id for row in await health(world).due()]
    assert len(set(found) & set(suspects)) == len(set(found) & set(late)) == due.FEWEST


async def test_keys_of_a_provider_that_is_not_declared_take_nobodys_turn(world: World) -> None:
    waiting = [world.clock() - MINUTE_MS] * 60
    await keys(world, GONE, waiting)
    await keys(world, CROWDED, [world.clock() - 1])
    assert of_each(await health(world).due()) == {CROWDED: 1}
    assert await due.undeclared(world.services.parts.db, world.services.parts.catalog) == {GONE: 60}


async def test_keys_that_cannot_be_worked_on_are_not_the_first_of_every_round(world: World) -> None:
    # given more keys that can't be opened than a round takes, all due before one that can
    now = world.clock()
    await keys(world, CROWDED, [now - MINUTE_MS] * 2 * due.FEWEST)
    fine = await world.key_for("acme")
    world.clock.forward(hours=1, seconds=1)

    # when rounds go by
    for _ in range(3):
        await world.broker.worker.duties["check_health"].run()

    # then that one had its turn
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        row = await session.get_one(VersionRow, (fine, 1))
    assert row.health_at is not None


async def test_old_keys_of_one_provider_do_not_delay_the_confirmation_of_anothers(world: World) -> None:
    now = world.clock()
    await keys(world, CROWDED, [now - 2 * MINUTE_MS] * 100, state="revoked")
    await keys(world, QUIET, [now - MINUTE_MS], state="revoked")
    parts, verification = world.services.parts, world.services.verification
    check = RevocationCheck(parts, verification, Minting(parts, verification))
    assert of_each(await check.due()) == {CROWDED: 100 // 12, QUIET: 1}


@pytest.mark.parametrize(
    ("at", "now", "over"),
    [
        (Millis(10 * HOUR_MS), Millis(9 * HOUR_MS), False),
        (Millis(10 * HOUR_MS), Millis(10 * HOUR_MS), True),
        (Millis(10 * HOUR_MS), Millis(8 * HOUR_MS), True),
        (None, Millis(10 * HOUR_MS), False),
    ],
    ids=["ahead", "has come", "the clock stepped back", "none was set"],
)
async def test_a_wait_that_was_set_before_the_clock_stepped_back_is_over(
    sqlite_url: str, at: Millis | None, now: Millis, over: bool
) -> None:
    assert due.is_due(at, now, HOUR_MS) is over
    db = Database(sqlite_url)
    async with db.read(EVERY_TENANT) as session:
        assert bool(await session.scalar(select(due.where_due(literal(at), now, HOUR_MS)))) is over
    await db.close()
