"""What the edge and the rooms below count, in Prometheus' format.

No label holds a tenant, an id or a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Counts = Mapping[tuple[str, ...], float]


class Metrics:
    """Counters without tenants, ids or paths: routes and statuses only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keybroker_requests_total", "Requests answered.", ["route", "method", "status"], registry=self.registry
        )
        self.proxy_faults = Counter(
            "keybroker_proxy_faults_total",
            "Proxied calls that the broker itself could not carry out; the upstream's faults are not among them.",
            registry=self.registry,
        )
        self.seconds = Histogram("keybroker_request_seconds", "Time to answer.", ["route"], registry=self.registry)
        self._noting = lru_cache(maxsize=4096)(self._of)

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that somebody else keeps; it is read when Prometheus asks."""
        Gauge(f"keybroker_{name}", what, registry=self.registry).set_function(read)

    def count(self, name: str, what: str, labels: Sequence[str], read: Callable[[], Counts]) -> None:
        """Show numbers that somebody else keeps, by labels of few values.

        If the name ends in ``_total``, they are counters.
        """
        self.registry.register(_Kept(f"keybroker_{name}", what, labels, read))

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer and its time."""
        requests, times = self._noting(route, method, status)
        requests.inc()
        times.observe(seconds)

    def _of(self, route: str, method: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(route, method, status), self.seconds.labels(route)


class _Kept(Collector):
    """Reads numbers that somebody else keeps."""

    def __init__(self, name: str, what: str, labels: Sequence[str], read: Callable[[], Counts]) -> None:
        self._name, self._what, self._labels, self._read = name, what, labels, read

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now; prometheus_client calls this."""
        kind = CounterMetricFamily if self._name.endswith("_total") else GaugeMetricFamily
        family = kind(self._name, self._what, labels=self._labels)
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family
