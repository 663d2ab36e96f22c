"""What holds in one broker holds across several: over one PostgreSQL, or one file of SQLite and who writes there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text, update

from broker.audit.events import BROKER, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.audit.through_parent import written
from broker.base.clock import later
from broker.base.db import EVERY_TENANT, Database
from broker.base.one_writer import OneWriter
from broker.base.parent import Parent
from broker.care.health import SUSPECT, suspicion
from broker.credentials.tables import VersionRow
from broker.credentials.versions import versions_of
from broker.formats.assertion import ASSERTION_TYPE
from broker.leases.tables import LeaseRow
from tests.support.databases import Postgres
from tests.support.waiting import eventually
from tests.support.world import Job, World, running_world, settings_for, upstream


@asynccontextmanager
async def three(directory: Path, database_url: str, parents: Sequence[Parent | None]) -> AsyncIterator[list[World]]:
    """Three brokers over one database."""
    async with upstream() as (state, url), AsyncExitStack() as stack:
        settings = settings_for(directory, database_url, url)
        worlds = [
            await stack.enter_async_context(running_world(settings, state, url, bootstrap=not place, parent=parent))
            for place, parent in enumerate(parents)
        ]
        for other in worlds[1:]:
            other.admin, other.upstream_keys = worlds[0].admin, worlds[0].upstream_keys
        yield worlds


@pytest.fixture
async def on_postgres(tmp_path: Path, postgres_url: str) -> AsyncIterator[list[World]]:
    """Three brokers over one PostgreSQL."""
    async with three(tmp_path, postgres_url, [None] * 3) as worlds:
        yield worlds


@pytest.fixture
async def on_sqlite(tmp_path: Path, sqlite_url: str) -> AsyncIterator[list[World]]:
    """Three over one file, to which their parent writes."""
    file = Database(sqlite_url).file
    assert file is not None
    with OneWriter(file, written).running() as entrance:
        async with three(tmp_path, sqlite_url, [Parent(entrance, lambda: None) for _ in range(3)]) as worlds:
            yield worlds


@pytest.fixture(params=["on_sqlite", "on_postgres"])
def replicas(request: pytest.FixtureRequest) -> list[World]:
    """Three brokers over one database of each kind."""
    found: list[World] = request.getfixturevalue(request.param)
    return found


def at(job: Job, world: World) -> Job:
    """The same workload, asking another replica."""
    return Job(world, job.identity)


async def test_a_message_of_a_revocation_makes_another_replicas_snapshot_fall_before_it_is_used(
    on_postgres: list[World],
) -> None:
    one, two, _ = on_postgres
    credential = await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    await at(job, two).lease("acme")
    snapshots = two.services.snapshots
    kept = snapshots.kept.entries()[0][1]
    assert not snapshots.outdated(kept)
    await one.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "x"})
    await eventually(lambda: snapshots.outdated(kept))  # without a request


async def test_messages_of_any_other_epoch_make_a_snapshot_fall(replicas: list[World]) -> None:
    """Epochs are drawn: a later one is not a larger one."""
    one, _, _ = replicas
    credential = await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    await job.lease("acme")
    snapshots = one.services.snapshots
    target, kept = snapshots.kept.entries()[0]
    assert await snapshots.get(target) is kept
    snapshots.heard(f"{credential} {kept.epochs[credential] - 1}")
    assert await snapshots.get(target) is not kept
    # and what was heard before messages were missed makes nothing fall that was read since
    snapshots.forget()
    assert not snapshots.outdated(kept)


async def test_without_any_message_the_guards_refuse_all_the_same(
    replicas: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Freshness may fail; correctness may not."""
    one, two, _ = replicas
    credential = await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    monkeypatch.setattr(two.services.snapshots, "outdated", lambda _kept: False)
    await at(job, two).lease("acme")
    await one.call("POST", f"/v1/credentials/{credential}/revoke", json={"reason": "x"})
    assert (await at(job, two).ask("acme")).status_code == 403


