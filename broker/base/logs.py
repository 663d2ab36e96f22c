"""Structured logs: JSON lines whose fields are named one by one.

Request data never reaches them.  Libraries' lines go the same way.  They may quote anything: an address, a query, a
value that was refused.  So only the constant part of their texts is kept, and where they were written; see
:func:`_of_library`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from traceback import walk_tb
from types import TracebackType
from typing import TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from broker.formats.ids import RequestId

# Loggers whose texts are kept whole: they tell of addresses, processes and migrations. uvicorn's access log, which
# has queries, stays off.
_PLAIN = ("uvicorn", "alembic")
# asyncio's texts begin with what happened, and go on with the objects that it happened to.
_LEADING_WORDS = re.compile(r"[A-Za-z ,'-]*")

_log = structlog.get_logger()
_libraries = logging.StreamHandler()


def configure(level: str) -> None:
    """Log to standard error, as JSON, lines at ``level`` and above.

    Libraries' lines are logged only from ``warning`` on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    as_json = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, as_json],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),  # a line at once, as the libraries' handler writes
        cache_logger_on_first_use=False,
    )
    _libraries.setStream(sys.stderr)
    _libraries.setLevel(max(number, logging.WARNING))
    _libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_of_library, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, as_json],
            use_get_message=False,
            pass_foreign_args=True,
        )
    )
    root = logging.getLogger()
    root.addHandler(_libraries)  # once, however often this is called
    root.setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a line that can't be made would be told in clear, with its arguments
    warnings.showwarning = _warned


class RequestLog:
    """The line of each request that was answered, if the level that is configured has it.

    It is what structlog would render, put together here: its steps would take longer than all that a lease is decided
    on.
    """

    def __init__(self) -> None:
        self._on = structlog.get_logger().bind().is_enabled_for(logging.INFO)
        self._write = structlog.WriteLogger(sys.stderr).info
        self._beginning = lru_cache(maxsize=4096)(_beginning)

    def answered(self, method: str, route: str, status: int, seconds: float, request_id: RequestId) -> None:
        """Log one; ``route`` is a pattern of addresses, never an address."""
        if self._on:
            begun = self._beginning(method, route, status)
            ms, now = round(seconds * 1000, 1), datetime.now(UTC).isoformat()[:-6]
            self._write(
                f'{begun}, "ms": {ms}, "event": "request", "request_id": "{request_id}", "level": "info", '
                f'"timestamp": "{now}Z"}}'
            )


def _beginning(method: str, route: str, status: int) -> str:
    return json.dumps({"method": method, "route": route, "status": status})[:-1]


def _of_library(_logger: WrappedLogger, _name: str, line: EventDict) -> EventDict:
    """What is kept of a library's line: its logger, place and constant text.

    Of an exception, its type and frames are kept.
    """
    record: logging.LogRecord = line["_record"]
    arguments, error = line.pop("positional_args"), line.pop("exc_info", None)
    line.pop("stack_info", None)
    line["event"], line["logger"] = _text(record, arguments), record.name
    line["at"] = f"{record.filename}:{record.lineno}"
    if error and error[0] is not None:
        line["error"], line["frames"] = error[0].__name__, _frames(error[2])
    return line


def _text(record: logging.LogRecord, arguments: object) -> str:
    """What a library says, without what may hold its arguments."""
    package = record.name.partition(".")[0]
    said = str(record.msg)
    if package in _PLAIN:
        return (said % arguments if arguments else said).strip().partition("\n")[0]
    if arguments:
        return said  # not filled in
    if package == "asyncio":
        return _LEADING_WORDS.match(said)[0].strip()  # type: ignore[index]  # matches the empty text too
    return "(withheld)"  # may be filled in already


def _frames(traceback: TracebackType | None) -> list[str]:
    """Where an exception passed, outermost first, without its text and source lines."""
    return [f"{frame.f_globals.get('__name__')}:{number}" for frame, number in walk_tb(traceback)]


def _warned(
    message: Warning | str,  # noqa: ARG001 - pydantic's, for one, quotes the value that it is about
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - as the hook is called
    line: str | None = None,  # noqa: ARG001 - likewise
) -> None:
    """Log a warning, for :func:`warnings.showwarning`.

    Its kind and place are kept, but neither its text nor the source.
    """
    place = f"{Path(filename).name}:{lineno}"
    _log.warning("warning", category=category.__name__, logger="py.warnings", at=place)
