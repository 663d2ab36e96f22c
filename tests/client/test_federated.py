"""A job without a key at a real broker: each exchange takes the platform's token of that moment."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from broker.client import client as clients
from broker.client.client import Client
from broker.client.errors import AccessEnded, CallFailed
from broker.client.identity import read
from broker.client.keyless import KeylessIdentity
from broker.client.platform.source import no_token
from broker.client.upstream import Upstream
from tests.client.federated import RAPTOR, Federated, federated
from tests.client.test_renewal import Hurry, hurry
from tests.support.platform import CLUSTER
from tests.support.waiting import eventually

__all__ = ["hurry"]


@pytest.fixture
async def there(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Federated]:
    async with federated(tmp_path, sqlite_url) as made:
        yield made


@pytest.fixture
def hasty(hurry: Hurry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease is renewed every tenth of a second or so, each time with another access token."""
    monkeypatch.setattr(clients, "EARLY", 0.0)


def name(token: str) -> str:
    """What names a token on the record that may be used again."""
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


async def held(there: Federated, who: KeylessIdentity | None = None) -> Upstream:
    there.clients.append(Client(who or read(there.identity)))
    return await asyncio.to_thread(there.clients[-1].upstream, "acme", RAPTOR, ttl=600)


async def called(acme: Upstream) -> int:
    return (await asyncio.to_thread(requests.get, f"{acme.url}/facilities", auth=acme, timeout=30)).status_code


async def test_a_long_job_proves_itself_anew_with_the_token_that_is_there_then(there: Federated, hasty: None) -> None:
    # given a job that is renewed for as long as it runs
    first = there.project()
    acme = await held(there)
    assert await called(acme) == 200
    assert set(await there.tokens_issued()) == {name(first)}
    # when the cluster puts another token into the place of the first
    second = there.project()

    async def renewed_with_it() -> bool:
        return name(second) in await there.tokens_issued()

    # then that one proves who the job is, and it goes on
    await eventually(renewed_with_it)
    assert await called(acme) == 200
    await asyncio.to_thread(acme.close)


@dataclass
class Moody:
    """A platform that gives tokens when it likes."""

    there: Federated
    gives: bool = True
    refused: int = 0
    withheld: frozenset[str] = frozenset()

    def token(self, audience: str) -> str:
        """The pod's."""
        if not self.gives:
            self.refused += 1
            raise no_token("Not now.")
        return self.there.platform.pod_token(aud=[audience])


async def test_a_platform_that_gives_no_token_for_a_while_ends_nothing(there: Federated, hasty: None) -> None:
    # given a job whose platform says no, again and again
    source = Moody(there)
    acme = await held(there, KeylessIdentity(there.url, there.workload, source))
    source.gives = False
    await eventually(lambda: source.refused > 2)
    assert await called(acme) == 200, "its lease lasts"
    # when it gives tokens again
    before = len(await there.tokens_issued())
    source.gives = True

    async def goes_on() -> bool:
        return len(await there.tokens_issued()) > before + 2

    # then the job goes on as before
    await eventually(goes_on)
    assert await called(acme) == 200
    await asyncio.to_thread(acme.close)


async def test_a_job_whose_machine_slept_comes_back_with_the_token_of_now(there: Federated) -> None:
    there.project()
    with Client(read(there.identity)) as client:
        await asyncio.to_thread(client.leases)
        there.platform.world.clock.forward(seconds=700)
        second = there.project()
        await asyncio.to_thread(client.leases)
    assert (await there.tokens_issued())[-1] == name(second)


async def test_a_ci_makes_a_token_for_each_exchange_and_each_is_good_once(
    there: Federated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in there.runner.items():
        monkeypatch.setenv(variable, value)
    for _ in range(2):
        with Client.ambient() as client:
            assert (await asyncio.to_thread(client.access_token)).expires_in <= 300, "no longer than the CI's token"
    names = await there.tokens_issued()
    assert len(set(names)) == len(names) == 2


async def test_a_challenge_for_a_nonce_costs_no_token_that_is_good_once(
    there: Federated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in there.runner.items():
        monkeypatch.setenv(variable, value)
    with Client.ambient(bound=True) as client:
        issued = await asyncio.to_thread(client.lease, "acme", RAPTOR)
    assert issued.bound
    assert len(await there.tokens_issued()) == 1, "the first proof held no nonce yet"


async def test_a_job_that_was_revoked_has_lost_its_access_for_good(there: Federated) -> None:
    there.project()
    await there.platform.world.call("POST", f"/v1/workloads/{there.workload}/revoke", json={})
    with Client(read(there.identity)) as client, pytest.raises(AccessEnded) as ended:
        await asyncio.to_thread(client.token)
    assert ended.value.code == "workload_revoked"


async def test_a_trust_that_is_revoked_ends_the_job_that_stands_on_it(there: Federated, hasty: None) -> None:
    # given a job that works under a trust in its cluster
    there.project()
    acme = await held(there)
    assert await called(acme) == 200
    # when that is revoked
    await there.revoke(there.trusts[CLUSTER])

    def refused() -> bool:
        try:
            acme.headers()
        except CallFailed as ended:
            return not ended.transient
        return False

    # then the job has no access any more, and asks no more
    await eventually(refused)
    await asyncio.to_thread(acme.close)


async def test_a_trust_that_takes_anothers_place_lets_a_running_job_go_on(there: Federated, hasty: None) -> None:
    # given a job that works, and a second trust that takes the same tokens
    there.project()
    acme = await held(there)
    first = acme.headers()
    await there.platform.trust(there.workload)
    # when the first one is revoked
    await there.revoke(there.trusts[CLUSTER])
    # then the job proves itself by the second, and has another lease
    await eventually(lambda: acme.headers() != first)
    assert await called(acme) == 200
    await asyncio.to_thread(acme.close)


async def test_an_access_token_under_a_trust_that_is_over_is_replaced_by_one_under_another(there: Federated) -> None:
    there.project()
    with Client(read(there.identity)) as client:
        first = await asyncio.to_thread(client.token)
        await there.platform.trust(there.workload)
        await there.revoke(there.trusts[CLUSTER])
        assert await asyncio.to_thread(client.leases) == []
        assert await asyncio.to_thread(client.token) != first
