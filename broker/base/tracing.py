"""Traces (OpenTelemetry) of what a request waits for.

They are off, and free, unless an exporter's address is set: only then are :mod:`broker.base.spans` and OpenTelemetry
imported.

Spans are opened by hand at few places, with attributes from a closed set: routes, methods, statuses, words of ours.  No
library's instrumentation is used, as those record URLs, queries and errors' texts.

A request goes on in its caller's trace only once the caller is known.  Otherwise a stranger would choose what is
exported, and put spans into other people's traces.  So the request's span is opened once the caller is known, by the
first thing that is waited for before that, or at the end.  It is dated back to when the request came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from broker.base.spans import Arrival, Spans

_OFF: AbstractContextManager[None] = nullcontext()
_spans: Spans | None = None


@contextmanager
def exporting(endpoint: str, ratio: float) -> Iterator[None]:
    """Export spans to an OTLP/HTTP collector (``http://host:4318``) while the context is open.

    "" exports nothing.  ``ratio`` of the traces that no established caller began are kept.
    """
    global _spans  # noqa: PLW0603 - one exporter a process, as for logs
    if not endpoint:
        yield
        return
    from broker.base.spans import Spans  # noqa: PLC0415 - time and memory of whoever exports

    _spans = exporter = Spans(endpoint, ratio)
    try:
        yield
    finally:
        _spans = None
        exporter.end()


def span(name: str, *, outward: bool = False) -> AbstractContextManager[Span | None]:
    """A span around what the context does; None if tracing is off.

    It is ``outward`` if another service is asked meanwhile.
    """
    return _OFF if _spans is None else _spans.span(name, outward=outward)


def served(headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Arrival | None]:
    """The context of a request; None if tracing is off.

    Its span goes on in the caller's trace if ``headers`` carry one (W3C Trace Context) and :func:`established` is
    called.
    """
    return _OFF if _spans is None else _spans.served(headers)


def established() -> None:
    """Say that the caller of the request under way is known."""
    if _spans is not None:
        _spans.established()
