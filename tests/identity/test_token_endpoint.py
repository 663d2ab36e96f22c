"""The token endpoint: RFC 7523 client authentication and RFC 9068 access tokens."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import KeySet

from broker.base.clock import parse_rfc3339
from broker.base.db import EVERY_TENANT
from broker.client.identity import Algorithm, Identity, generate, public
from broker.formats import ids
from broker.identity.tables import WorkloadRow
from tests.support.world import PUBLIC_URL, Job, World, running_world, settings_for, upstream

TOKEN_URL = f"{PUBLIC_URL}/oauth/token"


def sign(job: Job, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    now = int(time.time())
    private = job.identity.private_jwk
    base = {"iss": job.id, "sub": job.id, "aud": TOKEN_URL, "iat": now, "exp": now + 60, "jti": ids.new(ids.RequestId)}
    merged = {name: value for name, value in {**base, **claims}.items() if value is not None}
    algorithm = private["alg"]
    keys = KeySet.import_key_set({"keys": [private]})
    protected = {"alg": algorithm, "kid": private["kid"], **(header or {})}
    return jws.serialize_compact(protected, json.dumps(merged), keys, algorithms=[algorithm])


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_each_named_algorithm_gets_a_short_access_token(world: World, algorithm: Algorithm) -> None:
    private = generate(algorithm)
    made = await world.call("POST", "/v1/workloads", status=201, json={"name": "sync", "jwks": public(private)})
    job = Job(world, Identity(PUBLIC_URL, made["id"], private))
    answer = await job.token()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["token_type"] == "Bearer"
    assert body["expires_in"] <= 600

    # the token is an RFC 9068 JWT that verifies with the published keys
    keys = KeySet.import_key_set((await world.http.get("/.well-known/jwks.json")).json())
    token = jwt.decode(body["access_token"], keys, algorithms=["EdDSA"])
    assert token.header["typ"] == "at+jwt"
    assert token.header["kid"]
    assert token.claims["iss"] == token.claims["aud"] == PUBLIC_URL
    assert token.claims["sub"] == token.claims["client_id"] == job.id
    assert token.claims["exp"] - token.claims["iat"] <= 600
    assert [event["core"]["workload"] for event in await world.events(kind="auth.token_issued")] == [job.id]


async def test_published_keys_hold_no_private_part(world: World) -> None:
    for key in (await world.http.get("/.well-known/jwks.json")).json()["keys"]:
        assert "d" not in key
    metadata = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["issuer"] == PUBLIC_URL
    assert metadata["token_endpoint_auth_methods_supported"] == ["private_key_jwt", "platform_jwt"]


async def test_an_assertion_works_once(world: World) -> None:
    job = await world.job()
    assertion = sign(job)
    assert (await job.token(client_assertion=assertion)).status_code == 200
    again = await job.token(client_assertion=assertion)
    assert (again.status_code, again.json()["error"]) == (401, "invalid_client")
    assert [event["core"]["reason"] for event in await world.events(kind="auth.token_refused")] == [
        "assertion_replayed"
    ]


async def test_of_the_same_assertion_twice_at_once_one_is_taken(world: World) -> None:
    import asyncio

    job = await world.job()
    assertion = sign(job)
    answers = await asyncio.gather(*(job.token(client_assertion=assertion) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 7


WRONG: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://elsewhere.example/oauth/token"},
    "no audience": {"aud": None},
    "an audience beside ours": {"aud": [PUBLIC_URL, "https://elsewhere.example"]},
    "both of our names": {"aud": [PUBLIC_URL, TOKEN_URL]},
    "no audience of a list": {"aud": []},
    "an access token": {"header": {"typ": "at+jwt"}},
    "a proof of possession": {"header": {"typ": "dpop+jwt"}},
    "a logout token": {"header": {"typ": "application/logout+JWT"}},
    "expired beyond the leeway": {"exp": int(time.time()) - 30},
    "no expiry": {"exp": None},
    "lasts an hour": {"exp": int(time.time()) + 3600},
    "not yet valid": {"nbf": int(time.time()) + 86_400},
    "another issuer": {"iss": "wkl_" + "0" * 32},
    "no jti": {"jti": None},
    "an endless jti": {"jti": "x" * 300},
    "a jti that is no text": {"jti": 7},
}


READS = re.compile(r"clock reads (\S+Z)\.")


def without_time(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer but for what the clock read when it was made."""
    return {**answer, "error_description": READS.sub("", answer["error_description"])}