async def test_a_message_that_may_have_been_missed_empties_the_memory(
    on_postgres: list[World], prepared_postgres: Postgres
) -> None:
    one, two, _ = on_postgres
    await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    await at(job, two).lease("acme")
    snapshots = two.services.snapshots
    assert snapshots.kept
    listeners = await listening(two)
    # when every broker loses its connection for messages
    await prepared_postgres.admin(f"SELECT pg_terminate_backend(pid) FROM unnest(ARRAY{listeners}) AS pid")
    # then it is noticed at once
    await eventually(lambda: not snapshots.kept)

    # and it listens again
    async def all_new() -> bool:
        now = await listening(two)
        return len(now) == len(listeners) and not set(now) & set(listeners)

    await eventually(all_new)
    await at(job, two).lease("acme")
    kept = snapshots.kept.entries()[0][1]
    grant = (await one.call("GET", "/v1/grants"))["items"][0]["id"]
    await one.call("POST", f"/v1/grants/{grant}/revoke", json={})
    await eventually(lambda: snapshots.outdated(kept))


async def test_a_message_that_a_job_was_revoked_closes_what_its_token_opened_elsewhere(
    on_postgres: list[World], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, _ = on_postgres
    job = await one.job()
    headers = await job.headers()
    monkeypatch.setattr("broker.identity.jobs._FRESH_MS", 600_000)  # but for the messages, memory would be believed
    await two.call("GET", "/v1/leases", as_=headers)
    await one.call("POST", "/v1/workloads/sync/revoke", json={"reason": "retired"})

    async def refused() -> bool:
        return (await two.http.get("/v1/leases", headers=headers)).status_code == 403

    await eventually(refused)


async def listening(world: World) -> list[int]:
    """The connections on which the brokers of this database hear messages."""
    news = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'keybroker news'"
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return list(await session.scalars(text(f"{news} AND state = 'idle' AND query <> ''")))


async def test_a_rate_is_one_rate_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme", rate={"uses": 5, "seconds": 3600})
    lease = await job.lease("acme")
    answers = await asyncio.gather(*(world.proxied(lease, "/facilities") for _ in range(5) for world in replicas))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (5, 10)


async def test_a_number_of_uses_is_one_number_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme", max_uses=4)
    lease = await job.lease("acme")
    answers = await asyncio.gather(*(world.proxied(lease, "/facilities") for _ in range(4) for world in replicas))
    assert [answer.status_code for answer in answers].count(200) == 4


async def test_an_idempotency_key_is_one_request_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    job = await one.job()
    await one.organization("acme")
    grant = {"workload": job.id, "organizations": ["acme"], "provider": "raptor-comply", "modes": ["use"]}
    link = {"organization": "acme", "provider": "raptor-comply", "contact": "a@b.example"}
    organization = {"slug": "umbrella", "name": "Umbrella"}
    wanted = {"/v1/organizations": organization, "/v1/grants": grant, "/v1/intakes": link}
    for path, body in wanted.items():
        headers = {**one.admin, "Idempotency-Key": f"the-one-{path}"}
        answers = await asyncio.gather(
            *(world.http.post(path, headers=headers, json=body) for _ in range(3) for world in replicas)
        )
        # then: one was carried out, and every repeat, also one that came within it, has its answer
        assert [answer.status_code for answer in answers] == [201] * 9, path
        assert len({answer.text for answer in answers}) == 1, path
    assert len((await one.call("GET", "/v1/grants"))["items"]) == 1
    assert len((await one.call("GET", "/v1/intakes"))["items"]) == 1


async def test_a_key_pasted_twice_at_once_under_one_idempotency_key_is_pasted_once(replicas: list[World]) -> None:
    one, two, _ = replicas
    await one.organization("acme")
    body = {"organization": "acme", "provider": "raptor-comply", "key": one.upstream_keys["acme"]}
    headers = {**one.admin, "Idempotency-Key": "paste"}
    answers = await asyncio.gather(
        *(world.http.post("/v1/credentials", headers=headers, json=body) for world in (one, two) * 2)
    )
    codes = {answer.json().get("code", "made") for answer in answers}
    assert "made" in codes
    assert codes <= {"made", "request_under_way"}, "never a refusal of what the same request did"
    repeated = await two.http.post("/v1/credentials", headers=headers, json=body)
    assert repeated.text in {answer.text for answer in answers if answer.status_code == 201}


async def test_who_loses_a_race_is_told_of_a_conflict_not_of_an_outage(replicas: list[World]) -> None:
    for number in range(3):
        body = {"slug": f"umbrella-{number}", "name": "Umbrella"}
        answers = await asyncio.gather(
            *(
                world.http.post("/v1/organizations", headers=world.admin, json=body)
                for _ in range(3)
                for world in replicas
            )
        )
        statuses = [answer.status_code for answer in answers]
        assert (statuses.count(201), statuses.count(409)) == (1, 8)
        assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"conflict"}


