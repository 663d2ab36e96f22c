"""Grants and accounts are reviewed in time, by somebody else; each decision is proven."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from broker.archiving import Archiving
from broker.audit.months import month_of
from broker.base.db import EVERY_TENANT
from broker.client import verify
from broker.grants.tables import GrantRow
from broker.leases import use_days
from broker.reviews import commands
from broker.reviews.tables import ReviewRow
from tests.support.integrated import integrate, integrating
from tests.support.world import Job, World, running_world, settings_for, upstream

DAY_H = 24


@pytest.fixture
async def world(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """A broker whose rights are reviewed every sixty days: an account's token lasts ninety."""
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, database_url, url, review_days=60), state, url) as made,
    ):
        yield made


async def look(world: World, days: float = 0) -> None:
    """Let days pass, and the worker look for what is due."""
    world.clock.forward(hours=days * DAY_H)
    await world.broker.worker.duties["review_rights"].run()


async def reviews(world: World, **wanted: Any) -> list[dict[str, Any]]:
    return await world.items("/v1/reviews", **wanted)


async def review_of(world: World, subject: str) -> dict[str, Any]:
    """The pending review of a grant or account, started if there is none."""
    started: dict[str, Any] = await world.call("POST", "/v1/reviews", json={"subject": subject})
    return started


async def decided(
    world: World, review: dict[str, Any], decision: str, as_: dict[str, str], status: int = 200
) -> dict[str, Any]:
    body = {"decision": decision, "reason": f"{decision}: looked at with Bea"}
    made: dict[str, Any] = await world.call(
        "POST", f"/v1/reviews/{review['id']}/decide", json=body, as_=as_, status=status
    )
    return made


async def a_grant(world: World) -> tuple[Job, str]:
    await world.key_for("acme")
    job = await world.job()
    return job, await world.grant(job, "acme")


async def me(world: World, as_: dict[str, str]) -> str:
    return str((await world.call("GET", "/v1/operators/me", as_=as_))["id"])


async def told(world: World) -> list[str]:
    return sorted(one["kind"] for one in await world.items("/v1/notices") if one["kind"].startswith("reviews"))


async def test_grants_and_accounts_become_due_then_overdue_and_people_are_told_once(world: World) -> None:
    _, grant = await a_grant(world)
    ada = await me(world, world.admin)
    await look(world)
    assert await reviews(world) == []
    await look(world, 31)
    due = await reviews(world, state="due")
    assert {one["subject"] for one in due} == {grant, ada}
    of_grant = next(one for one in due if one["subject"] == grant)
    assert (of_grant["organization_slug"], of_grant["workload_name"]) == ("acme", "sync")
    assert await told(world) == ["reviews_due"]
    await look(world)
    assert (await reviews(world), await told(world)) == (due, ["reviews_due"])
    await look(world, 30)
    overdue = await reviews(world, state="overdue")
    assert [one["id"] for one in overdue] == [one["id"] for one in due]
    assert await told(world) == ["reviews_due", "reviews_overdue"]
    assert await reviews(world, state="due") == await reviews(world, state="scheduled") == []


async def test_what_is_kept_is_reviewed_again_when_its_time_has_come(world: World) -> None:
    _, grant = await a_grant(world)
    await look(world, 31)
    (review,) = [one for one in await reviews(world) if one["subject"] == grant]
    bea = await world.operator("bea", "security")
    made = await decided(world, review, "keep", bea)
    assert (made["state"], made["decision"], made["decided_by"]) == ("decided", "keep", await me(world, bea))
    # then its event is on the record, and the next review is planned
    (event,) = await world.events(kind="review.decided")
    assert event["core"]["grant"] == grant
    assert event["core"]["reason"] == f"keep,review={review['id']},due={review['due_at']}"
    assert event["personal"]["note"] == "keep: looked at with Bea"
    assert event["core"]["id"] == made["event"]
    (planned,) = [one for one in await reviews(world, state="scheduled") if one["subject"] == grant]
    assert planned["due_at"] > review["due_at"]
    # a repeat changes nothing, and another decision is too late
    assert await decided(world, review, "keep", bea) == made
    assert (await decided(world, review, "revoke", bea, status=409))["code"] == "conflict"
    assert len(await world.events(kind="review.decided")) == 1
    await look(world, 31)
    assert [one["id"] for one in await reviews(world, state="due") if one["subject"] == grant] == [planned["id"]]


