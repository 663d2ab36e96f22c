"""Many data keys in one call to Vault.

It is for whoever moves many values, and so asks for all of them at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from broker.base.shared import Shared
from broker.formats.envelope import Binding
from broker.keystore.vault.transit import TransitWrapper

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")

_AT_ONCE = 256


class InBatches:
    """A :class:`~broker.keystore.keystore.KeyWrapper` that asks another one for many at once.

    What Vault refuses among them is found by halves, so that it alone is refused.
    """

    def __init__(self, transit: TransitWrapper) -> None:
        async def newest(asked: Sequence[str]) -> Mapping[str, str]:
            return dict.fromkeys(asked, await transit.newest())

        self._newest = Shared(newest, 1, "transit-newest")
        self._wraps = Shared(_each(transit.wrap_all), _AT_ONCE, "transit-wraps")
        self._unwraps = Shared(_each(transit.unwrap_all), _AT_ONCE, "transit-unwraps")

    async def newest(self) -> str:
        return await self._newest.ask("")

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        return await self._wraps.ask((data_key, binding))

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        return await self._unwraps.ask((kek_id, wrapped, binding))


def _each(
    answer: Callable[[Sequence[Asked]], Awaitable[Sequence[Answer]]],
) -> Callable[[Sequence[Asked]], Awaitable[Mapping[Asked, Answer]]]:
    async def by_question(asked: Sequence[Asked]) -> Mapping[Asked, Answer]:
        return dict(zip(asked, await answer(asked), strict=True))

    return by_question