async def test_a_lease_is_issued_once_for_an_idempotency_key_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    headers = {"Idempotency-Key": "lease-once"}
    answers = await asyncio.gather(
        *(at(job, world).ask("acme", headers=headers) for _ in range(4) for world in replicas)
    )
    leases = {answer.json()["lease"]["id"] for answer in answers if answer.status_code == 201}
    assert len(leases) == 1
    assert len((await one.call("GET", "/v1/leases"))["items"]) == 1


async def test_an_assertion_is_taken_once_over_all(replicas: list[World]) -> None:
    job = await replicas[0].job()
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": job.identity.assertion(),
    }
    answers = await asyncio.gather(
        *(world.http.post("/oauth/token", data=form) for _ in range(3) for world in replicas)
    )
    assert [answer.status_code for answer in answers].count(200) == 1


async def test_a_one_time_link_is_used_once_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    await one.organization("acme")
    intake, secret = await one.request_key("acme")
    keys = [one.new_key("acme") for _ in range(6)]
    answers = await asyncio.gather(
        *(world.submit(intake, secret, key) for world, key in zip(replicas * 2, keys, strict=True))
    )
    accepted = [answer for answer in answers if answer.status_code == 200 and answer.json()["state"] == "accepted"]
    assert len(await one.events(kind="intake.submitted")) == 1
    assert len(accepted) >= 1
    credential = (await one.call("GET", "/v1/credentials"))["items"]
    assert len(credential) == 1
    assert len(await one.versions(credential[0]["id"])) == 1


async def test_wrong_guesses_at_a_link_are_counted_over_all(replicas: list[World]) -> None:
    one = replicas[0]
    await one.organization("acme")
    intake, _ = await one.request_key("acme")
    # also where they all come at once
    answers = await asyncio.gather(*(world.open(intake, "wrong" * 8) for _ in range(20) for world in replicas))
    assert Counter(answer.status_code for answer in answers) == {404: 20, 429: 40}


async def test_a_batch_with_a_suspicion_does_not_wait_for_who_moves_the_keys_versions(on_postgres: list[World]) -> None:
    """Who moves them waits for the record's head next, which the batch holds: each would wait for the other."""
    one, two, _ = on_postgres
    credential = await one.key_for("acme")
    late = later(one.services.parts.clock(), 60_000)
    suspect = (SUSPECT, suspicion(credential, 1, late))
    event = Event(kind="use.completed", time=late, actor=BROKER, credential=credential)
    async with one.services.parts.db.write(EVERY_TENANT) as session:
        # given an operator's change that holds the versions and hasn't come to the record yet
        versions = await versions_of(session, credential)
        # when a job's bad-key answer is recorded meanwhile, then it is not held up
        await two.services.parts.audit.append(event, writes=[suspect])
        before = versions[1].next_probe_at
        await raise_epoch(session, credential)
        await record(session, event)
    # and the next bad-key answer makes the key suspect
    await two.services.parts.audit.append(event, writes=[suspect])
    async with one.services.parts.db.read(EVERY_TENANT) as session:
        probed = (await session.get_one(VersionRow, (credential, 1))).next_probe_at
    assert before != 0
    assert probed == 0, "due at once"


async def test_an_exposure_and_a_batch_that_ends_a_lease_do_not_wait_for_each_other(on_postgres: list[World]) -> None:
    one, two, three = on_postgres
    credential = await one.key_for("acme")
    job = await one.job()
    await one.grant(job, "acme")
    lease = (await job.lease("acme"))["lease"]["id"]

    async def waits_for_the_head() -> bool:
        async with three.services.parts.db.read(EVERY_TENANT) as looking:
            return bool(await looking.scalar(text(_WAITS_FOR_THE_HEAD)))

    async with one.services.parts.db.write(EVERY_TENANT) as session:
        # given a batch that holds the record's head, for which an exposure waits
        await record(session, Event(kind="audit.read", time=one.services.parts.clock(), actor=BROKER))
        path = f"/v1/credentials/{credential}/exposure"
        exposing = asyncio.create_task(two.call("POST", path, json={"found_by": "scan", "where": "a repository"}))
        await eventually(waits_for_the_head)
        # then the batch changes the lease all the same
        await session.execute(update(LeaseRow).where(LeaseRow.id == lease).values(end_reason="renewed"))
    await exposing
    assert (await one.call("GET", f"/v1/leases/{lease}"))["state"] != "active"


_WAITS_FOR_THE_HEAD = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%keybroker_%'
"""
