"""The API describes itself: each operation by words of its own, and by who may call it."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import pytest

from broker.formats import ids
from broker.web.errors import PROBLEM
from broker.web.pages.outline import sections
from tests.support.world import World

ROLES = {"admin", "operator", "security"}


def operations(world: World) -> dict[tuple[str, str], dict[str, Any]]:
    paths = world.app.openapi()["paths"]
    return {(method, path): operation for path, found in paths.items() for method, operation in found.items()}


def callers(operation: dict[str, Any]) -> set[str]:
    return {caller for way in operation.get("security", []) for caller in way["HTTPBearer"]}


async def test_every_operation_has_a_summary_of_its_own_and_a_description(world: World) -> None:
    found = operations(world)
    summaries = [operation["summary"] for operation in found.values()]
    assert sorted(summaries) == sorted(set(summaries))
    for where, operation in found.items():
        assert 2 <= len(operation["summary"].split()) <= 9, where
        said = operation.get("description", "")
        assert len(said.split()) >= 4, where
        assert said.strip(".") != operation["summary"], where


async def test_every_operation_belongs_to_a_tag_that_is_described(world: World) -> None:
    described = {tag["name"]: tag["description"] for tag in world.app.openapi()["tags"]}
    assert all(described.values())
    used = {tag for operation in operations(world).values() for tag in operation["tags"]}
    assert used == set(described)


async def test_the_description_tells_the_software_s_version_and_what_all_operations_share(world: World) -> None:
    told = (await world.http.get("/openapi.json")).json()["info"]
    assert told["version"] == version("keybroker")
    for word in ("application/problem+json", "Idempotency-Key", "cursor", "Authorization: Bearer"):
        assert word in told["description"]


async def test_everything_that_is_sent_has_a_meaning(world: World) -> None:
    found = [one for section in sections(world.app.openapi()) for one in section.operations]
    sent = [(one.summary, field) for one in found for field in one.sent]
    assert len(sent) > 200
    assert [(summary, field.name) for summary, field in sent if not field.text.endswith(".")] == []


async def test_every_operation_tells_that_it_may_answer_with_a_problem(world: World) -> None:
    for where, operation in operations(world).items():
        for status in ("4XX", "5XX"):
            told = operation["responses"][status]["content"]["application/problem+json"]
            assert told["schema"] == PROBLEM, where


@pytest.mark.parametrize("role", sorted(ROLES))
async def test_an_operation_names_the_roles_that_it_lets_in(world: World, role: str) -> None:
    headers = await world.operator(f"only-{role}", role)
    told, tried = operations(world), 0
    for (method, path), operation in told.items():
        if not (roles := callers(operation) & ROLES) or path.endswith("/me/renew"):  # which would end the account
            continue
        url = re.sub(r"{\w+_id}", ids.new(ids.IntakeId), path.replace("{number}", "1"))
        answer = await world.http.request(
            method, re.sub(r"{\w+}", "nobody", url), headers=headers, json={} if method == "post" else None
        )
        refused = answer.status_code == 403 and "needs the role" in answer.json()["detail"]
        assert refused == (role not in roles), (method, path, answer.text)
        tried += 1
    assert tried > 50


async def test_an_operation_names_jobs_where_it_takes_them(world: World) -> None:
    job = await world.job()
    headers = await job.headers()
    for (method, path), operation in operations(world).items():
        if not callers(operation):
            continue
        url = re.sub(r"{\w+_id}", ids.new(ids.IntakeId), path.replace("{number}", "1"))
        answer = await world.http.request(
            method, re.sub(r"{\w+}", "nobody", url), headers=headers, json={} if method == "post" else None
        )
        assert (answer.status_code == 401) == ("workload" not in callers(operation)), (method, path, answer.text)
