"""Rotation as a state machine: whatever operators, customers, upstream and time do, a usable key is always there."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import RotationRow, VersionRow
from broker.sandbox.state import Faults
from tests.support.databases import sqlite_template
from tests.support.world import World, running_world, settings_for, upstream

LAWFUL = {
    "promote": {"held", "grace"},
    "rollback": {"grace", "failing"},
    "cancel": {"requested", "verifying", "held"},
}
NAMES = {"promote": "promote", "rollback": "roll_back", "cancel": "cancel"}


class Rotating(RuleBasedStateMachine):
    """One credential on a real broker with a real upstream."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.link: tuple[str, str] | None = None
        self.keys: list[str] = []
        self.world: World = self.runner.run(self.start())

    async def start(self) -> World:
        path = Path(self.directory.name)
        template = await sqlite_template(path / "broker.db")
        state, url = await self.stack.enter_async_context(upstream())
        settings_ = settings_for(path, f"sqlite+aiosqlite:///{template}", url)
        world: World = await self.stack.enter_async_context(running_world(settings_, state, url))
        world.clock.forward(hours=24)  # it may step back from here; jobs' own clocks don't
        self.credential = await world.key_for("acme")
        self.keys.append(world.upstream_keys["acme"])
        self.stranger = world.upstream.add_organization("stranger")
        self.job = await world.job()
        await world.grant(self.job, "acme")
        return world

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    def rows(self, table: Any) -> list[Any]:
        async def read() -> list[Any]:
            async with self.world.services.db.read(EVERY_TENANT) as session:
                return list(await session.scalars(select(table)))

        return self.runner.run(read())

    def present(self) -> RotationRow | None:
        rows: list[RotationRow] = self.rows(RotationRow)
        return next((row for row in rows if row.ended_at is None), None)

    @rule()
    def the_operator_rotates(self) -> None:
        before = self.present()
        answer = self.post(f"/v1/credentials/{self.credential}/rotate", {"contact": "a@acme.example"})
        if before is None:
            assert answer.status_code == 201
            made = answer.json()
            self.link = made["rotation"]["intake"], made["link"].partition("#")[2]
        else:
            assert (answer.status_code, answer.json()["code"]) == (409, "rotation_open")

    @precondition(lambda self: self.link is not None)
    @rule(kind=st.sampled_from(["theirs", "again", "a stranger's", "bad"]))
    def the_customer_submits(self, kind: str) -> None:
        assert self.link is not None
        key = {
            "theirs": lambda: self.world.new_key("acme"),
            "again": lambda: self.keys[-1],
            "a stranger's": lambda: self.world.upstream.add_key(self.stranger)[1],
            "bad": lambda: "rc_live_" + "Z" * 64,
        }[kind]()
        answer = self.runner.run(self.world.submit(*self.link, key))
        assert answer.status_code < 500
        if answer.status_code == 200 and kind == "theirs":
            self.keys.append(key)

    @rule(then=st.sampled_from(["", "promote", "rollback"]))
    def a_new_key_comes_into_use(self, then: str) -> None:
        self.world.upstream.faults = Faults()
        if self.present() is None:
            self.the_operator_rotates()
        if self.link is not None:
            self.the_customer_submits("theirs")
        if then:
            self.the_operator_decides(then)

    @rule(step=st.sampled_from(["promote", "rollback", "cancel"]))
    def the_operator_decides(self, step: str) -> None:
        rows: list[RotationRow] = self.rows(RotationRow)
        if not rows:
            return
        row = rows[-1]
        answer = self.post(f"/v1/rotations/{row.id}/{step}", None if step == "promote" else {})
        if row.state in LAWFUL[step]:
            assert answer.status_code == 200, answer.text
        elif step == "cancel" and row.state == "cancelled":
            assert answer.status_code == 200, "again: no change"
        else:
            assert answer.status_code == 409
            assert answer.json()["move"] == f"{NAMES[step]}_from_{row.state}"

    @rule(state=st.sampled_from(["revoked", "active"]))
    def upstream_refuses_or_takes_the_newest_key(self, state: str) -> None:
        found = self.world.upstream.key_of(self.keys[-1])
        assert found is not None
        if len(self.keys) > 1:
            found.state = state

    @rule(outage=st.booleans())
    def upstream_goes_down_or_comes_back(self, outage: bool) -> None:
        self.world.upstream.faults = Faults(outage=outage)

    @rule(hours=st.sampled_from([0.01, 2.0, 30.0]))
    def time_passes_and_the_worker_works(self, hours: float) -> None:
        self.runner.run(self.world.work(hours=hours))

    @rule()
    def the_clock_steps_back(self) -> None:
        self.world.clock.offset -= 600_000

    def post(self, path: str, body: Any) -> Any:
        return self.runner.run(self.world.http.post(path, headers=self.world.admin, json=body))

    @invariant()
    def one_key_is_active_and_usable(self) -> None:
        versions: list[VersionRow] = self.rows(VersionRow)
        states = [version.state for version in versions]
        assert states.count("active") == 1, states
        assert states.count("retiring") <= 1
        assert next(version for version in versions if version.state == "active").sealed is not None
        row = self.present()
        assert (row is not None and row.state in {"grace", "failing"}) == ("retiring" in states)

    @invariant()
    def a_job_gets_a_lease_of_a_usable_version(self) -> None:
        async def ask() -> Any:
            return await self.job.ask("acme")

        answer = self.runner.run(ask())
        assert answer.status_code == 201 or answer.json()["code"] == "key_failing", answer.text

    @invariant()
    def material_is_gone_only_where_that_was_decided(self) -> None:
        rows: list[VersionRow] = self.rows(VersionRow)
        for version in rows:
            gone = version.state == "destroyed" or version.confirmed_at is not None
            assert (version.sealed is None) == gone


Rotating.TestCase.settings = settings(
    max_examples=12, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRotating = Rotating.TestCase
