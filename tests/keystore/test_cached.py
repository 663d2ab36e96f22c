"""What is kept of opened keys, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from broker.base.secret import Secret
from broker.formats.envelope import Binding
from broker.keystore.cached import Cached
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import LocalKeyWrapper, MasterKeys
from tests.support.clock import FakeClock

SECONDS = 60.0


class Away(EnvelopeKeystore):
    """A keystore that opens while it is there, and when it is let."""

    def __init__(self) -> None:
        super().__init__(LocalKeyWrapper(MasterKeys({}, "").with_new_key()))
        self.there = True
        self.let = asyncio.Event()
        self.let.set()

    async def open(self, sealed: bytes, binding: Binding) -> Secret:
        await self.let.wait()
        if not self.there:
            raise KeystoreUnavailable("away")
        return await super().open(sealed, binding)


class CachedBench:
    """A cache whose clock a test moves."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.inner = Away()
        self.cached = Cached(self.inner, SECONDS, self.clock)
        self.sealed: dict[str, bytes] = {}

    async def opens(self, name: str, purpose: str = "credential") -> bool:
        place = Binding(purpose, "org_a", name, 1, "p")
        if name not in self.sealed:
            self.sealed[name] = await self.cached.seal(Secret(name.encode()), place)
        try:
            return (await self.cached.open(self.sealed[name], place)).reveal() == name.encode()
        except KeystoreUnavailable:
            return False


async def test_a_key_is_served_within_its_time_and_not_beyond_it() -> None:
    bench = CachedBench()
    assert await bench.opens("a")
    bench.inner.there = False
    bench.clock.now += SECONDS - 1
    assert await bench.opens("a")
    assert not await bench.opens("b"), "only what was opened"
    bench.clock.now += 1
    assert not await bench.opens("a")
    assert not bench.cached.in_memory


async def test_two_that_open_the_same_key_at_once_keep_no_other_beyond_its_time() -> None:
    bench = CachedBench()
    bench.inner.let.clear()
    slow = asyncio.create_task(bench.opens("a"))
    while "a" not in bench.sealed:
        await asyncio.sleep(0)
    # given: while one waits for the keystore, another opens the same key, and a second one
    waiting, bench.inner.let = bench.inner.let, asyncio.Event()
    bench.inner.let.set()
    assert await bench.opens("a")
    assert await bench.opens("b")
    # and: the one that waited is answered later
    bench.clock.now += SECONDS / 2
    waiting.set()
    assert await slow
    # when: the second key's time is over, and the first one's isn't
    bench.inner.there = False
    bench.clock.now += SECONDS / 2
    assert not await bench.opens("b")
    assert await bench.opens("a")


async def test_what_is_erased_is_not_kept() -> None:
    bench = CachedBench()
    assert await bench.opens("a")
    assert await bench.opens("b")
    await bench.cached.erase(bench.sealed["a"])
    bench.inner.there = False
    assert not await bench.opens("a")
    assert await bench.opens("b")


@pytest.mark.parametrize("purpose", ["webhook", "intake-private-key"])
async def test_only_customers_keys_are_kept(purpose: str) -> None:
    bench = CachedBench()
    assert await bench.opens("a", purpose)
    assert not bench.cached.in_memory
