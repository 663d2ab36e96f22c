"""Rotation as a state machine: whatever operators, customers, upstream and time do, a usable key stays usable."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from broker.base.clock import DAY_MS
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import RotationRow, VersionRow
from broker.intake.tables import IntakeRow
from broker.sandbox.state import Faults
from tests.support.databases import sqlite_template
from tests.support.world import World, running_world, settings_for, upstream

OPEN = ("requested", "verifying", "held", "grace", "failing")
LAWFUL = {
    "promote": {"held", "grace"},
    "rollback": {"grace", "failing"},
    "cancel": {"requested", "verifying", "held"},
}
NAMES = {"promote": "promote", "rollback": "roll_back", "cancel": "cancel"}
CUTS = ("revoke", "destroy", "expose")

# How often each step was taken in each state: what was never reached was never tested.
reached: Counter[tuple[str, str]] = Counter()


class Rotating(RuleBasedStateMachine):
    """One credential on a real broker with a real upstream."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.tenants: dict[int, Any] = {}  # by version: whose key it is upstream
        self.keys: dict[int, str] = {}
        self.none_in_use = False  # by somebody's decision
        self.world: World = self.runner.run(self.start())

    async def start(self) -> World:
        path = Path(self.directory.name)
        template = await sqlite_template(path / "broker.db")
        state, url = await self.stack.enter_async_context(upstream())
        settings_ = settings_for(path, f"sqlite+aiosqlite:///{template}", url)
        world: World = await self.stack.enter_async_context(running_world(settings_, state, url))
        world.clock.forward(hours=24)  # it may step back from here; jobs' own clocks don't
        self.credential = await world.key_for("acme")
        self.tenants[1] = next(iter(state.organizations.values()))
        self.keys[1] = world.upstream_keys["acme"]
        self.job = await world.job()
        await world.grant(self.job, "acme")
        return world

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    # What is there

    def rows(self, table: Any) -> list[Any]:
        async def read() -> list[Any]:
            async with self.world.services.parts.db.read(EVERY_TENANT) as session:
                return list(await session.scalars(select(table)))

        return self.runner.run(read())

    def present(self) -> RotationRow | None:
        rows: list[RotationRow] = self.rows(RotationRow)
        return next((row for row in rows if row.ended_at is None), None)

    def state(self) -> str:
        row = self.present()
        return row.state if row is not None else "none"

    def version_in(self, *states: str) -> int | None:
        rows: list[VersionRow] = self.rows(VersionRow)
        return max((row.number for row in rows if row.state in states), default=None)

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.runner.run(self.world.http.post(path, headers=self.world.admin, json=body))
        assert answer.status_code < 500, answer.text
        return answer

    def work(self, hours: float = 0) -> None:
        self.runner.run(self.world.work(hours=hours))

    # How a state is come to

    def reach(self, wanted: str) -> bool:
        """Come to a state of a rotation of a key in use, from wherever this is; whether it worked."""
        for _ in range(3):
            if self.version_in("active") is None:
                self.world.upstream.faults = Faults()
                self.ask_for_a_key()
                self.submit(self.own_tenant())
                self.the_operator_decides_for_a_held_key()
            if self.state() == wanted:
                break
            self.world.upstream.faults = Faults()
            self.ask_for_a_key()
            if wanted == "verifying":
                self.world.upstream.faults = Faults(outage=True)
            if wanted == "held":
                self.submit(self.world.upstream.add_organization(f"stranger {len(self.rows(VersionRow))}"))
            elif wanted != "requested":
                self.submit(self.own_tenant())
            if wanted == "failing" and self.state() == "grace":
                self.upstream_refuses_the_new_key()
        return self.state() == wanted and self.version_in("active") is not None

    def the_operator_decides_for_a_held_key(self) -> None:
        row = self.present()
        if row is not None and row.state == "held":
            self.post(f"/v1/rotations/{row.id}/promote")

    def ask_for_a_key(self) -> None:
        """An open rotation that waits for a key."""
        row = self.present()
        if row is not None and (row.state != "requested" or self.link_for(row) is None):
            self.post(f"/v1/rotations/{row.id}/{'cancel' if row.state in LAWFUL['cancel'] else 'rollback'}", {})
        while (waiting := self.version_in("staged", "verified")) is not None:
            self.post(f"/v1/credentials/{self.credential}/versions/{waiting}/revoke", {})
        self.work()  # what the key in use shows is known from here on
        self.post(f"/v1/credentials/{self.credential}/rotate", {"contact": "a@acme.example"})

    def link_for(self, row: RotationRow) -> str | None:
        """The secret of a fresh link for a rotation that waits for a key."""
        made = self.post(f"/v1/intakes/{row.intake_id}/link", {})
        return made.json()["link"].partition("#")[2] if made.status_code == 200 else None

    def own_tenant(self) -> Any:
        return self.tenants[self.version_in("active") or max(self.tenants)]

    def submit(self, tenant: Any) -> None:
        self.hand_in(self.world.upstream.add_key(tenant)[1], tenant)

    def hand_in(self, key: str, tenant: Any = None) -> None:
        """The customer gets a link for the open rotation and submits ``key`` over it."""
        row = self.present()
        secret = self.link_for(row) if row is not None else None
        if row is not None and secret is not None:
            answer = self.runner.run(self.world.submit(row.intake_id or "", secret, key))
            assert answer.status_code < 500
            if answer.status_code == 200 and tenant is not None:
                number = max(version.number for version in self.rows(VersionRow))
                self.tenants[number], self.keys[number] = tenant, key

    def upstream_refuses_the_new_key(self) -> None:
        row = self.present()
        assert row is not None
        assert row.to_version is not None
        self.world.revoke_upstream(self.keys[row.to_version])

        async def job_calls() -> None:
            self.world.clock.forward(seconds=60)
            lease = await self.job.lease("acme")
            await self.world.proxied(lease, "/facilities")

        self.runner.run(job_calls())
        for _ in range(50):  # where no key works, the job has its answer before the broker has noted it
            self.work()
            if self.state() == "failing":
                return

    # What happens

    @rule(state=st.sampled_from(OPEN))
    def a_rotation_comes_to(self, state: str) -> None:
        self.reach(state)

    @rule()
    def the_operator_rotates(self) -> None:
        before = self.present()
        waiting = self.version_in("staged", "verified")
        answer = self.post(f"/v1/credentials/{self.credential}/rotate", {"contact": "a@acme.example"})
        if before is not None:
            assert (answer.status_code, answer.json()["code"]) == (409, "rotation_open")
        elif waiting is not None:
            assert answer.json()["move"] in {"rotate_while_staged", "rotate_while_verified"}
        else:
            assert answer.status_code == 201

    @rule(kind=st.sampled_from(["theirs", "again", "bad"]))
    def the_customer_submits(self, kind: str) -> None:
        if kind == "theirs":
            self.submit(self.own_tenant())
        else:
            self.hand_in(self.keys[max(self.keys)] if kind == "again" else "rc_live_" + "Z" * 64)

    @rule(state=st.sampled_from(OPEN), step=st.sampled_from(sorted(LAWFUL)))
    def the_operator_decides_in(self, state: str, step: str) -> None:
        if self.reach(state):
            self.the_operator_decides(step)

    @rule(step=st.sampled_from(sorted(LAWFUL)))
    def the_operator_decides(self, step: str) -> None:
        rows: list[RotationRow] = self.rows(RotationRow)
        if not rows:
            return
        row = next((row for row in rows if row.ended_at is None), rows[-1])
        reached[step, row.state] += 1
        answer = self.post(f"/v1/rotations/{row.id}/{step}", None if step == "promote" else {})
        if row.state in LAWFUL[step]:
            assert answer.status_code == 200, answer.text
        elif step == "cancel" and row.state == "cancelled":
            assert answer.status_code == 200, "again: no change"
        else:
            assert answer.status_code == 409
            assert answer.json()["move"] == f"{NAMES[step]}_from_{row.state}"

    @rule(state=st.sampled_from(OPEN), what=st.sampled_from(CUTS), which=st.sampled_from(["old", "new"]))
    def somebody_cuts_a_key_off_in(self, state: str, what: str, which: str) -> None:
        if self.reach(state):
            self.somebody_cuts_off(what, which)

    def somebody_cuts_off(self, what: str, which: str) -> None:
        row = self.present()
        assert row is not None
        number = row.to_version if which == "new" else self.version_in("retiring") or self.version_in("active")
        if number is None:
            return
        reached[what, row.state] += 1
        in_use = number in {self.version_in("active"), self.version_in("retiring")}
        path = f"/v1/credentials/{self.credential}"
        if what == "expose":
            answer = self.post(f"{path}/exposure", {"version": number, "found_by": "scan", "where": "a repository"})
            assert answer.status_code in {200, 201}, answer.text  # 200: reported before
        else:
            answer = self.post(f"{path}/versions/{number}/{what}", {} if what == "revoke" else None)
            assert answer.status_code == (409 if what == "destroy" and in_use else 200), answer.text
        self.none_in_use = self.version_in("active") is None

    @rule()
    def the_operator_activates_the_newest(self) -> None:
        rows: list[VersionRow] = self.rows(VersionRow)
        before, newest = self.version_in("active"), rows[-1]
        answer = self.post(f"/v1/credentials/{self.credential}/versions/{newest.number}/activate")
        lawful = newest.state == "verified" and (before is None or self.state() == "grace")
        assert (answer.status_code == 200) == lawful, answer.text
        reached["activate", newest.state] += 1

    @rule(state=st.sampled_from(["revoked", "active"]))
    def upstream_refuses_or_takes_the_newest_key(self, state: str) -> None:
        found = self.world.upstream.key_of(self.keys[max(self.keys)])
        assert found is not None
        if len(self.keys) > 1:
            found.state = state

    @rule(outage=st.booleans())
    def upstream_goes_down_or_comes_back(self, outage: bool) -> None:
        self.world.upstream.faults = Faults(outage=outage)

    @rule(hours=st.sampled_from([0.01, 2.0, 30.0]))
    def time_passes_and_the_worker_works(self, hours: float) -> None:
        self.work(hours)

    @rule()
    def the_clock_steps_back(self) -> None:
        self.world.clock.back(self.world.broker, hours=1 / 6)

    # What always holds

    @invariant()
    def one_key_is_active_unless_somebody_cut_it_off(self) -> None:
        states = [version.state for version in self.rows(VersionRow)]
        if "active" in states:
            self.none_in_use = False
        assert states.count("active") == (0 if self.none_in_use else 1), states
        assert states.count("retiring") <= 1
        state = self.state()
        reached["any", state] += 1
        assert (state in {"grace", "failing"}) == ("retiring" in states)

    @invariant()
    def a_job_is_served_by_a_key_that_works_where_there_is_one(self) -> None:
        rows: list[VersionRow] = self.rows(VersionRow)
        in_use = [version for version in rows if version.state in {"active", "retiring"}]
        works = [version for version in in_use if version.health != "failing"]

        async def ask() -> Any:
            return await self.job.ask("acme")

        answer = self.runner.run(ask())
        if works:
            assert answer.status_code == 201, answer.text
            assert answer.json()["lease"]["version"] in [version.number for version in works]
        else:
            assert answer.json()["code"] == ("key_failing" if in_use else "no_active_key"), answer.text

    @invariant()
    def material_is_gone_only_where_that_was_decided(self) -> None:
        rows: list[VersionRow] = self.rows(VersionRow)
        for version in rows:
            assert (version.sealed is None) == (version.state == "destroyed" or version.destroyed_at is not None)
            if version.state != "destroyed" and version.destroyed_at is not None:
                assert version.confirmed_at is not None
                assert version.destroyed_at >= version.confirmed_at + 30 * DAY_MS

    @invariant()
    def a_request_says_what_became_of_its_key(self) -> None:
        states = {version.number: version.state for version in self.rows(VersionRow)}
        for intake in self.rows(IntakeRow):
            if intake.state == "held":
                assert states[intake.version] != "active"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("state", OPEN)
def test_every_step_in_every_state_leaves_a_key_that_works(state: str) -> None:
    reached.clear()
    machine = Rotating()
    try:
        for step in LAWFUL:
            assert machine.reach(state)
            machine.the_operator_decides(step)
            check(machine)
        for what in CUTS:
            for which in ("old", "new"):
                assert machine.reach(state)
                check(machine)
                machine.somebody_cuts_off(what, which)
                check(machine)
    finally:
        machine.teardown()
    assert {(step, state) for step in (*LAWFUL, *CUTS)} <= reached.keys()


def check(machine: Rotating) -> None:
    """Everything that always holds."""
    machine.one_key_is_active_unless_somebody_cut_it_off()
    machine.a_job_is_served_by_a_key_that_works_where_there_is_one()
    machine.material_is_gone_only_where_that_was_decided()
    machine.a_request_says_what_became_of_its_key()


@pytest.mark.timeout(900)
def test_whatever_happens_a_key_that_works_serves() -> None:
    reached.clear()
    run_state_machine_as_test(
        Rotating,
        settings=settings(
            max_examples=8, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
    # otherwise this test has become one of nothing
    assert {("any", state) for state in OPEN} <= reached.keys()
