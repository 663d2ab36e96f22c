"""A restored database isn't served until an operator says what was lost; then nothing goes on that was under way."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from broker import app as composition
from broker import database, restored
from broker.audit.events import BROKER, Event
from broker.audit.guards import epochs_of
from broker.audit.timekeeping import REAL, Clocks
from broker.audit.unavailable import DatabaseBehind
from broker.base.clock import Millis, later, now_ms
from broker.base.db import EVERY_TENANT
from broker.base.errors import Invalid
from broker.client.identity import Identity
from broker.config import Settings
from broker.formats.checkpoint import Checkpoint
from broker.formats.head import Unreadable
from broker.formats.signed_note import Verifier, opened
from broker.intake.tables import IntakeRow
from broker.sandbox.state import State
from tests.support.databases import Postgres
from tests.support.world import Job, World, running_world, settings_for, upstream


@dataclass
class Deployment:
    """A database that can be copied while no broker runs, and the settings of its broker."""

    settings: Settings
    upstream: State
    upstream_url: str
    copy: Callable[[str], Awaitable[str]]

    def over(self, url: str) -> Settings:
        """The same broker over another database."""
        return self.settings.model_copy(update={"database_url": SecretStr(url)})

    def world(self, settings: Settings | None = None) -> Any:
        """It runs; its first time, somebody is made its admin."""
        return running_world(settings or self.settings, self.upstream, self.upstream_url, bootstrap=settings is None)


@pytest.fixture
async def deployment(database_url: str, prepared_postgres: Postgres, tmp_path: Path) -> AsyncIterator[Deployment]:
    async def copy(of: str) -> str:
        url = make_url(of)
        if url.get_backend_name() == "sqlite":
            target = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}.db"
            shutil.copy(Path(str(url.database)), target)
            return f"sqlite+aiosqlite:///{target}"
        return await prepared_postgres.fresh(str(url.database))

    async with upstream() as (state, address):
        yield Deployment(settings_for(tmp_path, database_url, address), state, address, copy)


@dataclass
class Before:
    """What the backup holds, and what its holders kept."""

    backup: str
    admin: dict[str, str]
    job: Identity
    credential: str
    intake: tuple[str, str]
    lease: dict[str, Any]
    time: Millis


async def lived(deployment: Deployment) -> Before:
    """A backup is made; afterwards a job and a key are revoked, and a link is spent."""
    async with deployment.world() as world:
        credential = await world.key_for("acme")
        await world.organization("zeta")
        job = await world.job()
        await world.grant(job, "acme", modes=("use", "reveal"))
        lease = await job.lease("acme")
        intake = await world.request_key("zeta")
        admin = world.admin
        await world.call("GET", "/v1/organizations")
    backup, time = await deployment.copy(deployment.settings.database()), now_ms()
    async with deployment.world(deployment.settings) as world:
        world.admin = admin
        await world.call("POST", f"/v1/workloads/{job.id}/revoke", json={"reason": "left"})
        await world.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "exposed"})
        assert (
            await world.submit(*intake, world.upstream.add_key(organization_of(world, "zeta"))[1])
        ).status_code == 200
    return Before(backup, admin, job.identity, credential, intake, lease, time)


def organization_of(world: World, slug: str) -> Any:
    return next(one for one in world.upstream.organizations.values() if one.name == slug)


async def go_on(settings: Settings, since: Millis, clocks: Clocks = REAL) -> restored.Restored:
    """What ``broker restored --since`` does."""
    db = database.open_database(settings)
    base = await restored.size(db)
    await db.close()
    await database.migrate(settings, restored=True)
    async with composition.running(settings, restored=True, clocks=clocks) as broker:
        return await restored.go_on(broker, base, since)


async def test_a_restored_database_is_not_served_until_somebody_said_what_was_lost(deployment: Deployment) -> None:
    before = await lived(deployment)
    back = deployment.over(before.backup)
    with pytest.raises(DatabaseBehind, match="was restored from a backup"):
        async with composition.running(back):
            raise AssertionError("it is served")
    with pytest.raises(DatabaseBehind, match="was restored from a backup"):
        await database.migrate(back)
    done = await go_on(back, before.time)
    assert done.lost_to is not None
    assert done.lost_to > done.base
    assert (done.leases, done.links) == (1, 1)

    async with deployment.world(back) as world:
        world.admin = before.admin
        # What was under way ended.
        assert (await world.proxied(before.lease, "/facilities")).json()["code"] == "lease_over"
        assert (await world.open(*before.intake)).json()["code"] == "intake_expired"
        job = Job(world, before.job)
        # Nobody is shown a key; jobs that are in force again may use keys.
        revealing = await job.ask("acme", mode="reveal")
        assert (revealing.status_code, revealing.json()["code"]) == (403, "reveal_suspended")
        assert (await job.ask("acme")).status_code == 201
        # The record says so, and tells its new numbers from the lost ones.
        events = await world.events(kind="database.restored")
        assert f"base={done.base},lost_to={done.lost_to}" in events[0]["core"]["reason"]
        every = await world.events()
        assert {event["series"] for event in every if event["index"] < done.base} == {None}
        assert len({event["series"] for event in every if event["index"] >= done.base} - {None}) == 1
        notices = await world.call("GET", "/v1/notices")
        assert "database_restored" in {notice["kind"] for notice in notices["items"]}
        # Nothing is done that can't be undone, such as destroying what the link of another request needs.
        late = await world.request_key("zeta", hours=1)
        world.clock.forward(hours=2)
        await world.broker.worker.once()
        assert (await state_of(world, late[0])) == "open"
        # What has to be looked through is listed, with what has come back.
        found = [(row["what"], row["name"]) async for row in restored.to_confirm(world.services.parts.db)]
        assert ("operator", "ada") in found
        assert ("job", "sync") in found
        assert ("grant", "sync") in found
        assert any(what == "active key" for what, _ in found)
        assert await restored.confirm(world.broker)
        assert not await restored.confirm(world.broker)
        await world.broker.worker.once()
        assert (await state_of(world, late[0])) == "expired"
        assert (await job.ask("acme", mode="reveal")).status_code == 201


async def test_every_decision_is_taken_anew_after_a_restore(deployment: Deployment) -> None:
    """Epochs that the lost history had come round to nobody."""
    before = await lived(deployment)
    back = deployment.over(before.backup)
    async with composition.running(back, restored=True) as broker:
        names = [before.job.client_id, before.credential]
        earlier = await epochs(broker, names)
    await go_on(back, before.time)
    async with composition.running(back, restored=True) as broker:
        later = await epochs(broker, names)
    assert all(later[name] != earlier[name] for name in names)


async def state_of(world: World, intake: str) -> str:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return str((await session.get_one(IntakeRow, intake)).state)


async def epochs(broker: composition.Broker, names: list[str]) -> dict[str, int]:
    async with broker.services.parts.db.read(EVERY_TENANT) as session:
        return await epochs_of(session, names)


async def test_the_time_of_the_backup_is_checked(deployment: Deployment) -> None:
    before = await lived(deployment)
    back = deployment.over(before.backup)
    with pytest.raises(Invalid, match="holds events until"):
        await go_on(back, later(before.time, -3_600_000))
    with pytest.raises(Invalid, match="still to come"):
        await go_on(back, later(now_ms(), 60_000))


async def test_a_second_restore_of_the_same_backup_is_noticed_too(deployment: Deployment) -> None:
    before = await lived(deployment)
    again = await deployment.copy(before.backup)
    back = deployment.over(before.backup)
    await go_on(back, before.time)
    third = deployment.over(again)
    with pytest.raises(DatabaseBehind):
        async with composition.running(third):
            raise AssertionError("it is served")


async def test_what_tells_of_a_restore_being_broken_keeps_nobody_from_going_on(
    deployment: Deployment, tmp_path: Path
) -> None:
    """As the refusal says: where the database was restored, run the command."""
    before = await lived(deployment)
    back = deployment.over(before.backup)
    for kept in (tmp_path / "heads").glob("*.json"):
        kept.write_text("cut o")
    with pytest.raises(Unreadable, match="run `broker restored`"):
        async with composition.running(back):
            raise AssertionError("it is served")
    assert (await go_on(back, before.time)).lost_to is None
    async with composition.running(back) as broker:
        assert broker.services.parts.audit.closed is None


@pytest.mark.parametrize("known_to", ["the record", "what is outside alone"])
async def test_a_restore_under_a_clock_that_was_ahead_is_no_dead_end_for_the_next_one(
    deployment: Deployment, known_to: str
) -> None:
    """Its series began later than now; so does the next one."""
    before = await lived(deployment)
    again = await deployment.copy(before.backup)
    back = deployment.over(before.backup)
    ahead = await go_on(back, before.time, Clocks(system=lambda: later(now_ms(), 7_200_000)))
    next_one = back if known_to == "the record" else deployment.over(again)
    async with composition.running(back) as broker:
        await broker.services.parts.audit.append(
            Event(kind="audit.read", time=later(now_ms(), 3_600_000), actor=BROKER)
        )
        await broker.heads.look(broker.services.parts.audit, broker.worker.election)
    # What that clock dated, and is still to come, is not taken for when the backup ended.
    assert (await go_on(next_one, before.time)).began_at > ahead.began_at
    async with composition.running(next_one) as broker:
        assert broker.services.parts.audit.closed is None


async def test_another_host_that_kept_an_older_head_serves_what_was_gone_on_with(
    deployment: Deployment, tmp_path: Path
) -> None:
    before = await lived(deployment)
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "heads", other / "heads")
    back = deployment.over(before.backup)
    await go_on(back, before.time)
    async with composition.running(back.model_copy(update={"state_dir": other})) as broker:
        assert await broker.services.parts.audit.durability.state() == "ok"


async def test_a_database_that_goes_back_under_a_running_broker_is_served_no_more(deployment: Deployment) -> None:
    """Everything but probes and metrics is a 503 that says whom to call, for whoever asks."""
    async with deployment.world() as world:
        await world.key_for("acme")
        world.services.parts.audit.floor = 1_000_000  # so many events this process saw
        seen = await world.http.get("/v1/audit/events", headers=world.admin)
        assert (seen.status_code, seen.json()["code"]) == (503, "database_behind")
        for path in ("/v1/organizations", "/proxy/acme/raptor-comply/facilities", "/intake/x", "/oauth/token"):
            answer = await world.http.get(path, headers=world.admin)
            assert (answer.status_code, answer.json()["code"]) == (503, "database_behind")
        ready = await world.http.get("/readyz?need=database")
        assert (ready.status_code, ready.json()["database"]) == (503, "behind")
        assert (await world.http.get("/healthz")).status_code == 200
        assert "keybroker_database_behind 1.0" in (await world.http.get("/metrics")).text


async def checkpoint(world: World) -> Checkpoint:
    """What the log says of itself, as anybody verifies it by the present key."""
    await world.broker.worker.duties["integrate"].run()
    keys = (await world.http.get("/v1/audit/log/key")).text.splitlines()
    note = (await world.http.get("/v1/audit/log/checkpoint")).content
    return Checkpoint.read(opened(note, Verifier.read(keys[-1])))


async def test_a_database_from_before_a_published_checkpoint_goes_on_only_as_another_log(
    deployment: Deployment,
) -> None:
    async with deployment.world() as world:
        await world.organization("acme")
        first = await checkpoint(world)
        admin = world.admin
    backup, time = await deployment.copy(deployment.settings.database()), now_ms()
    async with deployment.world(deployment.settings) as world:
        world.admin = admin
        await world.organization("zeta")
        published = await checkpoint(world)
        assert (published.origin, published.size > first.size) == (first.origin, True)
    back = deployment.over(backup)
    with pytest.raises(DatabaseBehind, match=r"restored from a backup.*Run `broker restored --since TIME`"):
        async with composition.running(back):
            raise AssertionError("it is served")
    done = await go_on(back, time)
    async with deployment.world(back) as world:
        again = await checkpoint(world)
    # then no size of the first log is signed a second time
    assert again.origin == first.origin.rpartition("/")[0] + f"/{done.began_at}"
    assert again.size > first.size
