"""Traces and metrics tell what takes time and what fails, and nothing about tenants or keys."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response

from broker.sandbox.serve import running as serving
from broker.web.proxy import ROUTE as PROXY
from tests.support.world import World, running_world, settings_for, upstream

# Every label and what it may be: anything else is a leak, or grows without bound.
LABELS = {"route", "method", "status", "state", "health", "cause", "le", "quantile"}
ATTRIBUTES = {
    "http.request.method",
    "http.route",
    "http.response.status_code",
    "keybroker.request_id",
    "keybroker.cause",
}


TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLERS = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}  # sampled


class Collector:
    """An OTLP/HTTP collector that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        self.bodies.append(gzip.decompress(body) if request.headers.get("content-encoding") == "gzip" else body)
        assert scope["path"] == "/v1/traces"
        await Response(b"", media_type="application/x-protobuf")(scope, receive, send)

    @property
    def spans(self) -> list[Any]:
        """Every span."""
        return [
            span
            for body in self.bodies
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@pytest.fixture
def ratio() -> float:
    """The share of traces kept."""
    return 1.0


@pytest.fixture
async def traced(tmp_path: Path, sqlite_url: str, ratio: float) -> AsyncIterator[tuple[World, Collector, Any]]:
    collector = Collector()
    async with serving(collector) as address, upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, otlp_endpoint=address, otlp_ratio=ratio)
        context = running_world(settings, state, url)
        world = await context.__aenter__()
        over = False

        async def end() -> None:
            nonlocal over
            over = True
            await context.__aexit__(None, None, None)

        yield world, collector, end
        if not over:
            await end()


async def test_a_proxied_call_is_one_trace_without_secrets(traced: tuple[World, Collector, Any]) -> None:
    world, collector, end = traced
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    path = "/facilities?canary=query-canary"
    headers = {**CALLERS, "X-Canary": "header-canary"}
    assert (await world.proxied(lease, path, headers=headers)).status_code == 200
    await end()
    # then: the call, its record and the upstream are one trace, which is the caller's
    within = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    names = {span.name for span in within}
    assert {"GET /proxy/{organization}/{provider}/{path}", "audit.append", "upstream"} <= names
    root = next(span for span in within if span.name.startswith("GET"))
    assert root.parent_span_id.hex() == "b7ad6b7169203331"
    assert all(span.parent_span_id == root.span_id for span in within if span is not root)
    # and: nothing about whom, with what
    everything = b"".join(collector.bodies)
    for canary in (
        world.upstream_keys["acme"],
        lease["token"],
        lease["lease"]["id"],
        lease["lease"]["organization"],
        world.admin["Authorization"].removeprefix("Bearer "),
        "acme",
        "query-canary",
        "header-canary",
    ):
        assert canary.encode() not in everything
    assert {attribute.key for span in collector.spans for attribute in span.attributes} <= ATTRIBUTES
    assert not any(span.events for span in collector.spans), "an exception's text may hold anything"


async def strangers_ask(world: World) -> None:
    """Requests of those whom nobody knows, each with a trace of its own that is to be kept."""
    await world.organization("acme")
    intake, _ = await world.request_key("acme")
    for method, path, token, body in (
        ("GET", "/healthz", "", None),
        ("GET", "/nowhere", "", None),
        ("GET", "/v1/organizations", "", None),
        ("GET", "/v1/organizations", "kbo_" + "a" * 49, None),
        ("GET", "/v1/leases", "a.b.c", None),
        ("POST", "/v1/bootstrap", "", {"token": "kbb_" + "a" * 49, "name": "eve"}),
        ("POST", "/oauth/token", "", {"client_assertion": "a.b.c"}),
        ("POST", f"/intake/{intake}/open", "", {"proof": "a" * 43}),
        ("GET", "/proxy/acme/raptor-comply/facilities", "kbl_" + "a" * 49, None),
        ("GET", "/proxy/acme/raptor-comply/facilities", "a.b.c", None),
        ("GET", "/proxy/acme/raptor-comply/facilities", "", None),
    ):
        given = {"Authorization": f"Bearer {token}"} if token else {}
        await world.http.request(method, path, headers={**CALLERS, **given}, json=body)


@pytest.mark.parametrize("ratio", [0.0])
async def test_a_stranger_does_not_choose_what_is_exported(traced: tuple[World, Collector, Any]) -> None:
    world, collector, end = traced
    await strangers_ask(world)
    await end()
    assert collector.spans == []


async def test_a_stranger_puts_nothing_into_other_peoples_traces(traced: tuple[World, Collector, Any]) -> None:
    world, collector, end = traced
    await strangers_ask(world)
    await end()
    assert len(collector.spans) > 10
    assert TRACE not in {span.trace_id.hex() for span in collector.spans}
    assert "b7ad6b7169203331" not in {span.parent_span_id.hex() for span in collector.spans}
    # and: a request's span is around what it waited for
    ids = {(span.trace_id, span.span_id) for span in collector.spans}
    assert all((span.trace_id, span.parent_span_id) in ids for span in collector.spans if span.parent_span_id)


