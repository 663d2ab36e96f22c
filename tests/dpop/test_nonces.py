"""Proofs hold what the broker gave lately, whichever replica did (RFC 9449 §8)."""

from __future__ import annotations

import secrets

import pytest

from broker.base.clock import Millis
from broker.identity.dpop.nonces import Nonces
from tests.support.proofs import KeyHolder
from tests.support.world import World, running_world


class Dial:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at = Millis(1_790_000_000_000)

    def __call__(self) -> Millis:
        return self.at


def test_each_minute_has_one_nonce_and_every_replica_knows_it() -> None:
    clock, key = Dial(), secrets.token_bytes(32)
    first, second = Nonces(key, clock), Nonces(key, clock)
    given = first.current()
    assert second.takes(given)
    clock.at = Millis(clock.at + 60_000)
    assert first.current() != given
    assert second.takes(given)


@pytest.mark.parametrize(("seconds", "taken"), [(299, True), (361, False), (86_400, False), (-119, False)])
def test_a_nonce_is_taken_for_some_minutes(seconds: int, taken: bool) -> None:
    clock = Dial()
    nonces = Nonces(secrets.token_bytes(32), clock)
    clock.at = Millis(clock.at // 60_000 * 60_000)
    given = nonces.current()
    clock.at = Millis(clock.at + seconds * 1000)
    assert nonces.takes(given) is taken


def test_what_another_broker_gave_is_not_taken() -> None:
    clock = Dial()
    ours, theirs = Nonces(secrets.token_bytes(32), clock), Nonces(secrets.token_bytes(32), clock)
    assert not ours.takes(theirs.current())


@pytest.mark.parametrize("unverified", [None, "", 7, True, [], "A" * 22, "A" * 21 + "!", "é" * 22, "A" * 10_000])
def test_what_is_no_nonce_is_not_taken(unverified: object) -> None:
    nonces = Nonces(secrets.token_bytes(32), Dial())
    assert not nonces.takes(unverified)


async def test_a_proof_without_a_nonce_is_told_one(world: World) -> None:
    job = KeyHolder(await world.job())
    answer = await job.ask_for_token()
    assert (answer.status_code, answer.json()["error"]) == (400, "use_dpop_nonce")
    job.nonce = answer.headers["dpop-nonce"]
    assert (await job.ask_for_token()).status_code == 200


async def test_an_old_nonce_is_refused_with_the_next(world: World) -> None:
    job = KeyHolder(await world.job())
    await job.fetch_nonce()
    world.clock.forward(seconds=400)
    answer = await job.ask_for_token()
    assert answer.json()["error"] == "use_dpop_nonce"
    assert answer.headers["dpop-nonce"] != job.nonce


async def test_an_answer_brings_the_next_nonce(world: World) -> None:
    job = KeyHolder(await world.job())
    await job.fetch_nonce()
    world.clock.forward(seconds=120)
    answer = await job.ask_for_token()
    assert answer.status_code == 200
    assert answer.headers["dpop-nonce"] != job.nonce


async def test_a_nonce_of_one_replica_is_good_on_another(world: World) -> None:
    job = KeyHolder(await world.job())
    await job.fetch_nonce()
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        job.job.world = other
        assert (await job.ask_for_token()).status_code == 200
