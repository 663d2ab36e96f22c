"""A broker with a planted bug: decisions are committed without what they relied on, and no message is heard.

For the check of the checker only; ``python unguarded.py serve`` is ``broker serve`` otherwise.
"""

from __future__ import annotations

from typing import Any

from broker.base.listen import Listener
from broker.cli import main
from broker.leases.leasing import Leasing
from broker.leases.snapshot import AccessSnapshot


async def _deaf(_self: Listener) -> None:
    """Hear nothing."""


def _nothing(*_given: Any) -> dict[str, int]:
    return {}


if __name__ == "__main__":
    Leasing.guards_of = _nothing  # type: ignore[assignment,method-assign]  # a guard taken out
    AccessSnapshot.guards = _nothing  # type: ignore[assignment,method-assign]  # a guard taken out
    Listener.run = _deaf  # type: ignore[method-assign,assignment]  # likewise: no news
    main()