@pytest.mark.parametrize("ratio", [0.0])
@pytest.mark.parametrize("who", ["operator", "job"])
async def test_who_is_known_goes_on_in_a_trace_of_their_own(traced: tuple[World, Collector, Any], who: str) -> None:
    world, collector, end = traced
    headers = world.admin if who == "operator" else await (await world.job()).headers()
    answer = await world.http.get("/v1/leases", headers={**headers, **CALLERS})
    assert answer.status_code == 200
    await end()
    assert {(span.name, span.trace_id.hex()) for span in collector.spans} == {("GET /v1/leases", TRACE)}
    (span,) = collector.spans
    assert span.end_time_unix_nano > span.start_time_unix_nano


async def test_what_fails_is_marked_and_what_is_refused_is_not(traced: tuple[World, Collector, Any]) -> None:
    world, collector, end = traced
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    lease = await job.lease("acme")
    assert (await world.proxied(lease, "/none")).status_code == 403
    world.broker.services.parts.audit.deadline = 0.0
    assert (await world.proxied(lease, "/facilities")).status_code == 503
    await end()
    marked = {(span.name, span.status.code, span.status.message) for span in collector.spans if span.status.code}
    error = 2
    assert marked == {(f"GET {PROXY}", error, ""), ("audit.append", error, "")}
    assert world.broker.services.metrics.registry.get_sample_value("keybroker_proxy_faults_total") == 1


UNTRACED = """
import asyncio, sys
from pathlib import Path
from broker.serving import probes
from tests.support.world import running_world, settings_for, upstream

called = set()

def watch(frame, event, _argument):
    if event == "call":
        called.add(frame.f_code.co_filename)

async def lives(app):
    told = iter(("lifespan.startup", "lifespan.shutdown"))
    async def receive():
        return {"type": next(told)}
    async def send(message):
        assert message["type"].endswith(".complete"), message
    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

async def live():
    async with upstream() as (state, url):
        async with running_world(settings_for(Path(sys.argv[1]), sys.argv[2], url), state, url) as world:
            await world.key_for("acme")
            job = await world.job()
            await world.grant(job, "acme", modes=("use", "reveal"))
            traced = {"traceparent": sys.argv[3]}
            await job.headers()
            sys.setprofile(watch)
            lease = await job.lease("acme", headers=traced)
            await job.lease("acme", mode="reveal", headers=traced)
            assert (await world.proxied(lease, "/facilities", headers=traced)).status_code == 200
            sys.setprofile(None)
            await lives(world.app)
            await lives(probes(world.broker))

asyncio.run(live())
assert any(file.endswith("base/tracing.py") for file in called)
ours = ("opentelemetry.sdk", "opentelemetry.exporter", "broker.base.spans")
print(*{file for file in called if "telemetry" in file})
print(*{name for name in sys.modules if name.startswith(ours)})
"""


def test_tracing_that_is_off_is_neither_called_nor_imported_whatever_the_environment_says_to_the_framework(
    tmp_path: Path, sqlite_url: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNTRACED, str(tmp_path), sqlite_url, CALLERS["traceparent"]],
        env={
            **os.environ,
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        },
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["", ""]


async def test_a_collector_that_is_away_costs_no_request(tmp_path: Path, sqlite_url: str) -> None:
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, otlp_endpoint="http://127.0.0.1:9")
        async with running_world(settings, state, url) as world:
            await world.key_for("acme")
            assert (await world.http.get("/readyz")).status_code == 200


async def test_metrics_have_labels_of_few_values_and_say_how_the_broker_is(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200
    assert await world.broker.worker.election.holds()
    await world.broker.worker.once()
    text = (await world.http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {label for family in families.values() for sample in family.samples for label in sample.labels} <= LABELS
    for canary in ("acme", credential, job.id, world.upstream_keys["acme"]):
        assert canary not in text

    def value(name: str, **labels: str) -> float:
        samples = (sample for family in families.values() for sample in family.samples)
        return next(sample.value for sample in samples if sample.name == name and sample.labels == labels)

    assert value("keybroker_keys", state="active", health="healthy") == 1
    assert value("keybroker_audit_events_total") >= 3
    assert value("keybroker_audit_batches_total") <= value("keybroker_audit_events_total")
    assert value("keybroker_audit_commit_seconds_total") > 0
    assert value("keybroker_audit_waiting") == 0
    assert value("keybroker_keystore_strays") == 0
    assert value("keybroker_calls_under_way") == 0
    assert value("keybroker_worker_round_seconds") > 1e9
    assert value("keybroker_worker_holder") == 1
    assert value("keybroker_proxy_faults_total") == 0
