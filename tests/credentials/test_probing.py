"""A key that can't be asked about, for a reason of ours, is asked about later and holds nobody up."""

from __future__ import annotations

from typing import Any

import pytest

from broker.providers.catalog import Catalog
from broker.sandbox.state import Faults
from tests.support.world import World


async def test_a_keystore_that_is_away_gives_one_closed_probe_and_time_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a key that waits for upstream, and a keystore that opens nothing
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    world.upstream.faults = Faults(outage=True)
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "verifying"
    world.upstream.faults = Faults()

    async def away(*_: Any) -> Any:
        raise RuntimeError("the keystore is away")

    with monkeypatch.context() as patched:
        patched.setattr(type(world.services.parts.keystore), "open", away)
        await world.work(hours=1)
        before = len(await world.events(kind="credential.probe.authorized"))
        for _ in range(5):
            await world.work(seconds=5)
    # then it is not asked for again and again, and no probe stays without its end
    asked = await world.events(kind="credential.probe.authorized")
    ended = await world.events(kind="credential.probe.completed")
    assert before == len(asked) == len(ended) == 2
    assert ended[-1]["core"]["reason"] == "unavailable"
    # and once the keystore is back, the key comes into use
    await world.work(hours=1)
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "accepted"


@pytest.mark.parametrize("state", ["active", "revoked"])
async def test_a_provider_file_that_was_taken_away_holds_no_other_key_up(
    world: World, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    credential = await world.key_for("acme")
    if state == "revoked":
        await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={})

    def gone(*_: Any) -> Any:
        raise RuntimeError("no such provider")

    asked: list[int] = []
    verification = world.services.verification
    real = type(verification).or_later

    async def counted(self: Any, row: Any, work: Any) -> None:
        asked.append(row.number)
        await real(self, row, work)

    monkeypatch.setattr(type(verification), "or_later", counted)
    monkeypatch.setattr(Catalog, "get", gone)
    await world.work(hours=2)
    for _ in range(3):
        await world.work()
    assert asked == [1]
