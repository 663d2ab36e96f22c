"""The broker says which candidates are keys of ours, and to whom they belong only to who may know."""

from __future__ import annotations

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
from sqlalchemy import update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import VersionRow
from broker.sandbox.serve import running as serving
from tests.support.world import World, running_world, settings_for, upstream

OTHER = "rc_live_" + "k9Zq" * 16


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def check(world: World, *keys: str, as_: dict[str, str] | None = None, status: int = 200) -> Any:
    candidates = [{"digest": digest(key), "place": f"src/app.py:{line}"} for line, key in enumerate(keys, 1)]
    return await world.call("POST", "/v1/leaks/check", as_=as_, status=status, json={"candidates": candidates})


async def test_our_keys_are_recognised_and_others_are_not(world: World) -> None:
    credential = await world.key_for("acme")
    ours, other = (await check(world, world.upstream_keys["acme"], OTHER))["items"]
    assert (ours["ours"], ours["credential"], ours["version"], ours["state"]) == (True, credential, 1, "active")
    assert (other["ours"], other["credential"]) == (False, None)


async def test_who_may_not_see_the_organization_learns_nothing_of_it(world: World) -> None:
    await world.key_for("acme")
    await world.organization("globex")
    limited = await world.operator("olga", "security", organizations=["globex"])
    job = await world.job("ci")
    for headers in (limited, await job.headers()):
        (item,) = (await check(world, world.upstream_keys["acme"], as_=headers))["items"]
        assert {name for name, value in item.items() if value} == {"digest", "ours"}
    await check(world, OTHER, as_={}, status=401)
    assert (await world.call("GET", "/v1/leaks/findings", as_=limited))["items"] == []


async def test_a_finding_is_recorded_once_for_each_place_and_operators_are_told(world: World) -> None:
    credential = await world.key_for("acme")
    job = await world.job("ci")
    for _ in range(3):
        await check(world, world.upstream_keys["acme"], world.upstream_keys["acme"], as_=await job.headers())
    findings = (await world.call("GET", "/v1/leaks/findings"))["items"]
    assert sorted(one["place"] for one in findings) == ["src/app.py:1", "src/app.py:2"]
    events = await world.events(kind="leak.found")
    assert [(one["core"]["credential"], one["core"]["actor"]["id"]) for one in events] == [(credential, job.id)] * 2
    told = [one["kind"] for one in (await world.call("GET", "/v1/notices"))["items"]]
    assert told == ["leak_found"] * 2
    assert len(await world.events(kind="leak.checked")) == 3


async def test_a_key_is_recognised_long_after_it_was_destroyed(world: World) -> None:
    credential = await world.key_for("acme")
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json={})
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    (item,) = (await check(world, world.upstream_keys["acme"]))["items"]
    assert (item["ours"], item["state"]) == (True, "revoked")


async def test_a_key_from_before_there_were_marks_is_recognised_after_its_next_check(world: World) -> None:
    await world.key_for("acme")
    async with world.services.db.write(EVERY_TENANT) as session:
        await session.execute(update(VersionRow).values(leak_mark=None))
    assert (await check(world, world.upstream_keys["acme"]))["items"][0]["ours"] is False
    await world.work(hours=30)
    assert (await check(world, world.upstream_keys["acme"]))["items"][0]["ours"] is True


@dataclass
class Partner:
    """GitHub's side: its published keys, and how it signs."""

    world: World
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    asked: int = 0

    def publish(self, key_id: str) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    async def list(self, _request: Request) -> Response:
        self.asked += 1
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
        return JSONResponse({"public_keys": shown})

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
    made.keys, made.asked = {}, 0
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


async def test_what_is_not_signed_by_the_partner_is_refused_and_recorded(partner: Partner) -> None:
    body = report_of(OTHER)
    for answer in (
        await partner.report(body, signed=b"something else"),
        await partner.report(body, key_id="unknown"),
        await partner.world.http.post("/v1/leaks/reports/github", content=body),
    ):
        assert (answer.status_code, answer.json()["code"]) == (403, "report_signature")
    assert len(await partner.world.events(kind="leak.report_refused")) == 3


async def test_strangers_can_not_make_the_broker_hammer_the_partner(partner: Partner) -> None:
    for number in range(20):
        await partner.report(b"[]", key_id=f"made-up-{number}")
    assert partner.asked == 1
    partner.publish("k2")
    partner.world.clock.forward(seconds=61)
    assert (await partner.report(b"[]", key_id="k2")).status_code == 200
    assert partner.asked == 2


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b'[{"token": 5}]', b"\xff", b"[" * 5_000])
async def test_a_signed_body_that_is_no_report_gets_one_clear_answer(partner: Partner, body: bytes) -> None:
    answer = await partner.report(body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


async def test_reports_are_off_until_switched_on(world: World) -> None:
    answer = await world.http.post("/v1/leaks/reports/github", content=b"[]")
    assert (answer.status_code, answer.json()["code"]) == (404, "reports_off")
