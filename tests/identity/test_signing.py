"""Keys that sign access tokens: another replica's are found, and naming one that isn't there costs next to nothing."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64encode

import pytest

from broker.base.errors import InvalidToken
from broker.identity.access_tokens import AccessTokens
from broker.identity.signing import SigningKeys
from tests.support.world import World


def junk(kid: str) -> str:
    """A token of nobody's."""
    header, claims = ({"alg": "EdDSA", "typ": "at+jwt", "kid": kid}, {"iss": "x"})
    parts = (urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims))
    return ".".join([*parts, "c2ln"])


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every time that the keys are read and opened."""
    made: list[str] = []
    load = SigningKeys.load

    async def loading(self: SigningKeys) -> None:
        made.append("load")
        await asyncio.sleep(0)
        await load(self)

    monkeypatch.setattr(SigningKeys, "load", loading)
    return made


async def refused(tokens: AccessTokens, kid: str) -> None:
    with pytest.raises(InvalidToken):
        await tokens.verify(junk(kid))


async def test_fifty_tokens_of_unknown_keys_are_one_look_in_seconds(world: World, loads: list[str]) -> None:
    tokens = world.services.access_tokens
    await asyncio.gather(*(refused(tokens, f"at-once-{number}") for number in range(25)))
    for number in range(25):
        await refused(tokens, f"one-by-one-{number}")
    assert len(loads) == 1
    assert "keybroker_access_tokens_of_unknown_keys_total 50.0" in (await world.http.get("/metrics")).text
    # and: seconds later another look is due
    world.clock.forward(seconds=5)
    await refused(tokens, "later")
    assert len(loads) == 2


async def test_the_cool_down_follows_no_jump_of_the_clock(world: World, loads: list[str]) -> None:
    await refused(world.services.access_tokens, "one")
    world.clock.jump(hours=1)
    await refused(world.services.access_tokens, "two")
    assert len(loads) == 1


@pytest.fixture
def unknowing(world: World) -> AccessTokens:
    """A replica that has not read the keys yet."""
    parts = world.services.parts
    keys = SigningKeys(parts.db, parts.keystore, parts.clock)
    return AccessTokens(world.services.options.public_url, keys, parts.clock)


async def test_all_who_come_with_another_replicas_key_wait_for_one_look(
    world: World, loads: list[str], unknowing: AccessTokens
) -> None:
    token = (await (await world.job()).headers())["Authorization"].removeprefix("Bearer ")
    first = asyncio.create_task(unknowing.verify(token))
    others = [asyncio.create_task(unknowing.verify(token)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()  # who began it leaves
    found = await asyncio.gather(*others)
    assert {workload.name for workload in found} == {"sync"}
    assert len(loads) == 1
    assert unknowing.of_unknown_keys == 0


async def test_a_look_that_failed_is_no_look(
    world: World, unknowing: AccessTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_self: SigningKeys) -> None:
        raise ConnectionRefusedError

    token = (await (await world.job()).headers())["Authorization"].removeprefix("Bearer ")
    with monkeypatch.context() as patched:
        patched.setattr(SigningKeys, "load", away)
        with pytest.raises(ConnectionRefusedError):
            await unknowing.verify(token)
    assert (await unknowing.verify(token)).name == "sync"
