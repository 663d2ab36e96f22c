"""``broker doctor`` asks the public address whether this broker answers there."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp

from broker.sandbox.serve import running as serving
from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port
from tests.support.world import World


async def told(world: World, port: int) -> dict[str, str]:
    """What doctor says of the address, if ``port`` of this machine is the public one."""
    environment = {
        **MINIMAL,
        "BROKER_STATE_DIR": str(world.settings.state_dir),
        "BROKER_DATABASE_URL": world.settings.database(),
        "BROKER_PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    done = await asyncio.to_thread(run, "doctor", "--json", environment=environment)
    assert done.returncode == 0, done.stderr
    (found,) = [row for row in json.loads(done.stdout) if row["part"] == "public address"]
    return dict(found)


async def test_the_broker_itself_is_known_by_the_keys_that_it_publishes(world: World) -> None:
    async with serving(world.edge, port=(port := free_port())):
        found = await told(world, port)
    assert (found["state"], found["what"]) == ("ok", f"http://127.0.0.1:{port}: this broker answers there")


async def test_where_nothing_answers_it_is_said(world: World) -> None:
    found = await told(world, port := free_port())
    assert found["state"] == "missing"
    assert f"nothing answers at http://127.0.0.1:{port} (" in found["what"]
    assert "start it, or mend BROKER_PUBLIC_URL" in found["what"]


_ANOTHERS = JSONResponse({"keys": [{"kid": "another"}, "none"]})


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (_ANOTHERS, "a broker with another database answers there"),
        (JSONResponse({"keys": None}), "a broker with another database"),
        (PlainTextResponse("It works!"), "is not the broker's"),
        (PlainTextResponse("", 302, {"Location": "/sign-in"}), "is not the broker's"),
    ],
    ids=["another's keys", "none", "a page", "a sign-in"],
)
async def test_where_somebody_else_answers_it_is_said(world: World, other: ASGIApp, why: str) -> None:
    async with serving(other, port=(port := free_port())):
        found = await told(world, port)
    assert found["state"] == "another"
    assert found["what"].startswith(f"http://127.0.0.1:{port}: ")
    assert why in found["what"]
