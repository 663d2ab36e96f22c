"""Wait for what comes by itself, as long as a slow machine may take."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def eventually(ask: Callable[[], Any], *, seconds: float = 20) -> Any:
    """The first answer of ``ask`` that is true, awaited if it has to be; raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            answer = ask()
            found = await answer if inspect.isawaitable(answer) else answer
            if found:
                return found
            await asyncio.sleep(0.02)