async def test_nobody_keeps_what_they_made_or_hold_themselves_but_may_give_it_up(world: World) -> None:
    _, grant = await a_grant(world)
    bea = await world.operator("bea", "security")
    account = await review_of(world, await me(world, bea))
    assert (await decided(world, account, "keep", bea, status=403))["code"] == "own_review"
    assert (await decided(world, account, "keep", world.admin))["account_name"] == "bea"
    review = await review_of(world, grant)
    for decision in ("keep", "tighten"):
        status = 403 if decision == "keep" else 409  # it was never used, which is found first
        await decided(world, review, decision, world.admin, status=status)
    assert (await decided(world, review, "revoke", world.admin))["decision"] == "revoke"
    assert (await world.call("GET", f"/v1/grants/{grant}"))["state"] == "revoked"


async def test_to_revoke_ends_what_was_reviewed(world: World) -> None:
    job, grant = await a_grant(world)
    bea, eve = await world.operator("bea", "security"), await world.operator("eve", "operator")
    lease = await job.lease("acme")
    await decided(world, await review_of(world, grant), "revoke", bea)
    refused = await world.proxied(lease, "/facilities")
    assert (refused.status_code, refused.json()["code"]) == (403, "grant_revoked")
    (event,) = await world.events(kind="grant.revoked")
    assert event["personal"]["note"] == "revoke: looked at with Bea"
    account = await review_of(world, await me(world, eve))
    assert "admin" in (await decided(world, account, "revoke", bea, status=403))["detail"]
    await decided(world, account, "revoke", world.admin)
    await world.call("GET", "/v1/operators/me", as_=eve, status=401)
    # nothing is planned for what ended, and there is nothing more to start
    assert await reviews(world, state="scheduled") == []
    await world.call("POST", "/v1/reviews", json={"subject": grant}, status=409)


async def test_to_tighten_narrows_the_grant_to_what_it_was_used_for(world: World) -> None:
    job, grant = await a_grant(world)
    await world.proxied(await job.lease("acme"), "/facilities")
    bea = await world.operator("bea", "security")
    await decided(world, await review_of(world, grant), "tighten", bea)
    now = await world.call("GET", f"/v1/grants/{grant}")
    assert now["rules"] == [{"methods": ["GET"], "paths": ["/facilities"]}]
    kinds = [one["core"]["kind"] for one in await world.events(limit=500)]
    assert kinds.index("grant.tightened") < kinds.index("review.decided")
    account = await review_of(world, await me(world, bea))
    assert (await decided(world, account, "tighten", world.admin, status=422))["detail"].startswith("decision: ")


async def test_a_review_is_started_before_its_time_once(world: World) -> None:
    _, grant = await a_grant(world)
    started = await review_of(world, grant)
    assert started["state"] == "due"
    assert await review_of(world, grant) == started
    (event,) = await world.events(kind="review.started")
    assert event["core"]["grant"] == grant
    await look(world, 31)
    assert len([one for one in await reviews(world) if one["subject"] == grant]) == 1
    await world.call("POST", "/v1/reviews", json={"subject": "grt_" + "0" * 32}, status=404)


async def test_a_review_of_what_ended_meanwhile_is_no_work(world: World) -> None:
    _, grant = await a_grant(world)
    started = await review_of(world, grant)
    await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    assert (await world.call("GET", f"/v1/reviews/{started['id']}"))["state"] == "ended"
    assert await reviews(world, state="due") == []
    await look(world, 31)
    assert [one["subject"] for one in await reviews(world, state="ended")] == [grant]
    assert await told(world) == ["reviews_due"], "of the account alone"


async def test_a_review_of_what_ended_is_ended_within_the_hour_page_by_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.key_for("acme")
    job = await world.job()
    grants = [await world.grant(job, "acme") for _ in range(5)]
    monkeypatch.setattr(commands, "PAGE", 2)
    await look(world, 31)

    async def kept_as(state: str) -> int:
        """How many are kept as that, whatever is shown."""
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            rows = await session.scalars(select(ReviewRow.id).where(ReviewRow.state == state))
            return len(rows.all())

    assert await kept_as("due") == 6, "of the grants, and of the account"
    for grant in grants[1:4]:
        await world.call("POST", f"/v1/grants/{grant}/revoke", json={})
    await look(world)
    assert (await kept_as("due"), await kept_as("ended")) == (3, 3)
    # and so are those that are overdue
    await look(world, 30)
    await world.call("POST", f"/v1/grants/{grants[4]}/revoke", json={})
    await look(world)
    assert (await kept_as("overdue"), await kept_as("ended")) == (2, 4)


