"""What a partner reports is cut off at once, whatever else the report says; strangers can do nothing with it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from broker.base.errors import Unavailable
from broker.incidents.exposure import expose
from broker.leaks import partner as partner_keys
from broker.leaks import reports
from broker.leaks.arriving import Arriving
from broker.proxy.in_flight import InFlightCalls
from broker.sandbox.serve import running as serving
from tests.support.world import World, running_world, settings_for, upstream

OTHER = "rc_live_" + "k9Zq" * 16


@dataclass
class Partner:
    """GitHub's side: its published keys, and how it signs."""

    world: World
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    asked: int = 0
    away: bool = False
    piece: int = 0
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, key_id: str) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    async def list(self, _request: Request) -> Response:
        self.asked += 1
        await self.answers.wait()
        if self.away:
            return Response(status_code=503)
        shown = [
            {
                "key_identifier": key_id,
                "key": key.public_key()
                .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
                .decode(),
                "is_current": True,
            }
            for key_id, key in self.keys.items()
        ]
        whole = JSONResponse({"public_keys": shown})
        return StreamingResponse(self._pieces(bytes(whole.body))) if self.piece else whole

    async def _pieces(self, whole: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(whole), self.piece):
            yield whole[at : at + self.piece]
            await asyncio.sleep(0)

    async def report(self, body: bytes, *, key_id: str = "k1", signed: bytes | None = None) -> Any:
        key = self.keys.get(key_id) or ec.generate_private_key(ec.SECP256R1())
        signature = key.sign(body if signed is None else signed, ec.ECDSA(hashes.SHA256()))
        headers = {
            "Github-Public-Key-Identifier": key_id,
            "Github-Public-Key-Signature": base64.b64encode(signature).decode(),
            "Content-Type": "application/json",
        }
        return await self.world.http.post("/v1/leaks/reports/github", content=body, headers=headers)


def report_of(*keys: str) -> bytes:
    url = "https://github.com/x/y/blob/a/b.env"
    return json.dumps(
        [{"token": key, "type": "raptor_comply", "url": url, "source": "content"} for key in keys]
    ).encode()


@pytest.fixture
async def partner(tmp_path: Path, database_url: str) -> AsyncIterator[Partner]:
    made = Partner.__new__(Partner)
    made.keys, made.asked, made.away, made.piece, made.answers = {}, 0, False, 0, asyncio.Event()
    made.answers.set()
    app = Starlette(routes=[Route("/keys", made.list)])
    async with serving(app) as keys_url, upstream() as (state, url):
        more = {"leak_report_keys_url": keys_url + "/keys", "private_webhooks": True}
        async with running_world(settings_for(tmp_path, database_url, url, **more), state, url) as world:
            made.world = world
            made.publish("k1")
            yield made


async def test_a_signed_report_cuts_our_key_off_and_says_which_tokens_were_ours(
    partner: Partner, capfd: pytest.CaptureFixture[str]
) -> None:
    world = partner.world
    credential = await world.key_for("acme")
    key = world.upstream_keys["acme"]
    answer = await partner.report(report_of(key, OTHER))
    assert answer.status_code == 200
    assert [(one["label"], one["token_type"]) for one in answer.json()] == [
        ("true_positive", "raptor_comply"),
        ("false_positive", "raptor_comply"),
    ]
    assert answer.json()[0]["token_hash"] == base64.b64encode(hashlib.sha256(key.encode()).digest()).decode()
    assert await world.states(credential) == ["revoked"]
    (exposure,) = (await world.call("GET", "/v1/exposures"))["items"]
    assert (exposure["found_by"], exposure["where"]) == (
        "GitHub secret scanning",
        "https://github.com/x/y/blob/a/b.env",
    )

    # again: no change
    assert (await partner.report(report_of(key))).status_code == 200
    assert len((await world.call("GET", "/v1/exposures"))["items"]) == 1
    written = answer.text + "".join(capfd.readouterr()) + json.dumps(await world.events())
    assert key not in written
    assert OTHER not in written


async def test_a_report_whose_address_holds_the_key_is_acted_on_and_kept_without_it(partner: Partner) -> None:
    world = partner.world
    credential = await world.key_for("acme")
    key = world.upstream_keys["acme"]
    body = json.dumps([{"token": key, "type": "x", "url": f"https://github.com/x?q={key}", "source": "content"}])
    assert (await partner.report(body.encode())).status_code == 200
    assert await world.states(credential) == ["revoked"]
    (exposure,) = (await world.call("GET", "/v1/exposures"))["items"]
    assert exposure["where"] == "https://github.com/x?q=…"
    assert key not in json.dumps([await world.events(), (await world.call("GET", "/v1/leaks/findings"))])


