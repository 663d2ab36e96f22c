"""A key is submitted over a link as it came, or the text says what became of the link."""

from __future__ import annotations

import asyncio
import traceback
from collections import Counter
from dataclasses import dataclass, field

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.identity import Identity, generate
from broker.client.submission import AnswerLost, submit_key
from broker.formats import link_secret
from broker.sandbox.serve import running as serving
from tests.client.served import ClientBench
from tests.support import changed_links
from tests.support.world import World

PAGE = "https://keys.vendor.example/intake/int_" + "0123456789abcdef" * 2
SECRET = link_secret.link(bytes(range(20)), bytes(32))
OLD = link_secret.encode(bytes(range(20)))


async def test_a_changed_link_is_put_right(bench: ClientBench) -> None:
    for number, form in enumerate(
        ("<{page}#{secret}>", "{page}%2523{secret}.", " {page}#{start}\r\n{end}\u200b&fbclid=x")
    ):
        await bench.world.organization(f"customer-{number}")
        intake, secret = await bench.world.request_key(f"customer-{number}")
        link = form.format(page=f"{bench.url}/intake/{intake}", secret=secret, start=secret[:9], end=secret[9:])
        key = bench.world.upstream_keys[f"customer-{number}"].encode()
        received = await asyncio.to_thread(submit_key, link, key)
        assert received["state"] == "accepted", form
        seen = await bench.world.say("status", intake, received["status_code"], "open")
        assert (seen.json()["key"]["state"], seen.json()["receipt"]) == ("active", received["receipt"])


@pytest.mark.parametrize(
    ("link", "code"),
    [
        (PAGE, "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}", "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}?utm_campaign=a-long-campaign-of-ours", "link_cut_off"),
        (f"{PAGE}#{SECRET[:-1]}{'A' if SECRET[-1] != 'A' else 'B'}", "link_altered"),
        (f"{PAGE}#{SECRET[:32]}", "link_altered"),
        (f"{PAGE}#{SECRET[:33]}", "link_cut_off"),
        (f"https://keys.vendor.example/intake/int_1#{SECRET}", "link_invalid"),
        (f"{PAGE.replace('https', 'http')}#{SECRET}", "insecure_address"),
        (f"{PAGE.replace('https', 'HTTP')}#{SECRET}", "insecure_address"),
        (f"http://localhost.evil.example/intake/int_{'0' * 32}#{SECRET}", "insecure_address"),
        (f"http://127.0.0.1@evil.example/intake/int_{'0' * 32}#{SECRET}", "insecure_address"),
        (f"https://elsewhere.example/?url={PAGE}%23{SECRET}", "link_invalid"),
        (f"{PAGE[8:]}#{SECRET}", "link_invalid"),
        ("", "link_invalid"),
    ],
)
def test_each_way_to_lose_a_link_has_its_own_words_and_asks_nobody(link: str, code: str) -> None:
    with pytest.raises(CallFailed) as failed:
        submit_key(link, b"key")
    assert failed.value.code == code
    assert SECRET not in str(failed.value)


@pytest.mark.parametrize(
    "end", [end for text in (SECRET, OLD) for end in changed_links.kept(text) + changed_links.sent(text)]
)
def test_any_change_of_mail_programs_is_put_right(end: str) -> None:
    with pytest.raises(CallFailed) as failed:  # by nobody there, as the link is good
        submit_key(f"http://127.0.0.1:9/intake/int_{'0' * 32}{end}", b"key", timeout=5)
    assert failed.value.code == "unreachable"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.1", "[::1]"])
def test_this_machine_is_called_without_tls(host: str) -> None:
    with pytest.raises(CallFailed) as failed:
        submit_key(f"http://{host}:9/intake/int_{'0' * 32}#{SECRET}", b"key", timeout=5)
    assert failed.value.code == "unreachable"


def test_a_client_calls_no_broker_without_tls() -> None:
    identity = Identity("http://keys.vendor.example", "wkl_" + "0" * 32, generate())
    with pytest.raises(CallFailed) as failed:
        Client(identity)
    assert failed.value.code == "insecure_address"


async def acme(world: World) -> tuple[str, str]:
    await world.organization("acme")
    return await world.request_key("acme")


@dataclass
class Losing:
    """Something between that loses the answer to the so-manieth call of a step, or sends a step's calls ``twice``."""

    world: World
    loses: dict[str, int]
    twice: str = ""
    calls: Counter[str] = field(default_factory=Counter)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        step = request.url.path.rpartition("/")[2]
        headers = {name: value for name, value in request.headers.items() if name in {"content-type", "x-broker-proof"}}
        for _ in range(2 if step == self.twice else 1):
            answer = await self.world.http.post(request.url.path, content=await request.body(), headers=headers)
        self.calls[step] += 1
        if self.loses.get(step) == self.calls[step]:
            await Response("<html>", 504, media_type="text/html")(scope, receive, send)
        else:
            await Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])(
                scope, receive, send
            )


async def test_where_the_answer_is_lost_the_receipt_is_asked_for(world: World) -> None:
    intake, secret = await acme(world)
    box = Losing(world, {"submit": 1})
    async with serving(box) as url:
        received = await asyncio.to_thread(
            submit_key, f"{url}/intake/{intake}#{secret}", world.upstream_keys["acme"].encode()
        )
    assert (received["state"], received["receipt"]["state"]) == ("accepted", "accepted")
    assert (await world.say("status", intake, received["status_code"], "open")).status_code == 200


async def test_where_nobody_can_say_the_error_carries_the_code_and_no_text_does(world: World) -> None:
    intake, secret = await acme(world)
    box = Losing(world, {"submit": 1, "challenge": 3})
    key = world.upstream_keys["acme"].encode()
    async with serving(box) as url:
        with pytest.raises(AnswerLost, match="Do the same again with the same link") as failed:
            await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", key)
        error = failed.value
        assert error.status_page == f"{url}/status/{intake}"
        assert error.status_page in str(error)
        said = "".join(traceback.format_exception(error)) + repr(error) + str(error.args)
        assert error.status_code not in said
        assert (await world.say("status", intake, error.status_code, "open")).json()["receipt"]["state"] == "accepted"
        with pytest.raises(CallFailed) as again:
            await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", key)
        assert again.value.code == "intake_spent"


async def test_a_submission_that_something_sends_twice_is_received_once(world: World) -> None:
    intake, secret = await acme(world)
    box = Losing(world, {}, twice="submit")
    async with serving(box) as url:
        received = await asyncio.to_thread(
            submit_key, f"{url}/intake/{intake}#{secret}", world.upstream_keys["acme"].encode()
        )
    assert received["state"] == "accepted"
    assert len(await world.events(kind="intake.submitted")) == 1


async def test_a_refusal_whose_answer_is_lost_is_a_refusal(world: World) -> None:
    intake, secret = await acme(world)
    async with serving(Losing(world, {"submit": 1})) as url:
        with pytest.raises(CallFailed) as failed:
            await asyncio.to_thread(submit_key, f"{url}/intake/{intake}#{secret}", b"rc_live_" + b"Z" * 64)
    assert failed.value.code == "key_refused_upstream"
    assert (await world.open(intake, secret)).json()["state"] == "open"
