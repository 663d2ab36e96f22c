"""Traces (OpenTelemetry) of what a request waits for.  Off, and free, unless an exporter's address is set.

Spans are opened by hand at few places, with attributes from a closed set: routes, methods, statuses, words of ours.
No library's instrumentation is used, as those record URLs, queries and errors' texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from http import HTTPStatus
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from broker.base.errors import BrokerError

_PARENT = TraceContextTextMapPropagator()
_OFF: AbstractContextManager[Span] = nullcontext(INVALID_SPAN)
_tracer: Tracer | None = None


@contextmanager
def exporting(endpoint: str, ratio: float) -> Iterator[None]:
    """Export spans to an OTLP/HTTP collector (``http://host:4318``) while the context is open; "" exports nothing.

    ``ratio`` of the traces that no caller began are kept.
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
    return _opened(_tracer, name, kind, None)


def served(name: str, headers: Mapping[str, str]) -> AbstractContextManager[Span]:
    """A span of a request, within the caller's trace where ``headers`` carry one (W3C Trace Context)."""
    if _tracer is None:
        return _OFF
    return _opened(_tracer, name, SpanKind.SERVER, _PARENT.extract(headers))


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
    """Mark what the span stands for as failed, without a word of why: an error's text may hold anything."""
    span.set_status(Status(StatusCode.ERROR))