async def test_two_keys_in_the_same_address_are_both_cut_off_and_neither_is_kept(partner: Partner) -> None:
    world = partner.world
    credentials = [await world.key_for("acme"), await world.key_for("globex")]
    keys = [world.upstream_keys["acme"], world.upstream_keys["globex"]]
    stripe = "sk_live_" + "a1" * 12
    url = f"https://github.com/x?a={keys[0]}&b={keys[1]}&c={stripe}"
    body = json.dumps([{"token": key, "type": "x", "url": url, "source": "content"} for key in keys])
    assert [one["label"] for one in (await partner.report(body.encode())).json()] == ["true_positive"] * 2
    assert [await world.states(one) for one in credentials] == [["revoked"], ["revoked"]]
    exposures = (await world.call("GET", "/v1/exposures"))["items"]
    assert [one["where"] for one in exposures] == ["https://github.com/x?a=…&b=…&c=…"] * 2
    kept = json.dumps(
        [await world.events(), *[(await world.call("GET", f"/v1/{one}")) for one in ("leaks/findings", "notices")]]
    )
    assert not [key for key in (*keys, stripe) if key in kept]


@pytest.mark.parametrize(
    "said",
    [
        {"type": "x" * 5_000, "url": "https://github.com/" + "x" * 5_000, "source": "content" * 1_000},
        {"type": None, "url": None, "source": None},
        {"type": 1, "url": ["x"], "source": {}},
        {"url": "", "source": "pull_request_description"},
        {"url": "https://x/\x00\n\x7f", "source": ""},
        {},
    ],
    ids=lambda said: ",".join(f"{name}={str(value)[:12]!r}" for name, value in said.items()),
)
async def test_whatever_is_said_about_a_key_it_is_cut_off(partner: Partner, said: dict[str, Any]) -> None:
    credential = await partner.world.key_for("acme")
    body = json.dumps([{"token": partner.world.upstream_keys["acme"], **said}])
    (labelled,) = (await partner.report(body.encode())).json()
    assert labelled["label"] == "true_positive"
    assert await partner.world.states(credential) == ["revoked"]
    (exposure,) = (await partner.world.call("GET", "/v1/exposures"))["items"]
    assert len(exposure["where"]) <= 2_000


async def test_what_is_no_item_keeps_no_key_in_use(partner: Partner) -> None:
    credential = await partner.world.key_for("acme")
    items = [5, {"token": None}, {"token": ""}, {"token": partner.world.upstream_keys["acme"]}, {"url": "x"}]
    assert len((await partner.report(json.dumps(items).encode())).json()) == 1
    assert await partner.world.states(credential) == ["revoked"]


