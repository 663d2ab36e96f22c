"""Whoever brings what is no token of a platform gets one answer, starts nothing, and leaves no secret behind."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response

from broker.formats import ids
from tests.house.test_canary import found
from tests.house.test_logs import Lines
from tests.identity.test_sign_in_canary import kept
from tests.issuers.forms import forms
from tests.support.issuer import fake_issuer, pair, signed
from tests.support.platform import ACTIONS, Platform, platform, token_form


@pytest.fixture
async def there(tmp_path: Path, database_url: str) -> AsyncIterator[Platform]:
    async with platform(tmp_path, database_url) as made:
        yield made


def pod_claims(there: Platform) -> dict[str, Any]:
    now = there.issuer.second
    return {
        "iss": there.issuer.url,
        "aud": [there.world.settings.public_url],
        "sub": "system:serviceaccount:sync:nightly",
        "iat": now,
        "exp": now + 3_600,
        "kubernetes.io": {
            "namespace": "sync",
            "serviceaccount": {"name": "nightly"},
            "pod": {"name": "nightly-7d"},
        },
    }


def without_time(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "error_description": re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", body["error_description"])}


async def test_every_bad_token_gets_the_answer_of_a_job_that_there_is_not(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    rsa = there.issuer.keys[0]
    claims = pod_claims(there)
    (await there.exchange(job.id, signed(rsa, claims))).raise_for_status()
    headers = await there.headers(job.id)
    bad = {name: token for name, (token, _) in forms(rsa, pair("e", "P-256"), claims).items()}
    bad |= {"nothing": "", "a word": "x", "our own access token": headers["Authorization"].partition(" ")[2]}
    nobody = ids.new(ids.WorkloadId)
    told = set()
    for name, token in bad.items():
        answers = [await there.exchange(named, token) for named in (job.id, nobody)]
        assert [answer.status_code for answer in answers] == [401, 401], (name, answers[0].text)
        own, others = (json.dumps(without_time(answer.json())) for answer in answers)
        assert own == others, name
        told.add(own)
    assert len(told) == 2, "what looks like a platform's token gets its own advice, whatever is wrong with it"
    assert len(await there.world.events(kind="auth.token_issued")) == 2


async def test_a_token_that_names_another_place_for_its_key_has_nobody_asked_there(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    mine = pair("k1")
    async with fake_issuer() as evil:
        evil.keys = [mine]
        for more in (
            {"jku": f"{evil.url}/jwks"},
            {"x5u": f"{evil.url}/jwks"},
            {"jwk": mine.as_dict(private=False)},
            {"jku": f"{evil.url}/jwks", "kid": "k9"},
        ):
            assert (await there.exchange(job.id, signed(mine, pod_claims(there), **more))).status_code == 401
        own = signed(mine, {**pod_claims(there), "iss": evil.url})
        assert (await there.exchange(job.id, own)).status_code == 401
        assert not evil.asked


async def test_fifty_keys_that_nobody_has_cost_the_issuer_one_question(there: Platform) -> None:
    job = await there.world.job()
    await there.trust(job.id)
    for number in range(50):
        token = signed(there.issuer.keys[0], pod_claims(there), kid=f"made-up-{number}")
        assert (await there.exchange(job.id, token)).status_code == 401
    assert there.issuer.asked["/jwks"] == 1


async def test_while_an_issuer_fails_a_key_that_may_be_new_gets_one_answer_whoever_is_named(there: Platform) -> None:
    job, nobody = await there.world.job(), ids.new(ids.WorkloadId)
    await there.trust(job.id)
    known = there.pod_token()
    (await there.exchange(job.id, known)).raise_for_status()
    there.issuer.answers["/jwks"] = lambda: Response(status_code=500)
    there.world.clock.forward(seconds=61)
    new = signed(pair("k2"), pod_claims(there))
    for named in (job.id, nobody, job.id):
        assert (await there.exchange(named, new)).status_code == 503
    assert there.issuer.asked["/jwks"] == 2, "once a minute, whoever asks"
    # what it said before holds, and says as little
    (await there.exchange(job.id, there.pod_token())).raise_for_status()
    forged = signed(pair("k1"), pod_claims(there))
    assert {(await there.exchange(named, forged)).status_code for named in (job.id, nobody)} == {401}
    there.issuer.answers.clear()
    there.world.clock.forward(seconds=61)
    assert (await there.exchange(nobody, new)).status_code == 401
    assert (await there.exchange(job.id, new)).status_code == 401


async def by_every_way(there: Platform) -> list[tuple[str, bytes]]:
    """Tokens, good ones and bad ones, in the right place and in wrong ones; each with what was answered."""
    world, issuer = there.world, there.issuer
    job = await world.job()
    await there.trust(job.id)
    await there.trust(job.id, ACTIONS)
    run = there.run_token()
    brought = [
        there.pod_token(),
        there.pod_token(aud=["https://elsewhere.example"]),
        there.pod_token(exp=issuer.second - 600, iat=issuer.second - 900),
        there.pod_token(sub="system:serviceaccount:sync:other"),
        signed(pair("k1"), pod_claims(there)),
        signed(issuer.keys[0], pod_claims(there), kid="k9"),
        signed(issuer.keys[0], pod_claims(there), typ="at+jwt"),
        run,
        run,
        there.run_token(event_name="pull_request_target"),
        there.run_token(repository_id="1"),
    ]
    said = []
    for token in brought:
        asked = [token_form(who, token) for who in (job.id, ids.new(ids.WorkloadId), "")]
        asked.append(token_form(job.id, token + ".AAAA"))
        said += [(token, await answered(there, data=form)) for form in asked]
    issuer.answers["/jwks"] = lambda: Response(f"<html>{brought[0]}", 500)
    world.clock.forward(hours=25)
    late = there.pod_token()
    said.append((late, await answered(there, data=token_form(job.id, late))))
    # where it doesn't belong
    said.append((late, await answered(there, params=token_form(job.id, late))))
    said.append((late, await answered(there, data={**token_form(job.id, ""), "client_secret": late})))
    said.append((late, await answered(there, headers={"Authorization": f"Bearer {late}"})))
    for path in ("/v1/leases", "/proxy/acme/raptor-comply/facilities"):
        answer = await world.http.get(path, headers={"Authorization": f"Bearer {late}"})
        said.append((late, answer.content + repr(answer.headers).encode()))
    return said


async def answered(there: Platform, **request: Any) -> bytes:
    answer = await there.world.http.post("/oauth/token", **request)
    return answer.content + repr(answer.headers).encode()


async def test_no_token_of_a_platform_is_kept_logged_or_answered(there: Platform) -> None:
    lines = Lines()
    with lines.open():
        said = await by_every_way(there)
        await there.world.broker.worker.once()
    events = await there.world.events()
    notices = await there.world.items("/v1/notices")
    places = {
        "answers": b"\n".join(answer for _, answer in said),
        "log": lines.written.encode(),
        "record": str(events).encode(),
        "notices": str(notices).encode(),
        "metrics": (await there.world.http.get("/metrics")).content,
        "database": await kept(there.world),
    }
    assert b"issuer.unreachable" in places["log"], "something was logged"
    assert {"auth.token_issued", "auth.token_refused"} <= {event["kind"] for event in events}
    # a part of it alone is as good as none, but nobody has to see even that
    parts = {f"{name} {n}": part for n, (token, _) in enumerate(said) for name, part in named(token)}
    assert [leak for where, data in places.items() for leak in found(parts, where, data)] == []


def named(token: str) -> list[tuple[str, bytes]]:
    _, claims, signature = token.split(".")
    return [("claims", claims.encode()), ("signature", signature.encode())]
