"""Spans by OpenTelemetry.

:mod:`broker.base.tracing` imports this only if they are exported.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from http import HTTPStatus
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.base.errors import BrokerError

_PARENT = TraceContextTextMapPropagator()


class Arrival:
    """A request under way; its span is opened once."""

    def __init__(self, tracer: Tracer, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._tracer, self._headers = tracer, headers
        self._came = time.time_ns()
        self._span: Span | None = None

    def span(self) -> Span:
        """The request's span, in a trace of its own if nobody was known yet."""
        return self._opened(Context())

    def established(self) -> None:
        """Go on in the trace that the caller brought, if any."""
        found = next((value.decode("latin-1") for name, value in self._headers if name == b"traceparent"), "")
        self._opened(_PARENT.extract({"traceparent": found}, Context()))

    def answered(self, name: str, attributes: Mapping[str, str | int], *, failed: bool) -> None:
        """Note what the request was, and whether answering it failed."""
        span = self.span()
        if span.is_recording():
            span.update_name(name)
            span.set_attributes(attributes)
            if failed:
                _failed(span)

    def _opened(self, parent: Context) -> Span:
        if self._span is None:
            self._span = self._tracer.start_span("request", context=parent, kind=SpanKind.SERVER, start_time=self._came)
        return self._span


_arrival: ContextVar[Arrival | None] = ContextVar("arrival", default=None)


class Spans:
    """Makes spans, and exports them to an OTLP/HTTP collector; :meth:`end` sends what is left."""

    def __init__(self, endpoint: str, ratio: float) -> None:
        resource = Resource.create({"service.name": "keybroker", "service.version": version("keybroker")})
        sampler = ParentBased(TraceIdRatioBased(ratio))
        self._provider = TracerProvider(resource=resource, sampler=sampler, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=5)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("keybroker")

    def end(self) -> None:
        """Export what is left, and nothing from now on."""
        self._provider.shutdown()

    def span(self, name: str, *, outward: bool) -> AbstractContextManager[Span]:
        """A span around what the context does, within the request under way if there is one."""
        arrival = _arrival.get()
        within = None  # what is under way
        if arrival is not None and not get_current_span().get_span_context().is_valid:
            within = set_span_in_context(arrival.span())
        return _opened(self._tracer, name, SpanKind.CLIENT if outward else SpanKind.INTERNAL, within)

    @contextmanager
    def served(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[Arrival]:
        """The context of a request."""
        arrival = Arrival(self._tracer, headers)
        before = _arrival.set(arrival)
        try:
            yield arrival
        finally:
            _arrival.reset(before)
            arrival.span().end()

    def established(self) -> None:
        """Go on in the trace that the caller of the request under way brought."""
        if (arrival := _arrival.get()) is not None:
            arrival.established()


@contextmanager
def _opened(tracer: Tracer, name: str, kind: SpanKind, parent: Context | None) -> Iterator[Span]:
    with tracer.start_as_current_span(
        name, context=parent, kind=kind, record_exception=False, set_status_on_exception=False
    ) as opened:
        try:
            yield opened
        except Exception as error:
            if not isinstance(error, BrokerError) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                _failed(opened)
            raise


def _failed(span: Span) -> None:
    """Mark what the span stands for as failed.

    No word says why: an error's text may hold anything.
    """
    span.set_status(Status(StatusCode.ERROR))