async def test_a_key_that_can_not_be_cut_off_keeps_no_other_one_in_use(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = partner.world
    stuck, credential = await world.key_for("acme"), await world.key_for("globex")

    async def fails_once(*words: Any, **named: Any) -> Any:
        if stuck in words:
            monkeypatch.undo()
            raise OSError("the database is away")
        return await expose(*words, **named)

    monkeypatch.setattr(reports, "expose", fails_once)
    body = report_of(world.upstream_keys["acme"], world.upstream_keys["globex"])
    answer = await partner.report(body)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert [await world.states(one) for one in (stuck, credential)] == [["active"], ["revoked"]]
    assert (await partner.report(body)).status_code == 200, "sent again"
    assert await world.states(stuck) == ["revoked"]


async def test_a_report_is_answered_once_no_call_under_the_key_goes_on(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await partner.world.key_for("acme")
    waited: list[tuple[str, ...]] = []

    async def drained(_calls: InFlightCalls, *cut: str) -> None:
        assert await partner.world.states(credential) == ["revoked"]
        waited.append(cut)

    monkeypatch.setattr(InFlightCalls, "drained", drained)
    await partner.report(report_of(partner.world.upstream_keys["acme"], OTHER))
    assert waited == [(credential,)]


async def test_what_is_not_signed_by_the_partner_is_refused_and_counted_and_leaves_no_record(partner: Partner) -> None:
    body = report_of(OTHER)
    for answer in (
        await partner.report(body, signed=b"something else"),
        await partner.report(b"\xff" * 1_000_000, signed=b"something else"),
        await partner.world.http.post("/v1/leaks/reports/github", content=body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "report_signature")
    assert not [event for event in await partner.world.events() if event["kind"].startswith("leak.")]
    assert "keybroker_leak_reports_refused_total 3.0" in (await partner.world.http.get("/metrics")).text


def not_yet(answer: Any) -> int:
    """The seconds after which a report is to be sent again."""
    assert (answer.status_code, answer.json()["code"]) == (503, "report_not_judged")
    return int(answer.headers["Retry-After"])


async def test_strangers_can_not_make_the_broker_hammer_the_partner(partner: Partner) -> None:
    answers = await asyncio.gather(*(partner.report(b"[]", key_id=f"made-up-{number}") for number in range(20)))
    assert {not_yet(answer) for answer in answers} == {60}
    assert partner.asked == 1


async def test_a_key_id_that_the_partner_has_just_begun_to_use_is_not_refused_for_good(partner: Partner) -> None:
    credential = await partner.world.key_for("acme")
    body = report_of(partner.world.upstream_keys["acme"])
    not_yet(await partner.report(b"[]", key_id="made-up"))  # strangers used up this minute's fetch
    partner.publish("k2")
    wait = not_yet(await partner.report(body, key_id="k2"))
    for number in range(20):
        not_yet(await partner.report(b"[]", key_id=f"made-up-{number}"))
    partner.world.clock.forward(seconds=wait)
    assert (await partner.report(body, key_id="k2")).status_code == 200
    assert partner.asked == 2
    assert await partner.world.states(credential) == ["revoked"]


async def test_nor_is_one_that_is_on_the_list_later_than_it_is_used(partner: Partner) -> None:
    wait = not_yet(await partner.report(b"[]", key_id="k2"))
    partner.publish("k2")
    partner.world.clock.forward(seconds=wait)
    assert (await partner.report(b"[]", key_id="k2")).status_code == 200


async def test_a_partner_that_does_not_answer_holds_up_no_report_of_a_known_key_id(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_keys, "_PATIENCE_S", 0.01)
    credential = await partner.world.key_for("acme")
    partner.answers.clear()
    not_yet(await partner.report(b"[]"))  # at the start none is known
    partner.answers.set()
    while (await partner.report(b"[]")).status_code != 200:
        await asyncio.sleep(0.01)
    partner.answers.clear()
    partner.world.clock.forward(hours=2)
    assert (await partner.report(report_of(partner.world.upstream_keys["acme"]))).status_code == 200
    assert await partner.world.states(credential) == ["revoked"]
    assert partner.asked == 2
    partner.answers.set()


async def test_a_fetch_goes_on_although_the_stranger_who_caused_it_has_gone(
    partner: Partner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partner_keys, "_PATIENCE_S", 60)
    partner.answers.clear()
    keys = partner.world.services.reports.partner
    assert keys is not None
    stranger = asyncio.create_task(keys.published("made-up"))
    while not partner.asked:
        await asyncio.sleep(0.01)
    stranger.cancel()
    await asyncio.gather(stranger, return_exceptions=True)
    partner.answers.set()
    assert (await partner.report(b"[]")).status_code == 200
    assert partner.asked == 1


async def test_what_names_no_key_of_the_partners_is_answered_before_its_body_comes(partner: Partner) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b"x")
        yield b"x"

    take = partner.world.services.reports.take
    with pytest.raises(reports.SignatureRefused):
        await take("", "", body())
    with pytest.raises(partner_keys.NotYet):
        await take("made-up", "c2ln", body())
    assert read == []


async def test_nor_while_the_partner_does_not_answer(partner: Partner) -> None:
    partner.away = True
    for number in range(5):
        assert not_yet(await partner.report(b"[]", key_id=f"made-up-{number}")) == 60
    assert partner.asked == 1


async def test_a_report_is_acted_on_while_the_partners_list_can_not_be_fetched_anew(partner: Partner) -> None:
    credential = await partner.world.key_for("acme")
    assert (await partner.report(b"[]")).status_code == 200
    partner.away = True
    partner.world.clock.forward(hours=2)
    assert (await partner.report(report_of(partner.world.upstream_keys["acme"]))).status_code == 200
    assert partner.asked == 2
    assert await partner.world.states(credential) == ["revoked"]
    assert (await partner.report(b"[]", key_id="k2")).status_code == 503
    partner.away = False
    partner.publish("k2")
    partner.world.clock.forward(seconds=61)
    assert (await partner.report(b"[]", key_id="k2")).status_code == 200


async def test_a_list_that_arrives_in_pieces_is_read_to_its_end(partner: Partner) -> None:
    for number in range(200):
        partner.publish(f"other-{number}")
    partner.piece = 1_000
    assert (await partner.report(b"[]")).status_code == 200
    assert (await partner.report(b"[]", key_id="other-199")).status_code == 200


DECOY = {"type": "raptor_comply", "url": "https://github.com/x/y/blob/" + "a" * 160, "source": "content"}


async def test_our_key_is_cut_off_however_many_others_stand_beside_it(partner: Partner) -> None:
    credential = await partner.world.key_for("acme")
    decoys = [{"token": f"rc_live_{number:064}", **DECOY} for number in range(11_000)]
    body = json.dumps([*decoys, {"token": partner.world.upstream_keys["acme"], **DECOY}]).encode()
    body += b" " * (4 * 1024**2 - len(body))
    answer = await partner.report(body)
    assert answer.status_code == 200
    assert [one["label"] for one in answer.json()] == ["false_positive"] * 11_000 + ["true_positive"]
    assert await partner.world.states(credential) == ["revoked"]
    assert (await partner.report(body + b" ")).status_code == 413
    assert (await partner.world.http.post("/v1/leases", content=b" " * 70_000)).status_code == 413, "of others it stays"


async def test_a_key_that_stands_in_every_line_is_cut_off_and_its_first_places_kept(partner: Partner) -> None:
    credential = await partner.world.key_for("acme")
    key = partner.world.upstream_keys["acme"]
    items = [{"token": key, "url": f"https://github.com/x/y/blob/a#L{line}"} for line in range(1_000)]
    answer = await partner.report(json.dumps(items).encode())
    assert [one["label"] for one in answer.json()] == ["true_positive"] * 1_000
    assert await partner.world.states(credential) == ["revoked"]
    assert len(await partner.world.events(kind="leak.found")) == 101
    places = {one["place"] for one in (await partner.world.call("GET", "/v1/leaks/findings?limit=200"))["items"]}
    assert "and 900 more places" in places


@pytest.mark.parametrize(
    "item",
    [
        rb'{"token": "x", "url": "\ud800"}',
        rb'{"token": "\ud800", "type": "\udfff"}',
        b'{"token": "\xff\xed\xa0\x80", "source": "\xff"}',
        b'{"token": "a\nb"}',
        b'{"token": "x", "n": ' + b"9" * 5_000 + b"}",
        b'{"token": "x", "n": 1e999, "m": NaN}',
        b'{"token": "x", "type": "\x00\x1b[2J"}',
    ],
    ids=lambda item: repr(item[:40]),
)
async def test_no_item_beside_our_key_makes_its_report_refusable(partner: Partner, item: bytes) -> None:
    credential = await partner.world.key_for("acme")
    ours = json.dumps({"token": partner.world.upstream_keys["acme"], "url": "\ud800", "type": "\ud800"}).encode()
    answer = await partner.report(b"\xef\xbb\xbf[" + item + b", " + ours + b"]")
    assert [one["label"] for one in answer.json()] == ["false_positive", "true_positive"]
    assert await partner.world.states(credential) == ["revoked"]


async def test_bodies_under_way_take_only_so_much_memory_and_a_slow_one_makes_room() -> None:
    arriving, goes_on = Arriving(most=100), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"s" * 60
        await goes_on.wait()
        yield b"s"

    async def quick() -> AsyncIterator[bytes]:
        yield b"q" * 30
        yield b"q" * 30

    held = asyncio.create_task(arriving.whole(slow()))
    await asyncio.sleep(0)
    assert await arriving.whole(quick()) == b"q" * 60
    goes_on.set()
    with pytest.raises(Unavailable, match="send the report again"):
        await held
    with pytest.raises(Unavailable):
        await Arriving(most=50).whole(quick())
    assert await arriving.whole(quick()) == b"q" * 60, "and none is counted any more"


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"token": 5}]', b"\xff", b"[" * 5_000])
async def test_a_signed_body_that_is_no_report_gets_one_clear_answer(partner: Partner, body: bytes) -> None:
    answer = await partner.report(body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_reports_are_off_until_switched_on(world: World) -> None:
    answer = await world.http.post("/v1/leaks/reports/github", content=b"[]")
    assert (answer.status_code, answer.json()["code"]) == (404, "reports_off")
