"""Every endpoint from its own OpenAPI: no 5xx, one problem shape, nothing internal, whatever is sent."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from tests.support.databases import Postgres, sqlite_copy
from tests.support.integrated import integrating
from tests.support.world import World, running_world, settings_for, upstream

# To generate takes longer than to answer, and the parts are tried side by side.
_PARTS = 6
PROBLEM = {"type", "title", "status", "detail", "code"}


class Running:
    """A broker in an event loop of its own, for tests that are not coroutines."""

    def __init__(self, directory: Path, database_url: str) -> None:
        self.runner = asyncio.Runner()
        self.directory = directory
        self.database_url = database_url
        self.world: World = self.runner.run(self.start())

    async def start(self) -> World:
        from contextlib import AsyncExitStack

        self.stack = AsyncExitStack()
        state, url = await self.stack.enter_async_context(upstream())
        world: World = await self.stack.enter_async_context(
            running_world(settings_for(self.directory, self.database_url, url), state, url)
        )
        # exports wait for the log
        await self.stack.enter_async_context(integrating(world))
        await world.key_for("acme")
        job = await world.job()
        await world.grant(job, "acme")
        self.lease = await job.lease("acme")
        self.tokens = [world.admin["Authorization"], (await job.headers())["Authorization"], "Bearer kbo_x", ""]
        return world

    def send(self, method: str, url: str, **options: Any) -> Any:
        return self.runner.run(self.world.http.request(method, url, **options))

    def stop(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    sqlite_file: Path,
    prepared_postgres: Postgres,
) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("schemathesis")
    if request.param == "sqlite":
        url = sqlite_copy(sqlite_file, directory)
    else:
        with asyncio.Runner() as runner:
            url = runner.run(prepared_postgres.fresh())
    made = Running(directory, url)
    yield made
    made.stop()


def judge(response: Any) -> None:
    """What holds of every answer."""
    assert response.status_code < 500, (response.request.method, response.request.url, response.text[:300])
    assert response.headers["x-content-type-options"] == "nosniff"
    # only the log's tiles and checkpoints, which are anybody's, are for caches
    if response.status_code != 200 or "/v1/audit/log/" not in str(response.request.url):
        assert response.headers["cache-control"] == "no-store"
    if response.status_code >= 400 and "/oauth/" not in str(response.request.url):
        assert response.headers["content-type"] == "application/problem+json"
        body = response.json()
        assert set(body) >= PROBLEM, body
        assert body["status"] == response.status_code
        assert body["code"].replace("_", "").isalnum()
        assert body["detail"]
        assert "Traceback" not in response.text


@pytest.mark.parametrize("part", range(_PARTS))
def test_every_endpoint_under_schemathesis(running: Running, part: int) -> None:
    schema = schemathesis.openapi.from_dict(running.world.app.openapi())
    tried = set()
    for result in [*schema.get_all_operations()][part::_PARTS]:
        operation = cast("Any", result).ok()
        tried.add((operation.method.upper(), operation.path))
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)

            @given(case=strategy, token=st.sampled_from(running.tokens))
            @settings(
                max_examples=12,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def sends(case: Any, token: str) -> None:
                request = case.as_transport_kwargs(base_url="http://127.0.0.1:8080")
                headers = {name: value for name, value in (request.get("headers") or {}).items() if _sendable(value)}
                response = running.send(
                    request["method"],
                    request["url"],
                    params=request.get("params"),
                    headers={**headers, "Authorization": token},
                    content=request.get("data") if isinstance(request.get("data"), (bytes, str)) else None,
                    json=request.get("json") if _is_json(request.get("json")) else None,
                )
                judge(response)

            try:
                sends()
            except Unsatisfiable:  # nothing about a request without parameters and body can be wrong
                assert mode is schemathesis.GenerationMode.NEGATIVE
    assert len(tried) >= 60 // _PARTS


def _sendable(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable()


def _is_json(value: object) -> bool:
    return isinstance(value, (dict, list, str, int, float, bool))


NASTY = [
    "\x00",
    "a\x00b",
    "é",
    "../..",
    "%2e%2e",
    "'; DROP TABLE organizations; --",
    "a" * 3000,  # a client takes no URL over 64 KiB
    "\ud800",
    "0",
    "-1",
    "null",
]


@pytest.mark.parametrize("nasty", NASTY)
def test_nasty_values_in_every_path_query_and_body(running: Running, nasty: str) -> None:
    from urllib.parse import quote

    quoted = quote(nasty.encode("utf-8", "surrogatepass"), safe="")
    for path, operations in running.world.app.openapi()["paths"].items():
        for method, operation in operations.items():
            url = path
            for parameter in operation.get("parameters", []):
                url = url.replace("{" + parameter["name"] + "}", quoted)
            names = [p["name"] for p in operation.get("parameters", []) if p["in"] == "query"]
            url += "?" + "&".join(f"{name}={quoted}" for name in names)
            body = (
                b'{"organization": %s, "provider": %s, "name": %s, "slug": %s, "key": %s, "reason": %s, "proof": %s}'
                % ((_json(nasty),) * 7)
            )
            headers = {"Authorization": running.tokens[0], "Content-Type": "application/json"}
            judge(running.send(method.upper(), url, headers=headers, content=body if method == "post" else None))


def _json(text: str) -> bytes:
    import json

    return json.dumps(text).encode()


BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'"x"',
    b"\xff\xfe",
    b"{}" * 3,
    b'{"a":' * 3000,
    b'{"slug": 1e400, "name": NaN}',
]


@pytest.mark.parametrize("body", BODIES)
def test_malformed_bodies_say_what_to_fix(running: Running, body: bytes) -> None:
    for path, operations in running.world.app.openapi()["paths"].items():
        if "post" in operations and "requestBody" in operations["post"] and not path.startswith("/oauth/"):
            url = path.replace("{number}", "1").replace("{organization}", "acme").replace("{workload}", "sync")
            headers = {"Authorization": running.tokens[0], "Content-Type": "application/json"}
            response = running.send("POST", url, headers=headers, content=body)
            judge(response)
            assert response.status_code in {400, 401, 404, 422, 429}, (path, response.text)


def test_bodies_are_capped_also_when_they_do_not_say_their_length(running: Running) -> None:
    headers = {"Authorization": running.tokens[0], "Content-Type": "application/json"}

    async def chunks() -> Any:
        for _ in range(80):
            yield b" " * 1024

    for content in (b" " * 70_000, chunks()):
        response = running.send("POST", "/v1/organizations", headers=headers, content=content)
        judge(response)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_an_error_never_repeats_what_was_sent(running: Running) -> None:
    secret = "rc_live_" + "S" * 64
    for body in ({"organization": "acme", "provider": "raptor-comply", "key": [secret]}, {"key": secret, secret: 1}):
        response = running.send("POST", "/v1/credentials", headers={"Authorization": running.tokens[0]}, json=body)
        judge(response)
        assert "SSSS" not in response.text


def test_every_route_but_the_open_ones_needs_a_caller(running: Running) -> None:
    open_routes = {
        "/v1/bootstrap",
        "/oauth/token",
        "/oauth/device_authorization",
        "/.well-known/oauth-authorization-server",
        "/.well-known/jwks.json",
        "/healthz",
        "/readyz",
        "/metrics",
        "/intake/{intake_id}/challenge",
        "/intake/{intake_id}/open",
        "/intake/{intake_id}/submit",
        "/v1/leaks/reports/github",
        "/v1/audit/log/checkpoint",
        "/v1/audit/log/cosigned",
        "/v1/audit/log/key",
        "/v1/certificates/key",
        "/v1/audit/log/tile/{path}",
        *("/login/link", "/login/passkey/begin", "/login/passkey/finish"),
        *(
            f"/status/{{intake_id}}/{step}"
            for step in (
                "challenge",
                "open",
                "usage",
                "pause",
                "resume",
                "withdraw",
                "rotate",
                "certificate",
                "uses",
                "receipt",
                "export",
            )
        ),
    }
    from broker.formats import ids

    for path, operations in running.world.app.openapi()["paths"].items():
        url = path.replace("{number}", "1")
        url = re.sub(r"{\w+_id}", ids.new(ids.IntakeId), url)
        url = url.replace("{organization}", "acme").replace("{workload}", "sync").replace("{provider}", "github")
        for method in operations:
            response = running.send(method.upper(), url, json={} if method == "post" else None)
            judge(response)
            is_open = path in open_routes or (method, path) == ("post", "/v1/sessions")
            assert (response.status_code == 401) == (not is_open), (method, path, response.status_code)


def test_an_unknown_address_and_method_are_problems_too(running: Running) -> None:
    for method, url, status in (("GET", "/nothing", 404), ("DELETE", "/healthz", 405), ("TRACE", "/v1/leases", 405)):
        response = running.send(method, url)
        judge(response)
        assert response.status_code == status
