"""Clocks that are wrong, for a moment or for long: nothing is undone for good, and what was over stays over."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.support.world import Job, World, WorldClock, running_world, settings_for, upstream

FINAL = {
    "confirm_revocations",
    "make_keys",
    "retire_due",
    "ask_for_due",
    "expire_links",
    "close_lost_uses",
    "sweep_orphans",
    "forget_proofs",
    "forget_dpop_proofs",
    "forget_assertions",
    "forget_ceremonies",
    "forget_sign_ins",
    "forget_sessions",
    "forget_links",
    "forget_device_sign_ins",
    "forget_logout_tokens",
    "expire_trusts",
    "forget_platform_tokens",
    "remind_of_accounts",
    "review_rights",
    "forget_answers",
    "retire_log_key",
    *(f"prune_{what}" for what in ("leases", "guards", "quotas", "use_days", "notices", "deliveries")),
    *(f"prune_{what}" for what in ("intakes", "rotations", "evidence", "record", "organization_days")),
}
GO_ON = {
    "verify_due",
    "catch_up",
    "check_suspects",
    "check_health",
    "cut_off_rest",
    "count",
    "work",
    "index_record",
    "integrate",
    "head_organizations",
    "make_months",
    "count_uses",
    "date_keys",
    "forget_sinks",
    "recheck_sign_ins",
    "watch_issuers",
}
Restart = Callable[[float], AbstractAsyncContextManager[World]]


@pytest.fixture
async def restarted(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Restart]:
    """A broker over one file of SQLite, begun while the system's clock is wrong by so many hours, each time later."""
    admin: dict[str, str] = {}
    seconds = itertools.count(step=5)
    async with upstream() as (state, url):

        @asynccontextmanager
        async def begin(wrong_by_hours: float) -> AsyncIterator[World]:
            clock = WorldClock()
            clock.forward(seconds=next(seconds))
            clock.jump(hours=wrong_by_hours)
            settings = settings_for(tmp_path, sqlite_url, url)
            async with running_world(settings, state, url, bootstrap=not admin, clock=clock) as world:
                admin.update(world.admin)
                world.admin = admin
                yield world

        yield begin


async def with_a_job(world: World) -> Job:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    return job


async def state(world: World) -> str:
    await world.services.timekeeping.look()
    return str((await world.call("GET", "/readyz"))["clock"])