async def test_many_grants_are_opened_page_by_page_each_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.key_for("acme")
    job = await world.job()
    grants = [await world.grant(job, "acme") for _ in range(7)]
    await world.call("POST", f"/v1/grants/{grants[6]}/revoke", json={})
    monkeypatch.setattr(commands, "PAGE", 2)
    await look(world, 31)
    await look(world)
    assert sorted(one["subject"] for one in await reviews(world) if one["organization"]) == grants[:6]


async def test_a_limited_account_sees_and_decides_what_is_its_customers_alone(world: World) -> None:
    _, grant = await a_grant(world)
    await world.key_for("globex")
    other = await world.grant(await world.job("other"), "globex")
    await look(world, 31)
    amy = await world.operator("amy", "security", organizations=["acme"])
    seen = (await world.call("GET", "/v1/reviews", as_=amy))["items"]
    assert [one["subject"] for one in seen] == [grant]
    elsewhere = next(one for one in await reviews(world) if one["subject"] == other)
    await decided(world, elsewhere, "keep", amy, status=404)
    await world.call("POST", "/v1/reviews", json={"subject": other}, as_=amy, status=404)


async def test_decisions_are_exported_with_receipts_that_anybody_verifies(world: World) -> None:
    _, grant = await a_grant(world)
    bea = await world.operator("bea", "security")
    made = await decided(world, await review_of(world, grant), "keep", bea)
    account = await decided(world, await review_of(world, await me(world, bea)), "keep", world.admin)
    async with integrating(world):
        answer = await world.http.get("/v1/reviews/export", params={"personal": True}, headers=world.admin)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in lines] == ["decision", "decision", "end"]
    assert [line["review"] for line in lines[:-1]] == [made["id"], account["id"]]
    assert lines[-1]["decisions"] == 2
    trusted = verify.keys((await world.http.get("/v1/audit/log/key")).text)
    for line in lines[:-1]:
        proven = verify.receipt(line["receipt"], trusted)
        assert proven.core["id"] == line["event"]
        assert proven.core["reason"].startswith(f"keep,review={line['review']}")
        assert proven.personal is not None
        assert proven.personal["note"] == "keep: looked at with Bea"
    # and a time in which nothing was decided has none
    world.clock.forward(hours=1)
    async with integrating(world):
        begin = {"since": "2999-01-01T00:00:00Z", "until": "2999-01-02T00:00:00Z"}
        later = await world.http.get("/v1/reviews/export", params=begin, headers=world.admin)
    assert json.loads(later.text)["decisions"] == 0


async def test_a_decision_whose_month_was_archived_is_exported_without_a_receipt(
    tmp_path: Path, sqlite_url: str
) -> None:
    """It is not refused: who decided what stays known, and the archive has the event."""
    # PostgreSQL goes by its own clock, which no test moves to another month.
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, sqlite_url, url), state, url) as world,
    ):
        _, grant = await a_grant(world)
        made = await decided(world, await review_of(world, grant), "keep", await world.operator("bea", "security"))
        world.clock.forward(hours=40 * DAY_H)
        await world.call("GET", "/v1/audit/events")  # something happens in the new month
        await integrate(world)
        await use_days.duty(world.services.parts.db).do(1)
        (folder := tmp_path / "archives").mkdir()
        archiving = Archiving(world.broker, folder, lambda _done, _total: None)
        assert [one.month async for one in archiving.before(month_of(world.clock()))]
        async with integrating(world):
            answer = await world.http.get("/v1/reviews/export", headers=world.admin)
        line, end = [json.loads(line) for line in answer.text.splitlines()]
        assert (line["review"], line["decision"], line["event"]) == (made["id"], "keep", made["event"])
        assert (line["receipt"], end["decisions"]) == (None, 1)


async def test_who_writes_the_database_beside_the_broker_makes_no_evidence(world: World) -> None:
    """What nobody decided has no event, and a grant that was altered is not kept."""
    _, grant = await a_grant(world)
    review = await review_of(world, grant)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(GrantRow).where(GrantRow.id == grant).values(max_ttl=1))
        assert (await session.scalars(select(ReviewRow.event_id))).all() == [None]
    refused = await decided(world, review, "keep", await world.operator("bea", "security"), status=409)
    assert "nothing to keep" in refused["detail"]
