"""``python -m tests.bench.without_log`` is the ``broker`` command, but that its log doesn't grow."""

from __future__ import annotations

from broker.audit import duties
from broker.cli import main


async def _nothing(*_: object) -> None:
    pass


vars(duties)["integrate"] = _nothing
main()