async def worked(world: World, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the worker does in a round."""
    done: set[str] = set()

    def noting(name: str) -> Any:
        async def note() -> None:
            done.add(name)

        return note

    with monkeypatch.context() as patched:
        for name, duty in world.broker.worker.duties.items():
            patched.setattr(duty, "run", noting(name))
            patched.setattr(duty, "every", 0)
        await world.broker.worker.once()
    return done


async def test_while_the_time_is_not_believed_work_that_can_not_be_undone_rests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await worked(world, monkeypatch) == FINAL | GO_ON
    for hours in (2, -2):
        world.clock.jump(hours=hours)
        assert await worked(world, monkeypatch) == GO_ON
        assert await state(world) == "system"
        world.clock.jump(hours=-hours)
        assert await worked(world, monkeypatch) == FINAL | GO_ON


async def test_what_comes_later_in_a_round_rests_as_soon_as_the_time_is_not_believed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    duties, confirmed = world.broker.worker.duties, asyncio.Event()

    async def jump() -> None:
        world.clock.jump(hours=2)
        await state(world)

    async def confirm() -> None:
        confirmed.set()

    monkeypatch.setattr(duties["verify_due"], "run", jump)  # which is done first
    monkeypatch.setattr(duties["confirm_revocations"], "run", confirm)
    await world.broker.worker.once()
    assert not confirmed.is_set()


async def test_it_rests_also_where_the_databases_clock_is_off(
    restarted: Restart, monkeypatch: pytest.MonkeyPatch, postgres_url: str, tmp_path: Path
) -> None:
    async with upstream() as (there, url):
        settings = settings_for(tmp_path / "with-a-server", postgres_url, url)
        async with running_world(settings, there, url) as world:
            world.clock.database_wrong = -90_000
            assert await worked(world, monkeypatch) == GO_ON
            assert await state(world) == "database"


async def test_it_is_said_once_shown_and_no_reason_to_take_a_broker_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []
    log = SimpleNamespace(
        info=lambda event, *, cause, **_: said.append((event, cause)),
        warning=lambda event, *, cause, **_: said.append((event, cause)),
    )
    monkeypatch.setattr("broker.audit.timekeeping._log", log)
    for hours in (2, 0, -2, 0, -2, 0):
        world.clock.jump(hours=hours)
        assert await state(world) == ("system" if world.clock.wrong else "ok")
    assert said == [("clock.not_believed", "system"), ("clock.believed", "ok"), ("clock.not_believed", "system")]
    answer = await world.http.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ok")
    shown = (await world.http.get("/metrics")).text
    assert 'keybroker_clock_off{cause="system"} 1.0' in shown
    assert 'keybroker_clock_off{cause="record"} 0.0' in shown


async def test_a_clock_that_is_hours_ahead_for_a_moment_changes_nothing(world: World) -> None:
    job = await with_a_job(world)
    assertion, lease = job.assertion(), await job.lease("acme")
    assert (await job.token(client_assertion=assertion)).status_code == 200
    await world.organization("globex")
    intake, secret = await world.request_key("globex", hours=1)
    for hours in (2, 216):
        # when
        world.clock.jump(hours=hours)
        await world.work()
        await world.work(seconds=20)
        # then answers are those of the right time
        assert (await world.open(intake, secret)).json()["state"] == "open"
        assert (await world.proxied(lease, "/facilities")).status_code == 200
        assert (await job.token(client_assertion=assertion)).status_code == 401
        assert (await job.token()).status_code == 200
        # and the same afterwards
        world.clock.jump(hours=-hours)
        await world.work()
        assert (await job.token(client_assertion=assertion)).status_code == 401
        elsewhere = running_world(
            world.settings, world.upstream, world.upstream_url, bootstrap=False, clock=world.clock
        )
        async with elsewhere as other:  # which remembers nothing
            assert (await Job(other, job.identity).token(client_assertion=assertion)).status_code == 401
        assert (await world.open(intake, secret)).json()["state"] == "open"
        assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert max(event["core"]["time"] for event in await world.events()) <= world.clock()


async def test_a_clock_that_is_days_ahead_for_a_moment_retires_no_key(world: World) -> None:
    credential = await world.key_for("acme")
    _, intake, secret = await world.rotate(credential)
    await world.submit(intake, secret, world.new_key("acme"))
    assert await world.states(credential) == ["retiring", "active"]
    world.clock.jump(hours=216)
    await world.work()
    await world.work(seconds=25)
    world.clock.jump(hours=-216)
    await world.work()
    assert await world.states(credential) == ["retiring", "active"]


async def test_a_broker_that_was_started_with_a_clock_ahead_destroys_nothing(restarted: Restart) -> None:
    async with restarted(0) as world:
        job = await with_a_job(world)
        assertion = job.assertion()
        assert (await job.token(client_assertion=assertion)).status_code == 200
        await world.organization("globex")
        intake, secret = await world.request_key("globex")
    for name in ("bea", "cyd"):
        async with restarted(216) as world:
            assert await state(world) == "unproven"
            await world.work(seconds=20)
            assert (await world.open(intake, secret)).status_code == 410, "refused for now"
            await world.operator(name, "security")  # which is on the record
    async with restarted(0) as world:
        await world.work()
        assert (await world.open(intake, secret)).json()["state"] == "open"
        assert (await Job(world, job.identity).token(client_assertion=assertion)).status_code == 401


async def test_what_was_over_by_a_wrong_clock_stays_over_and_the_broker_settles_by_itself(
    restarted: Restart, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with restarted(0) as world:
        job = await with_a_job(world)
        early, token = await job.lease("acme"), await job.headers()
    async with restarted(2) as world:
        late = await Job(world, job.identity).token()
        assert late.status_code == 401, "its assertion is two hours old here"
        assert (await world.proxied(early, "/facilities")).json()["code"] == "lease_over"
        assert (await world.call("GET", "/v1/leases", as_=token, status=401))["code"] == "unauthenticated"
        await world.call("POST", "/v1/organizations", status=201, json={"slug": "late", "name": "Late"})
    async with restarted(0) as world:
        # when the clock is right again, though behind the record
        assert await state(world) == "record"
        assert (await world.proxied(early, "/facilities")).json()["code"] == "lease_over"
        assert (await world.call("GET", f"/v1/leases/{early['lease']['id']}"))["state"] != "active"
        assert (await world.call("GET", "/v1/leases", as_=token, status=401))["code"] == "unauthenticated"
        # then a job has what it asks for again
        job.world = world
        job.forget()
        lease = await job.lease("acme")
        assert (await world.proxied(lease, "/facilities")).status_code == 200
        # and the work begins again by itself
        assert await worked(world, monkeypatch) == GO_ON
        world.clock.forward(hours=1.1)
        assert await worked(world, monkeypatch) == FINAL | GO_ON


async def test_a_clock_that_is_set_back_while_a_broker_runs_ends_what_would_last_too_long(restarted: Restart) -> None:
    async with restarted(0) as world:
        # given a broker, and its jobs, on a machine whose clock was wrong from the beginning
        job = await with_a_job(world)
        lease, token = await job.lease("acme"), await job.headers()
        # when that is set back, and stands
        world.clock.jump(hours=-2)
        assert await state(world) == "system"
        assert (await world.proxied(lease, "/facilities")).status_code == 200
        world.clock.forward(seconds=610)
        await world.services.timekeeping.look()
        # then its leases and tokens are over, not two hours longer than others
        assert await state(world) == "record"
        assert (await world.proxied(lease, "/facilities")).json()["code"] == "lease_over"
        assert (await world.call("GET", "/v1/leases", as_=token, status=401))["code"] == "unauthenticated"


async def test_a_broker_compares_its_clock_all_the_while(world: World) -> None:
    keeping = type(world.services.timekeeping)(
        world.services.parts.db, world.services.parts.clock, world.clock.clocks()
    )
    watching = asyncio.create_task(keeping.watch(every_s=0.01))
    world.clock.jump(hours=2)
    await eventually(lambda: keeping.state == "system")
    world.clock.jump(hours=-2)
    await eventually(lambda: keeping.state == "ok")
    keeping.stop()
    await watching
