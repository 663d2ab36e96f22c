"""Who may call a route is said by its parameter, in words that can't be read as "anybody"."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import FastAPI

from broker.web import callers, errors
from tests.support.world import World

BY = sorted(name for name in vars(callers) if name.startswith("By"))
OF_OPERATORS = {"ByAnyRole", "ByOperatorRole", "BySecurityRole", "ByOperatorOrSecurityRole", "ByAdminRole"}
OF_WORKLOADS = {"ByWorkload"}
OF_BOTH = {"ByWorkloadOrAnyRole", "ByWorkloadOrOperatorRole"}


@pytest.mark.parametrize("name", BY)
async def test_the_name_says_who_passes_and_a_stranger_never_does(world: World, name: str) -> None:
    assert name in OF_OPERATORS | OF_WORKLOADS | OF_BOTH
    app = FastAPI()
    app.state.services = world.services
    errors.install(app)

    async def route(call: object) -> None:
        del call

    route.__annotations__["call"] = vars(callers)[name]
    app.get("/")(route)
    job = await (await world.job()).headers()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://broker") as http:
        for stranger in ({}, {"Authorization": "Bearer kbo_x"}, {"Authorization": "Bearer a.b.c"}):
            assert (await http.get("/", headers=stranger)).status_code == 401
        by_admin, by_job = await http.get("/", headers=world.admin), await http.get("/", headers=job)
    assert (by_admin.status_code == 200) == (name in OF_OPERATORS | OF_BOTH), by_admin.text
    assert (by_job.status_code == 200) == (name in OF_WORKLOADS | OF_BOTH), by_job.text
