"""What the edge and the rooms below count, in Prometheus' format.

No label holds a tenant, an id or a path.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Counts = Mapping[tuple[str, ...], float]

_BOUNDS = Histogram.DEFAULT_BUCKETS
_LE = [*map(str, _BOUNDS[:-1]), "+Inf"]


class Metrics:
    """Counters without tenants, ids or paths: routes and statuses only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers: dict[tuple[str, str, int], _Answers] = {}
        self._times: dict[str, _Times] = {}
        self.registry.register(_Read(self._requests))
        self.proxy_faults = Counter(
            "keybroker_proxy_faults_total",
            "Proxied calls that the broker itself could not carry out; the upstream's faults are not among them.",
            registry=self.registry,
        )
        self.registry.register(_Read(self._seconds))

    def watch(self, name: str, what: str, read: Callable[[], float]) -> None:
        """Show a number that somebody else keeps; it is read when Prometheus asks."""
        Gauge(f"keybroker_{name}", what, registry=self.registry).set_function(read)

    def count(self, name: str, what: str, labels: Sequence[str], read: Callable[[], Counts]) -> None:
        """Show numbers that somebody else keeps, by labels of few values.

        If the name ends in ``_total``, they are counters.
        """
        self.registry.register(_Read(lambda: _kept(f"keybroker_{name}", what, labels, read())))

    def note(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer and its time.

        The event loop alone calls this, so no lock is taken, as prometheus_client takes three.
        """
        answers = self._answers.get((route, method, status)) or self._first(route, method, status)
        answers.count += 1
        times = answers.times
        times.sum += seconds
        times.counts[bisect_left(_BOUNDS, seconds)] += 1

    def _first(self, route: str, method: str, status: int) -> _Answers:
        times = self._times.setdefault(route, _Times())
        return self._answers.setdefault((route, method, status), _Answers(times))

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "keybroker_requests_total", "Requests answered.", labels=("route", "method", "status")
        )
        for (route, method, status), answers in self._answers.items():
            family.add_metric((route, method, str(status)), answers.count, created=answers.since)
        return family

    def _seconds(self) -> Metric:
        family = HistogramMetricFamily("keybroker_request_seconds", "Time to answer.", labels=("route",))
        for route, times in self._times.items():
            family.add_metric((route,), list(zip(_LE, accumulate(times.counts), strict=True)), times.sum)
            family.add_sample(f"{family.name}_created", {"route": route}, times.since)
        return family


class _Answers:
    """How many answers of one kind there were, and the times of its route."""

    __slots__ = ("count", "since", "times")

    def __init__(self, times: _Times) -> None:
        self.count, self.since, self.times = 0.0, time.time(), times


class _Times:
    """How long a route's answers took, all together.

    ``counts`` are of those up to each bound and above the one before it.
    """

    __slots__ = ("counts", "since", "sum")

    def __init__(self) -> None:
        self.counts, self.since, self.sum = [0.0] * len(_BOUNDS), time.time(), 0.0


class _Read(Collector):
    """Reads numbers that are kept elsewhere."""

    def __init__(self, read: Callable[[], Metric]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """The numbers as they are now; prometheus_client calls this."""
        yield self._read()


def _kept(name: str, what: str, labels: Sequence[str], counts: Counts) -> Metric:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(name, what, labels=labels)
    for values, value in counts.items():
        family.add_metric(values, value)
    return family
