"""One of several processes of ``broker serve``, as its parent hands it over.

To read it takes no time.  What it imports takes seconds, in which a process that hadn't read it yet would not answer
its parent, and be taken to hang.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from starlette.types import ASGIApp


@dataclass(frozen=True, slots=True)
class OneOfSeveral:
    """Called in its process, it is what that serves.

    ``entrance`` leads to the parent, which writes for all of them on SQLite.
    """

    with_worker: bool
    entrance: socket.socket | None

    def __call__(self) -> ASGIApp:
        """Import the server and have it ready."""
        from broker.cli import server

        return server.served(with_worker=self.with_worker, entrance=self.entrance)
