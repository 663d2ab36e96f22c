"""Why nothing can be put on the record just now."""

from __future__ import annotations

from broker.base.errors import Unavailable


class AuditUnavailable(Unavailable):
    """The event could not be made durable in time, so the answer is no."""

    code = "audit_unavailable"
    title = "The audit record can't be written just now"


class DatabaseBehind(AuditUnavailable):
    """The database holds less than was recorded: it was restored from a backup.

    Nothing is done on it.
    """

    code = "database_behind"
    title = "The database was restored from a backup"

    def __init__(self, public: str = "") -> None:
        super().__init__(public or "An operator has to look at it first: `broker restored`, on the server.")
