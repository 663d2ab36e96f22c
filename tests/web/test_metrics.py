"""Answers are counted as prometheus_client would count them, without its locks."""

from __future__ import annotations

from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from broker.web.metrics import Metrics

ROUTES = st.sampled_from(["/v1/leases", "/proxy/{organization}/{provider}/{path}", "unrouted"])
BOUNDS = st.sampled_from(Histogram.DEFAULT_BUCKETS)
SECONDS = st.floats(-1, 100) | BOUNDS | st.just(0.0)
ANSWERS = st.tuples(ROUTES, st.sampled_from(["GET", "POST", "other"]), st.sampled_from([200, 201, 404]), SECONDS)


@given(st.lists(ANSWERS, max_size=30))
def test_what_is_shown_is_what_its_own_counters_would_show(answers: list[tuple[str, str, int, float]]) -> None:
    other = CollectorRegistry()
    labels = ["route", "method", "status"]
    requests = Counter("keybroker_requests_total", "Requests answered.", labels, registry=other)
    Counter(
        "keybroker_proxy_faults_total",
        "Proxied calls that the broker itself could not carry out; the upstream's faults are not among them.",
        registry=other,
    )
    seconds = Histogram("keybroker_request_seconds", "Time to answer.", ["route"], registry=other)
    with mock.patch("time.time", return_value=1_800_000_000.5):
        metrics = Metrics()
        for route, method, status, took in answers:
            metrics.note(route, method, status, took)
            requests.labels(route, method, status).inc()
            seconds.labels(route).observe(took)
    shown, expected = generate_latest(metrics.registry), generate_latest(other)
    created = b"keybroker_proxy_faults_created "
    assert [line for line in shown.splitlines() if not line.startswith(created)] == [
        line for line in expected.splitlines() if not line.startswith(created)
    ]
