"""The address that limits count by and the record keeps: of whoever called, as trusted proxies tell it."""

from __future__ import annotations

import httpx2
import pytest

from broker.config import SettingsUnusable, load
from tests.support.world import World


@pytest.mark.parametrize(
    ("told", "recorded"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("<b>x</b>", ""),
        ("<b>x</b>, 10.1.2.3", ""),
        ("fe80::1%<b>x</b>", "fe80::1"),
        ("unknown", ""),
        ("", "10.0.0.7"),
    ],
)
async def test_what_a_proxy_tells_is_an_address_or_none(world: World, told: str, recorded: str) -> None:
    # given the broker as `broker serve` runs it, behind a proxy that it trusts
    transport = httpx2.ASGITransport(app=world.behind_a_proxy(), client=("10.0.0.7", 1))
    async with httpx2.AsyncClient(transport=transport, base_url=world.settings.public_url) as http:
        headers = {**world.admin, "X-Forwarded-For": told}
        made = await http.post("/v1/organizations", headers=headers, json={"slug": "acme", "name": "Acme"})
    assert made.status_code == 201, made.text
    (event,) = await world.events(kind="organization.created")
    assert event["personal"].get("address", "") == recorded


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ingress-nginx", "ingress-nginx is neither an address"),
        ("127.0.0.1, 10.1.2.3/8", "10.1.2.3/8 is neither"),
        ("10.0.0.0/8,REPLACE-ME", "REPLACE-ME is neither"),
        ("*", "everybody"),
        ("127.0.0.1,0.0.0.0/0", "everybody"),
        ("::/0", "everybody"),
    ],
)
def test_what_would_believe_nobody_or_everybody_is_refused_at_start(
    named: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_TRUSTED_PROXIES", named)
    with pytest.raises(SettingsUnusable, match=r"BROKER_TRUSTED_PROXIES: ") as refused:
        load()
    assert said in str(refused.value)


@pytest.mark.parametrize("named", ["", "127.0.0.1", "10.1.2.0/24, 2001:db8::/32,::1"])
def test_addresses_and_networks_are_taken(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER_TRUSTED_PROXIES", named)
    assert load().trusted_proxies == named
