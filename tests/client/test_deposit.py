"""A key is deposited over a link as it came, or the text says what became of the link."""

from __future__ import annotations

import asyncio

import pytest

from broker.client.deposit import deposit
from broker.client.errors import CallFailed
from broker.formats import linksecret
from tests.client.served import Desk
from tests.support import changed_links

PAGE = "https://keys.vendor.example/intake/int_" + "0123456789abcdef" * 2
SECRET = linksecret.encode(bytes(range(20)))


async def test_a_changed_link_is_put_right(desk: Desk) -> None:
    for number, form in enumerate(
        ("<{page}#{secret}>", "{page}%2523{secret}.", " {page}#{start}\r\n{end}\u200b&fbclid=x")
    ):
        await desk.world.organization(f"customer-{number}")
        intake, secret = await desk.world.request_key(f"customer-{number}")
        link = form.format(page=f"{desk.url}/intake/{intake}", secret=secret, start=secret[:9], end=secret[9:])
        key = desk.world.upstream_keys[f"customer-{number}"].encode()
        assert (await asyncio.to_thread(deposit, link, key))["state"] == "accepted", form


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (PAGE, "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}", "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}?utm_campaign=a-long-campaign-of-ours", "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}{'A' if SECRET[-1] != 'A' else 'B'}", "link_altered"),
        (f"https://keys.vendor.example/intake/int_1#{SECRET}", "link_invalid"),
        (f"https://elsewhere.example/?url={PAGE}%23{SECRET}", "link_invalid"),
        (f"{PAGE[8:]}#{SECRET}", "link_invalid"),
        ("", "link_invalid"),
    ],
)
def test_each_way_to_lose_a_link_has_its_own_words_and_asks_nobody(link: str, code: str) -> None:
    with pytest.raises(CallFailed) as failed:
        deposit(link, b"key")
    assert failed.value.code == code
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize("end", changed_links.kept(SECRET) + changed_links.sent(SECRET))
def test_any_change_of_mail_programs_is_put_right(end: str) -> None:
    with pytest.raises(CallFailed) as failed:  # by nobody there, as the link is good
        deposit(f"http://127.0.0.1:9/intake/int_{'0' * 32}{end}", b"key", timeout=5)
    assert failed.value.code == "unreachable"
