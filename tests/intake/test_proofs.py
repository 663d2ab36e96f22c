"""A proof works once, for what it was made for; what was seen of it serves nobody."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite
from sqlalchemy import func, select

from broker.base.db import EVERY_TENANT
from broker.formats import base64url, ids, intake_seal, link_proof, link_secret
from broker.intake.tables import UsedChallengeRow
from tests.support.links import following, old_link, old_status_link
from tests.support.world import World


async def given(world: World) -> tuple[str, str]:
    """The intake and status code of a key that was given."""
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).status_code == 200
    return intake, world.codes[intake]


async def call(world: World, path: str, headers: dict[str, str], body: bytes = b"{}") -> tuple[int, str]:
    answer = await world.http.post(path, content=body, headers={"Content-Type": "application/json", **headers})
    return answer.status_code, answer.json().get("code", "")


@pytest.mark.parametrize("step", ["open", "usage", "pause", "resume", "withdraw", "rotate"])
async def test_a_proof_that_was_seen_is_worth_nothing(world: World, step: str) -> None:
    intake, code = await given(world)
    seen = await world.prove("status", intake, code, step, b"{}")
    path = f"/status/{intake}/{step}"
    assert (await world.http.post(path, content=b"{}", headers=seen)).status_code == 200
    assert await call(world, path, seen) == (409, "challenge_over")
    # nor with a new challenge
    nonce = (await world.http.post(f"/status/{intake}/challenge")).json()["nonce"]
    old = seen[link_proof.HEADER].partition(".")[2]
    assert await call(world, path, {**seen, link_proof.HEADER: f"{nonce}.{old}"}) == (404, "link_invalid")


async def test_of_many_that_send_one_proof_at_once_one_is_served(world: World) -> None:
    intake, code = await given(world)
    seen = await world.prove("status", intake, code, "open", b"{}")
    answers = await asyncio.gather(*(call(world, f"/status/{intake}/open", seen) for _ in range(5)))
    assert Counter(answers) == {(200, ""): 1, (409, "challenge_over"): 4}


async def test_a_proof_is_for_one_step_and_body(world: World) -> None:
    intake, code = await given(world)
    seen = await world.prove("status", intake, code, "open", b"{}")
    assert await call(world, f"/status/{intake}/withdraw", seen) == (404, "link_invalid")
    assert await call(world, f"/status/{intake}/open", seen, b'{"in_address": true}') == (404, "link_invalid")
    assert await call(world, f"/status/{intake}/open", seen) == (200, ""), "what didn't fit used nothing up"


async def test_a_challenge_is_for_one_page_and_id(world: World) -> None:
    intake, code = await given(world)
    for page, of in (("intake", intake), ("status", ids.new(ids.IntakeId))):
        nonce = (await world.http.post(f"/{page}/{of}/challenge")).json()["nonce"]
        proof = link_proof.header(link_proof.key_of(code), nonce, f"/status/{intake}/open", b"{}")
        assert await call(world, f"/status/{intake}/open", proof) == (409, "challenge_over")


@pytest.mark.parametrize("nonce", ["A", "AAAA", "A" * 54, "%%%%", "A A"])
async def test_a_challenge_that_nobody_gave_is_none(world: World, nonce: str) -> None:
    intake, code = await given(world)
    proof = link_proof.header(link_proof.key_of(code), nonce, f"/status/{intake}/open", b"{}")
    assert await call(world, f"/status/{intake}/open", proof) == (409, "challenge_over")


async def test_a_challenge_lasts_two_minutes(world: World) -> None:
    intake, code = await given(world)
    for seconds, expected in ((110, (200, "")), (130, (409, "challenge_over"))):
        proof = await world.prove("status", intake, code, "open", b"{}")
        world.clock.forward(seconds=seconds)
        assert await call(world, f"/status/{intake}/open", proof) == expected


async def test_a_used_challenge_is_kept_for_a_day_whatever_one_clock_says(world: World) -> None:
    intake, code = await given(world)

    async def kept() -> int:
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            return int(await session.scalar(select(func.count()).select_from(UsedChallengeRow)) or 0)

    seen = await world.prove("status", intake, code, "open", b"{}")
    assert await call(world, f"/status/{intake}/open", seen) == (200, "")
    before = await kept()
    await world.work(hours=23)
    assert await kept() == before
    world.clock.forward(hours=-23)
    assert await call(world, f"/status/{intake}/open", seen) == (409, "challenge_over"), "the clock was set right"
    await world.work(hours=25)
    assert await kept() == 0


async def test_challenges_say_nothing_of_what_exists_and_cost_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake, _ = await given(world)
    monkeypatch.setattr(world.services.parts.db, "_session", None)
    paths = [f"/{page}/{of}/challenge" for page in ("intake", "status") for of in (intake, "x")]
    answers = [await world.http.post(path) for path in paths]
    assert {(answer.status_code, len(answer.json()["nonce"])) for answer in answers} == {(200, 54)}
    assert len({answer.json()["nonce"] for answer in answers}) == 4


async def test_a_constant_proof_opens_no_link_of_today_and_no_status(world: World) -> None:
    intake, code = await given(world)
    second, secret = await world.request_key("acme", label="second")
    constant = {"proof": link_secret.proof(secret)}
    assert (await world.http.post(f"/intake/{second}/open", json=constant)).status_code == 404
    assert (await world.http.post(f"/intake/{second}/open", json={})).status_code == 404
    old = await old_status_link(world, intake)
    for text in (code, old):
        answer = await world.http.post(f"/status/{intake}/open", json={"proof": link_secret.proof(text)})
        assert answer.status_code == 422


async def test_a_link_from_before_works_until_it_expires(world: World) -> None:
    await world.organization("acme")
    intake, secret = await old_link(world, "acme")
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["link_version"] == 1
    constant = {"proof": link_secret.proof(secret)}
    opened = await world.http.post(f"/intake/{intake}/open", json=constant)
    assert (opened.status_code, opened.json()["state"]) == (200, "open")
    assert (await world.say("intake", intake, secret, "open")).status_code == 404, "it has no key for proofs"
    # a sender of its own time seals as it did, and gets no code
    seal = opened.json()["seal"]
    message = sealed_as_before(world.upstream_keys["acme"], seal)
    done = await world.http.post(f"/intake/{intake}/submit", json={**constant, "sealed": message})
    assert done.json()["state"] == "accepted"
    assert "status" not in done.text
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "accepted"


async def test_a_message_without_a_verifier_is_for_old_links_only(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["link_version"] == 2
    seal = (await world.open(intake, secret)).json()["seal"]
    message = sealed_as_before(world.upstream_keys["acme"], seal)
    answer = await world.say("intake", intake, secret, "submit", sealed=message)
    assert (answer.status_code, answer.json()["code"]) == (422, "seal_invalid")


async def test_a_status_link_from_before_answers_challenges_and_leads_to_the_next_key(world: World) -> None:
    intake, _ = await given(world)
    old = await old_status_link(world, intake)
    assert (await world.say("status", intake, old, "open")).json()["key"]["state"] == "active"
    link = following((await world.say("status", intake, old, "rotate")).json(), old)
    assert (await world.submit(*link, world.new_key("acme"))).json()["state"] == "accepted"


async def test_a_status_link_from_before_is_worthless_once_status_codes_were_replaced(world: World) -> None:
    # given two keys that came one after the other, the first from when its submission gave a status link
    intake, code = await given(world)
    link = following((await world.say("status", intake, code, "rotate")).json(), code)
    assert (await world.submit(*link, world.new_key("acme"))).json()["state"] == "accepted"
    old = await old_status_link(world, intake)
    assert (await world.say("status", intake, old, "open")).status_code == 200
    # when the vendor replaces the codes, which makes a new one for the latest
    credential = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    await world.call("POST", f"/v1/credentials/{credential}/status-link")
    # then
    refused = await world.say("status", intake, old, "open")
    assert (refused.status_code, refused.json()["code"]) == (404, "link_invalid")


async def test_no_answer_to_the_customer_holds_what_opens_anything(world: World) -> None:
    answers: list[httpx2.Response] = []

    async def kept(answer: httpx2.Response) -> None:
        await answer.aread()
        answers.append(answer)

    world.http.event_hooks["response"] = [kept]
    intake, code = await given(world)
    rotated = (await world.say("status", intake, code, "rotate")).json()
    following_intake, following_secret = following(rotated, code)
    await world.submit(following_intake, following_secret, world.new_key("acme"))
    await world.say("status", intake, code, "open")
    said = [answer.text for answer in answers if not answer.request.url.path.startswith("/v1/")]
    secrets = [code, following_secret, world.codes[following_intake]]
    for secret in secrets + [base64url.encode(link_proof.key_of(secret)) for secret in secrets]:
        assert not any(secret in text for text in said)
    assert json.dumps(said).count("#") == 0, "no link with a fragment"


async def test_the_holder_of_a_code_can_tell_who_named_the_next_recipient(world: World) -> None:
    intake, code = await given(world)
    proof = await world.prove("status", intake, code, "rotate", b"{}")
    rotated = (await world.http.post(f"/status/{intake}/rotate", content=b"{}", headers=proof)).json()
    public = base64url.decode(rotated["seal"]["public_key"])
    recipient = link_secret.recipient_of(public, intake_seal.SealContext(**rotated["seal"]["context"]))
    nonce = proof[link_proof.HEADER].partition(".")[0]
    assert base64url.decode(rotated["answer"]) == link_proof.next_recipient(link_proof.key_of(code), nonce, recipient)


def sealed_as_before(key: str, seal: dict[str, Any]) -> str:
    """A message of version 1, which today's code only opens."""
    padded = len(key).to_bytes(2, "big") + key.encode()
    padded += bytes(-len(padded) % 256)
    public = base64url.decode(seal["public_key"])
    mlkem, x25519 = MLKEM768PublicKey.from_public_bytes(public[:1184]), X25519PublicKey.from_public_bytes(public[1184:])
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    info = intake_seal.SealContext(**seal["context"]).info(1)
    return base64url.encode(suite.encrypt(padded, MLKEM768X25519PublicKey(mlkem, x25519), info=info))
