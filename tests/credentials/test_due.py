"""What is due: of each provider the first ones, suspects apart, and a clock may step back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from sqlalchemy import text, update

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.care.health import SUSPECT, HealthCheck, suspicion
from broker.credentials import due
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId
from broker.organizations.tables import OrganizationRow
from broker.rotations.minting import Minting
from broker.rotations.revocation_check import RevocationCheck
from tests.support.ids import named, nth
from tests.support.sent import noted, plan
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
            credential = CredentialId(named("crd", f"{provider} {number}"))
            made.append(credential)
            session.add(
                CredentialRow(
                    id=credential,
                    organization_id=nth("org"),
                    provider=provider,
                    label=str(number),
                    state="active",
                    variables={},
                    created_at=0,
                )
            )
            session.add(
                VersionRow(
                    organization_id=nth("org"),
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
        if not await session.get(OrganizationRow, nth("org")):
            session.add(OrganizationRow(id=nth("org"), slug="one", name="One", state="active", created_at=0))
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


async def first(world: World, waiting: Sequence[due.Span[VersionRow]], provider: str, limit: int = 20) -> list[str]:
    """The credentials of the versions that are taken first."""
    return [row.credential_id for row in await due.first(world.services.parts.db, waiting, provider, limit)]


async def waiting_of(world: World, waiting: Sequence[due.Span[VersionRow]]) -> list[str]:
    parts = world.services.parts
    return sorted(await due.providers(parts.db, parts.catalog, waiting))


async def test_of_each_provider_those_are_taken_that_are_due_the_longest(world: World) -> None:
    now = world.clock()
    made = await keys(world, CROWDED, [now - wait * 1000 for wait in range(1, 101)] + [now + MINUTE_MS] * 20)
    alone = await keys(world, QUIET, [now - 1])
    waiting = health(world).scheduled()
    assert await waiting_of(world, waiting) == [CROWDED, QUIET]
    assert await first(world, waiting, QUIET) == alone
    assert await first(world, waiting, CROWDED, 3) == [made[99], made[98], made[97]]
    assert len(await first(world, waiting, CROWDED, 500)) == 100


async def test_a_suspect_waits_behind_no_backlog_as_it_has_a_duty_of_its_own(world: World) -> None:
    now = world.clock()
    made = await keys(world, CROWDED, [now - 60 * MINUTE_MS] * 100 + [now + 60 * MINUTE_MS])
    await suspect(world, made[100])
    assert await first(world, health(world).suspects(), CROWDED) == [made[100]]
    assert made[100] not in await first(world, health(world).scheduled(), CROWDED, 500)
    # given a backlog that is being worked on and does not end
    duties, stuck = world.broker.worker.duties, asyncio.Event()
    duties["check_health"].run = stuck.wait  # type: ignore[assignment]  # what it counts is not asked about
    backlog = asyncio.create_task(duties["check_health"].do(now))
    await duties["check_suspects"].run()
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert (await session.get_one(VersionRow, (made[100], 1))).next_probe_at != 0
    stuck.set()
    await backlog


async def test_keys_of_a_provider_that_is_not_declared_are_nobodys(world: World) -> None:
    await keys(world, GONE, [world.clock() - MINUTE_MS] * 60)
    await keys(world, CROWDED, [world.clock() - 1])
    assert await waiting_of(world, health(world).scheduled()) == [CROWDED]
    assert await due.undeclared(world.services.parts.db, world.services.parts.catalog) == {GONE: 60}


async def test_keys_that_cannot_be_worked_on_keep_no_other_waiting(world: World) -> None:
    # given more keys that can't be opened than a page has, all due before one that can
    now = world.clock()
    await keys(world, CROWDED, [now - MINUTE_MS] * 50)
    fine = await world.key_for("acme")
    world.clock.forward(hours=1, seconds=1)

    # when they had a turn
    await world.broker.worker.duties["check_health"].run()

    # then that one was asked about, and the others are due later
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        assert (await session.get_one(VersionRow, (fine, 1))).health_at is not None
    assert await waiting_of(world, health(world).scheduled()) == []


async def test_so_are_revoked_keys_taken_by_provider_and_after_a_clock_stepped_back(world: World) -> None:
    now = world.clock()
    await keys(world, CROWDED, [now - 2 * MINUTE_MS] * 100, state="revoked")
    late = await keys(world, QUIET, [now + 25 * HOUR_MS, now + 23 * HOUR_MS], state="revoked")
    parts, verification = world.services.parts, world.services.verification
    waiting = RevocationCheck(parts, verification, Minting(parts, verification)).waiting()
    assert await waiting_of(world, waiting) == [CROWDED, QUIET]
    assert await first(world, waiting, QUIET) == late[:1], "nothing is due more than a day ahead"


@pytest.mark.parametrize("kind", ["scheduled", "suspects", "staged", "revoked", "rotations"])
async def test_what_is_due_is_found_by_its_index_and_no_further_than_the_limit(world: World, kind: str) -> None:
    parts, verification = world.services.parts, world.services.verification
    minting, now = Minting(parts, verification), world.clock()
    for state in ("active", "revoked"):
        await keys(
            world, CROWDED if state == "active" else QUIET, [now - HOUR_MS] * 100 + [now + HOUR_MS] * 100, state=state
        )
    async with parts.db.write(EVERY_TENANT) as session:
        if kind == "rotations":  # of which there are so few that another index would do as well
            await session.execute(text("DROP INDEX ix_rotations_provider"))
        await session.execute(text("ANALYZE"))
    waiting: dict[str, Sequence[due.Span[Any]]] = {
        "scheduled": health(world).scheduled(),
        "suspects": health(world).suspects(),
        "staged": verification.waiting(),
        "revoked": RevocationCheck(parts, verification, minting).waiting(),
        "rotations": minting.waiting(),
    }
    index = "ix_rotations_due" if kind == "rotations" else "ix_credential_versions_next"
    with noted(parts.db, "SELECT") as sent:
        await due.first(parts.db, waiting[kind], CROWDED, 20)
        await due.providers(parts.db, parts.catalog, waiting[kind])
    sent = [each for each in sent if "next_" in each[0]]
    assert len(sent) == len(waiting[kind]) + 1
    for statement, parameters in sent:
        found = await plan(parts.db, statement, parameters)
        assert index in found, found
        assert not re.search(r"Seq Scan|Sort|SCAN (credential_versions|rotations)\b|TEMP B-TREE", found), found
    assert all("LIMIT" in statement for statement, _ in sent[:-1])


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
def test_a_wait_that_was_set_before_the_clock_stepped_back_is_over(at: Millis | None, now: Millis, over: bool) -> None:
    assert due.is_due(at, now, HOUR_MS) is over
