"""From where a call came, as trusted proxies tell it."""

from __future__ import annotations

import httpx2
import pytest

from tests.support.world import World


@pytest.mark.parametrize(
    ("told", "recorded"),
    [("6.6.6.6, 203.0.113.9", "203.0.113.9"), ("<b>x</b>, 10.1.2.3", ""), ("fe80::1%<b>x</b>", "fe80::1")],
)
async def test_a_use_is_recorded_from_an_address_or_from_none(world: World, told: str, recorded: str) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    # given a proxy that the broker trusts, as `broker serve` does, which appends to what it is sent
    transport = httpx2.ASGITransport(app=world.behind_a_proxy(), client=("10.0.0.7", 1))
    headers = {"Authorization": f"Bearer {lease['token']}", "X-Forwarded-For": told}
    async with httpx2.AsyncClient(transport=transport) as http:
        assert (await http.get(f"{lease['proxy_url']}/facilities", headers=headers)).status_code == 200
    (used,) = await world.events(kind="use.authorized")
    assert used["personal"].get("address", "") == recorded
