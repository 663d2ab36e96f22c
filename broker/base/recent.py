"""What a process remembers: so many things, the least recently used one forgotten first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Up to ``limit`` values by key; to get one, or to put it, is to use it.

    Args:
        limit: how many there are at most.
        ttl: seconds after which a value is forgotten, however much it is used; None keeps it.
        clock: what ``ttl`` goes by.
    """

    def __init__(self, limit: int, ttl: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._ttl = ttl
        self._clock = clock
        self._values: OrderedDict[K, V] = OrderedDict()
        # In the order in which they end, which is not that of their use.
        self._ends: OrderedDict[K, float] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value of this key; None if there is none."""
        if self._ends:
            self.expire()
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if key in self._values:
            self.pop(key)
        self._values[key] = value
        if self._ttl is not None:
            self._ends[key] = self._clock() + self._ttl
        if len(self._values) > self._limit:
            self.pop(next(iter(self._values)))

    def pop(self, key: K) -> V | None:
        """Forget this key; its value if there was one."""
        self._ends.pop(key, None)
        return self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self._ends.clear()

    def expire(self) -> None:
        """Forget what is past its time; :meth:`get` never gives it, but until then it is in memory."""
        while self._ends and next(iter(self._ends.values())) <= self._clock():
            self.pop(next(iter(self._ends)))

    def entries(self) -> list[tuple[K, V]]:
        """Every key and value, the least recently used first; uses none."""
        return list(self._values.items())

    def __len__(self) -> int:
        return len(self._values)
