"""The intake as a state machine: whatever customers, operators, upstream and time do, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.intake.tables import IntakeRow
from broker.sandbox.state import Faults
from tests.support.databases import sqlite_template
from tests.support.world import World, running_world, settings_for, upstream


class Intake(RuleBasedStateMachine):
    """One link and everything that can happen to it, on a real broker with a real upstream."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = tempfile.TemporaryDirectory()
        self.stack: Any = None
        self.world: World = self.runner.run(self.start())
        self.accepted = False
        self.over = False

    async def start(self) -> World:
        from contextlib import AsyncExitStack

        path = Path(self.directory.name)
        template = await sqlite_template(path / "broker.db")
        self.stack = AsyncExitStack()
        state, url = await self.stack.enter_async_context(upstream())
        settings_ = settings_for(path, f"sqlite+aiosqlite:///{template}", url)
        world: World = await self.stack.enter_async_context(running_world(settings_, state, url))
        await world.organization("acme")
        self.intake, self.secret = await world.request_key("acme", hours=24)
        return world

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.directory.cleanup()

    @rule(good=st.booleans())
    def submit(self, good: bool) -> None:
        key = self.world.upstream_keys["acme"] if good else "rc_live_" + "Z" * 64
        answer = self.runner.run(self.world.submit(self.intake, self.secret, key))
        body = answer.json()
        if answer.status_code == 200 and body.get("state") == "accepted":
            assert good or self.accepted
            self.accepted = True
        elif not self.accepted and body.get("state") == "spent":
            assert self.row().state == "verifying", "a link whose key waits to be verified takes no other"
        elif not self.accepted:
            assert body.get("state") == "verifying" or body["code"] in {
                "key_refused_upstream",
                "intake_expired",
                "intake_cancelled",
            }

    @rule(outage=st.booleans())
    def upstream_changes(self, outage: bool) -> None:
        self.world.upstream.faults = Faults(outage=outage)

    @rule()
    def time_passes_and_the_worker_works(self) -> None:
        self.world.clock.forward(seconds=1000)
        self.runner.run(self.world.broker.worker.once())
        if self.row().state == "accepted":
            self.accepted = True

    @rule()
    def a_day_passes(self) -> None:
        self.world.clock.forward(hours=13)

    @rule()
    def the_operator_cancels(self) -> None:
        self.runner.run(self.world.call("POST", f"/v1/intakes/{self.intake}/cancel"))

    def row(self) -> IntakeRow:
        async def read() -> IntakeRow:
            async with self.world.services.parts.db.read(EVERY_TENANT) as session:
                return await session.get_one(IntakeRow, self.intake)

        return self.runner.run(read())

    def versions(self) -> list[VersionRow]:
        async def read() -> list[VersionRow]:
            async with self.world.services.parts.db.read(EVERY_TENANT) as session:
                return list(await session.scalars(select(VersionRow)))

        return self.runner.run(read())

    @invariant()
    def a_received_key_is_kept_until_it_is_settled(self) -> None:
        row, versions = self.row(), self.versions()
        states = [version.state for version in versions]
        assert states.count("active") <= 1
        assert (row.state == "accepted") == ("active" in states) == self.accepted
        if row.state == "verifying":
            assert states.count("staged") == 1
        for version in versions:
            assert (version.sealed is None) == (version.state == "destroyed")
        assert (row.private_sealed is None) == (row.state in {"accepted", "held", "cancelled", "expired"})


Intake.TestCase.settings = settings(
    max_examples=12, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
TestIntake = Intake.TestCase
