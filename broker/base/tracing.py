"""Traces (OpenTelemetry) of what a request waits for.

They are off, and free, unless an exporter's address is set.

Spans are opened by hand at few places, with attributes from a closed set: routes, methods, statuses, words of ours.  No
library's instrumentation is used, as those record URLs, queries and errors' texts.

A request goes on in its caller's trace only once the caller is known.  Otherwise a stranger would choose what is
exported, and put spans into other people's traces.  So the request's span is opened once the caller is known, by the
first thing that is waited for before that, or at the end.  It is dated back to when the request came.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from http import HTTPStatus
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.base.errors import BrokerError

_PARENT = TraceContextTextMapPropagator()
_OFF: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
_UNSERVED: AbstractContextManager[Callable[[], Span]] = nullcontext(lambda: INVALID_SPAN)
_tracer: Tracer | None = None


class _Arrival:
    """A request under way; its span is opened once."""

    def __init__(self, tracer: Tracer, name: str, headers: Mapping[str, str]) -> None:
        self._tracer, self._name, self._headers = tracer, name, headers
        self._came = time.time_ns()
        self._span: Span | None = None

    def span(self) -> Span:
        """The request's span, in a trace of its own if nobody was known yet."""
        return self._opened(Context())

    def established(self) -> None:
        """Go on in the trace that the caller brought, if any."""
        self._opened(_PARENT.extract(self._headers, Context()))

    def _opened(self, parent: Context) -> Span:
        if self._span is None:
            self._span = self._tracer.start_span(
                self._name, context=parent, kind=SpanKind.SERVER, start_time=self._came
            )
        return self._span


_arrival: ContextVar[_Arrival | None] = ContextVar("arrival", default=None)


@contextmanager
def exporting(endpoint: str, ratio: float) -> Iterator[None]:
    """Export spans to an OTLP/HTTP collector (``http://host:4318``) while the context is open.

    "" exports nothing.  ``ratio`` of the traces that no established caller began are kept.
    """
    global _tracer  # noqa: PLW0603 - one exporter a process, as for logs
    if not endpoint:
        yield
        return
    resource = Resource.create({"service.name": "keybroker", "service.version": version("keybroker")})
    provider = TracerProvider(resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint.rstrip("/") + "/v1/traces", timeout=5)))
    _tracer = provider.get_tracer("keybroker")
    try:
        yield
    finally:
        _tracer = None
        provider.shutdown()


def span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AbstractContextManager[Span]:
    """A span around what the context does."""
    if _tracer is None:
        return _OFF
    arrival = _arrival.get()
    within = None  # what is under way
    if arrival is not None and not get_current_span().get_span_context().is_valid:
        within = set_span_in_context(arrival.span())
    return _opened(_tracer, name, kind, within)


def served(name: str, headers: Mapping[str, str]) -> AbstractContextManager[Callable[[], Span]]:
    """The context of a request; gives its span.

    The span goes on in the caller's trace if ``headers`` carry one (W3C Trace Context) and :func:`established` is
    called.
    """
    return _UNSERVED if _tracer is None else _served(_Arrival(_tracer, name, headers))


@contextmanager
def _served(arrival: _Arrival) -> Iterator[Callable[[], Span]]:
    before = _arrival.set(arrival)
    try:
        yield arrival.span
    finally:
        _arrival.reset(before)
        arrival.span().end()


def established() -> None:
    """Say that the caller of the request under way is known."""
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
                failed(opened)
            raise


def failed(span: Span) -> None:
    """Mark what the span stands for as failed.

    No word says why: an error's text may hold anything.
    """
    span.set_status(Status(StatusCode.ERROR))