@pytest.mark.parametrize("fault", sorted(WRONG))
async def test_a_wrong_assertion_is_refused_in_one_way(world: World, fault: str) -> None:
    job = await world.job()
    refused = await job.token(client_assertion=sign(job, **WRONG[fault]))
    unknown = await job.token(client_assertion=sign(job, sub=ids.new(ids.WorkloadId), iss=ids.new(ids.WorkloadId)))
    assert refused.status_code == 401, fault
    assert without_time(refused.json()) == without_time(unknown.json()), (
        "a stranger can't tell why, nor whether the workload exists"
    )
    assert f"the issuer {PUBLIC_URL} as its only audience" in refused.json()["error_description"], "what to check"


@pytest.mark.parametrize("typ", ["client-authentication+jwt", "JWT", "application/Client-Authentication+JWT", ""])
async def test_one_audience_and_one_purpose_are_taken_in_every_spelling(world: World, typ: str) -> None:
    job = await world.job()
    header = {"typ": typ} if typ else {}
    for audience in (PUBLIC_URL, [PUBLIC_URL], TOKEN_URL, [TOKEN_URL]):  # the endpoint's, of clients from before
        assert (await job.token(client_assertion=sign(job, header=header, aud=audience))).status_code == 200


async def test_a_small_difference_of_clocks_is_tolerated(world: World) -> None:
    job = await world.job()
    assert (await job.token(client_assertion=sign(job, exp=int(time.time()) - 5))).status_code == 200


# Time that passes on the way takes from what is ahead and adds to what is past.
LEEWAY: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "exp behind": ({"exp": -5}, {"exp": -11}),
    "iat ahead": ({"iat": 9}, {"iat": 30}),
    "nbf ahead": ({"nbf": 9}, {"nbf": 30}),
}


@pytest.mark.parametrize("claim", LEEWAY)
async def test_the_leeway_is_ten_seconds_in_both_directions(world: World, claim: str) -> None:
    job = await world.job()
    for offsets, status in zip(LEEWAY[claim], (200, 401), strict=True):
        dated: dict[str, Any] = {name: int(time.time()) + seconds for name, seconds in offsets.items()}
        assert (await job.token(client_assertion=sign(job, **dated))).status_code == status


async def test_a_refusal_names_the_clock_and_tells_the_brokers_time(world: World) -> None:
    world.clock.forward(hours=5)
    job = await world.job()
    refused = await job.token(client_assertion=sign(job, iat=int(time.time()) + 90))
    described = refused.json()["error_description"]
    assert "Check the clock that dated it" in described
    told = READS.search(described)
    assert told is not None
    assert abs(parse_rfc3339(told[1]) - world.clock()) < 60_000


async def test_another_key_does_not_sign_for_the_workload(world: World) -> None:
    job, other = await world.job("one"), await world.job("two")
    forged = sign(Job(world, Identity(PUBLIC_URL, job.id, other.identity.private_jwk)))
    assert (await job.token(client_assertion=forged)).status_code == 401


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
async def test_unnamed_algorithms_are_refused(world: World, algorithm: str) -> None:
    job = await world.job()
    _, payload, signature = sign(job).split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": algorithm}).encode()).rstrip(b"=").decode()
    for forged in (f"{header}.{payload}.", f"{header}.{payload}.{signature}"):
        assert (await job.token(client_assertion=forged)).status_code == 401


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password"},
        {"grant_type": ""},
        {"client_assertion": "x"},
        {"client_assertion": "a.b.c"},
        {"client_assertion": ""},
        {"client_assertion_type": "urn:other"},
    ],
)
async def test_malformed_requests_get_an_oauth_error(world: World, form: dict[str, str]) -> None:
    job = await world.job()
    answer = await job.token(**form)
    assert answer.status_code in {400, 401}
    assert answer.json()["error"]


