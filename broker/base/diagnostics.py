"""Structured logs: JSON lines whose fields are named one by one; request data never reaches them."""

from __future__ import annotations

import logging
import sys

import structlog

# Libraries that would log tokens, URLs with queries or parameters at lower levels.
_QUIET = ("authlib", "httpx2", "httpcore2", "sqlalchemy", "asyncio", "hpack", "urllib3")


def configure(level: str) -> None:
    """Log lines at ``level`` and above to standard error as JSON; libraries only from ``warning`` on."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