async def test_a_repeated_parameter_is_refused(world: World) -> None:
    body = "grant_type=client_credentials&grant_type=client_credentials"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.http.post("/oauth/token", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_revoked_workload_gets_no_token_and_its_token_no_lease(world: World) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    await job.headers()
    await world.call("POST", "/v1/workloads/sync/revoke", json={"reason": "retired"})
    assert (await job.token()).status_code == 401
    assert (await job.ask("acme")).json()["code"] == "workload_revoked"


@pytest.mark.parametrize("change", ["cut", "other key", "other type", "expired"])
async def test_only_our_own_access_tokens_are_taken(world: World, change: str) -> None:
    job = await world.job()
    token = (await job.headers())["Authorization"].removeprefix("Bearer ")
    if change == "cut":
        token = token[:-4]
    elif change == "other key":
        token = sign(job, aud=PUBLIC_URL, client_id=job.id, header={"typ": "at+jwt"})
    elif change == "other type":
        key = world.services.signing.current
        claims = jwt.decode(token, key, algorithms=["EdDSA"]).claims
        token = jwt.encode({"alg": "EdDSA", "kid": key.kid}, claims, key, algorithms=["EdDSA"])
    else:
        world.clock.forward(seconds=700)
    answer = await world.http.get("/v1/leases", headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_an_access_token_that_was_used_is_over_when_its_time_is(world: World) -> None:
    headers = await (await world.job()).headers()
    assert (await world.http.get("/v1/leases", headers=headers)).status_code == 200
    world.clock.forward(seconds=700)
    assert (await world.http.get("/v1/leases", headers=headers)).status_code == 401


OTHER_CLAIMS: dict[str, dict[str, Any]] = {
    "another audience": {"aud": "https://elsewhere.example"},
    "another issuer": {"iss": "https://elsewhere.example"},
    "another client": {"client_id": "wkl_" + "0" * 32},
    "no expiry": {"exp": None},
    "no id": {"jti": None},
}


async def test_a_token_that_our_key_signed_for_something_else_is_not_taken(world: World) -> None:
    job, key = await world.job(), world.services.signing.current
    token = (await job.headers())["Authorization"].removeprefix("Bearer ")
    ours = jwt.decode(token, key, algorithms=["EdDSA"]).claims

    async def status(changed: dict[str, Any]) -> int:
        claims = {name: value for name, value in {**ours, **changed}.items() if value is not None}
        forged = jwt.encode({"alg": "EdDSA", "kid": key.kid, "typ": "at+jwt"}, claims, key, algorithms=["EdDSA"])
        answer = await world.http.get("/v1/leases", headers={"Authorization": f"Bearer {forged}"})
        return answer.status_code

    assert await status({}) == 200
    assert {name: await status(changed) for name, changed in OTHER_CLAIMS.items()} == dict.fromkeys(OTHER_CLAIMS, 401)


async def test_only_public_keys_are_registered(world: World) -> None:
    private = generate("EdDSA")
    for jwks, fix in (
        ({"keys": [private]}, "private"),
        ({"keys": []}, "1 to 5"),
        ({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, "is not a JWK"),
        ({"keys": ["x"]}, "is not a JWK"),
        ({"nothing": 1}, "1 to 5"),
    ):
        body: dict[str, Any] = {"name": "sync", "jwks": jwks}
        refused = await world.call("POST", "/v1/workloads", status=422, json=body)
        assert fix in refused["detail"]
        assert str(private["d"]) not in str(refused)


async def test_client_secrets_are_off_unless_asked_for(world: World) -> None:
    refused = await world.call("POST", "/v1/workloads", status=403, json={"name": "dev", "client_secret": True})
    assert "BROKER_ALLOW_CLIENT_SECRETS" in refused["detail"]


async def test_a_development_client_secret_works_where_allowed_and_is_stored_hashed(
    tmp_path: Path, sqlite_url: str
) -> None:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, sqlite_url, url, allow_client_secrets=True), state, url) as world,
    ):
        made = await world.call("POST", "/v1/workloads", status=201, json={"name": "dev", "client_secret": True})
        secret = made["client_secret"]
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            row = await session.get_one(WorkloadRow, made["id"])
        assert row.secret_hash is not None
        assert secret.encode() not in row.secret_hash
        form = {"grant_type": "client_credentials"}
        assert (await world.http.post("/oauth/token", data=form, auth=(made["id"], secret))).status_code == 200
        wrong = await world.http.post("/oauth/token", data=form, auth=(made["id"], secret[:-1] + "x"))
        assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
        # a workload with a key pair has no secret to guess
        job = await world.job("keyed")
        assert (await world.http.post("/oauth/token", data=form, auth=(job.id, ""))).status_code == 401
