"""The vectors of RFC 9449: which proofs are taken with a request for a token, and which aren't."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import KeySet, OctKey

from broker.formats import base64url, dpop
from tests.dpop.test_bound_leases import kept
from tests.support.proofs import KeyHolder, new_key
from tests.support.world import PUBLIC_URL, World

# RFC 9449 §6.1's own: the key of its examples, and the name that it gives it.
EXAMPLE = {
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}
ENDPOINT = f"{PUBLIC_URL}/oauth/token"


async def holder(world: World, algorithm: str = "ES256") -> KeyHolder:
    made = KeyHolder(await world.job(), new_key(algorithm))
    await made.fetch_nonce()
    return made


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_a_token_is_bound_to_the_key_of_its_proof(world: World, algorithm: str) -> None:
    job = await holder(world, algorithm)
    answer = await job.ask_for_token()
    assert answer.status_code == 200, answer.text
    assert answer.json()["token_type"] == "DPoP"
    keys = KeySet.import_key_set((await world.http.get("/.well-known/jwks.json")).json())
    claims = json.loads(jws.deserialize_compact(answer.json()["access_token"], keys, algorithms=["EdDSA"]).payload)
    assert claims["cnf"] == {"jkt": job.jkt}


async def test_a_job_that_sends_no_proof_gets_a_token_as_ever(world: World) -> None:
    answer = await (await world.job()).token()
    assert (answer.status_code, answer.json()["token_type"]) == (200, "Bearer")
    assert "dpop-nonce" not in answer.headers


TAKEN: dict[str, dict[str, Any]] = {
    "a query and a fragment in htu": {"htu": f"{ENDPOINT}?a=b#c"},
    "scheme and host in capitals": {"htu": "HTTP://127.0.0.1:8080/oauth/token"},
    "made four minutes ago": {"ago": 240},
    "made by a clock that is ahead": {"ago": -50},
    "a date with a fraction": {"fraction": 0.5},
    "a claim that nobody knows": {"extra": [1]},
}


@pytest.mark.parametrize("which", sorted(TAKEN))
async def test_a_proof_is_taken_in_each_of_its_spellings(world: World, which: str) -> None:
    job = await holder(world)
    said = dict(TAKEN[which])
    now = world.clock() // 1000
    if "ago" in said or "fraction" in said:
        said["iat"] = now - said.pop("ago", 0) + said.pop("fraction", 0)
    answer = await job.ask_for_token(job.proof("POST", "/oauth/token", **said))
    assert answer.status_code == 200, answer.text


REFUSED: dict[str, dict[str, Any]] = {
    "another method": {"htm": "GET"},
    "a method in small letters": {"htm": "post"},
    "no method": {"htm": None},
    "another path": {"htu": f"{PUBLIC_URL}/v1/leases"},
    "another host": {"htu": "http://elsewhere.example/oauth/token"},
    "another port": {"htu": "http://127.0.0.1:8081/oauth/token"},
    "another scheme": {"htu": "https://127.0.0.1:8080/oauth/token"},
    "a user before the host": {"htu": "http://me@127.0.0.1:8080/oauth/token"},
    "a path alone": {"htu": "/oauth/token"},
    "an address that is none": {"htu": "http://[/oauth/token"},
    "no address": {"htu": None},
    "an address that is no text": {"htu": 7},
    "no date": {"iat": None},
    "a date in words": {"iat": "now"},
    "a date that is true": {"iat": True},
    "a date long ago": {"iat": 1},
    "a date far ahead": {"iat": 10**17},
    "an endless date": {"iat": 1e300},
    "no jti": {"jti": None},
    "a short jti": {"jti": "a"},
    "a long jti": {"jti": "a" * 257},
    "a jti with a space": {"jti": "aaaa aaaa"},
    "a jti that is no text": {"jti": 12345678},
    "no type": {"header": {"typ": None}},
    "the type of an access token": {"header": {"typ": "at+jwt"}},
    "the type JWT": {"header": {"typ": "JWT"}},
    "no algorithm": {"header": {"alg": "none"}},
    "a shared secret's algorithm": {"header": {"alg": "HS256"}},
    "RSA": {"header": {"alg": "RS256"}},
    "the other curve's algorithm": {"header": {"alg": "EdDSA"}},
    "an algorithm that is a list": {"header": {"alg": ["ES256"]}},
    "an extension that has to be understood": {"header": {"crit": ["exp"]}},
    "no key": {"header": {"jwk": None}},
    "a key that is text": {"header": {"jwk": "key"}},
    "a point that isn't on the curve": {"header": {"jwk": {**EXAMPLE, "y": EXAMPLE["x"]}}},
    "a short coordinate": {"header": {"jwk": {**EXAMPLE, "x": "AQ"}}},
    "another's key": {"header": {"jwk": EXAMPLE}},
    "a symmetric key": {"header": {"jwk": {"kty": "oct", "k": "c2VjcmV0"}}},
    "another curve": {"header": {"jwk": {**EXAMPLE, "crv": "P-384"}}},
    "a deep header": {"header": {"deep": [[[[[]]]]]}},
    "a nonce that is no text": {"nonce": 7},
    "a NUL in the jti": {"jti": "aaaa\0aaaa"},
}


@pytest.mark.parametrize("fault", sorted(REFUSED))
async def test_a_proof_that_does_not_hold_is_refused(world: World, fault: str) -> None:
    job = await holder(world)
    answer = await job.ask_for_token(job.proof("POST", "/oauth/token", **REFUSED[fault]))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text
    assert answer.headers["dpop-nonce"] == job.nonce, "the next one can hold it"
    assert await world.events(kind="auth.token_issued") == []


async def test_a_private_key_in_a_proof_is_refused(world: World) -> None:
    job = await holder(world)
    private = dict(job.key.as_dict(private=True))
    answer = await job.ask_for_token(job.proof("POST", "/oauth/token", header={"jwk": private}))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof")
    assert str(private["d"]) not in answer.text


async def test_a_public_key_is_no_shared_secret(world: World) -> None:
    job = await holder(world)
    header = {"typ": "dpop+jwt", "alg": "HS256", "jwk": job.jwk}
    claims = dpop.claims(jti="abcdefgh", method="POST", url=ENDPOINT, now=world.clock() // 1000, nonce=job.nonce)
    secret = OctKey.import_key(base64url.encode(json.dumps(job.jwk).encode()))
    forged = jws.serialize_compact(header, json.dumps(claims), secret, algorithms=["HS256"])
    assert (await job.ask_for_token(forged)).json()["error"] == "invalid_dpop_proof"


def _altered(proof: str) -> str:
    signed, _, signature = proof.rpartition(".")
    other = "A" if signature[0] != "A" else "B"
    return f"{signed}.{other}{signature[1:]}"


def _der(proof: str) -> str:
    """The signature as other formats than JWS have it."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    signed, _, signature = proof.rpartition(".")
    raw = base64url.decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    return f"{signed}.{base64url.encode(der)}"


def _padded(proof: str) -> str:
    header, claims, signature = proof.split(".")
    return f"{header}.{claims}.{base64.urlsafe_b64encode(base64url.decode(signature)).decode()}"


SPOILED: dict[str, Callable[[str], str]] = {
    "nothing": lambda _: "",
    "no token": lambda _: "proof",
    "two parts": lambda proof: proof.rpartition(".")[0],
    "four parts": lambda proof: proof + ".AAAA",
    "no signature": lambda proof: proof.rpartition(".")[0] + ".",
    "another signature": _altered,
    "a signature in DER": _der,
    "padding": _padded,
    "a cut signature": lambda proof: proof[:-4],
    "two proofs in one header": lambda proof: f"{proof}, {proof}",
    "beyond 4 KiB": lambda proof: proof + "A" * 4_096,
    "a doubled member": lambda proof: ".".join(
        [proof.split(".")[0], base64url.encode(b'{"htm":"POST","htm":"POST"}'), proof.split(".")[2]]
    ),
    "bytes that are no JSON": lambda proof: ".".join([base64url.encode(b"\xff\xfe"), *proof.split(".")[1:]]),
    "claims that go on going deeper": lambda proof: ".".join(
        [proof.split(".")[0], base64url.encode(b'{"a":' + b"[" * 1_400 + b"]" * 1_400 + b"}"), proof.split(".")[2]]
    ),
    "a header that goes on going deeper": lambda proof: ".".join(
        [base64url.encode(b'{"a":' + b"[" * 1_400 + b"]" * 1_400 + b"}"), *proof.split(".")[1:]]
    ),
}


@pytest.mark.parametrize("fault", sorted(SPOILED))
async def test_what_is_no_proof_is_refused(world: World, fault: str) -> None:
    job = await holder(world)
    answer = await job.ask_for_token(SPOILED[fault](job.proof("POST", "/oauth/token")))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_dpop_proof"), answer.text


async def test_two_proofs_are_refused(world: World) -> None:
    job = await holder(world)
    headers = [("DPoP", job.proof("POST", "/oauth/token")) for _ in range(2)]
    form = {"grant_type": "client_credentials", "client_assertion": job.job.assertion()}
    answer = await world.http.post("/oauth/token", data=form, headers=headers)
    assert answer.json()["error"] == "invalid_dpop_proof"


async def test_a_proof_is_good_for_one_token(world: World) -> None:
    job = await holder(world)
    proof = job.proof("POST", "/oauth/token")
    assert (await job.ask_for_token(proof)).status_code == 200
    again = await job.ask_for_token(proof)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_dpop_proof")
    assert len(await world.events(kind="auth.token_issued")) == 1


async def test_a_stranger_uses_up_no_proof(world: World) -> None:
    job = await holder(world)
    proof = job.proof("POST", "/oauth/token")
    refused = await world.http.post("/oauth/token", data={"grant_type": "client_credentials"}, headers={"DPoP": proof})
    assert refused.status_code == 401
    assert (await job.ask_for_token(proof)).status_code == 200, "nothing was kept of it"


async def test_a_replayed_assertion_uses_up_no_proof(world: World) -> None:
    job = await holder(world)
    form = {"grant_type": "client_credentials", "client_assertion": job.job.assertion()}
    form["client_assertion_type"] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    for status in (200, 401):
        headers = {"DPoP": job.proof("POST", "/oauth/token")}
        assert (await world.http.post("/oauth/token", data=form, headers=headers)).status_code == status
    assert await kept(world) == 1


async def test_keys_of_strangers_put_none_of_jobs_out_of_mind(world: World) -> None:
    stranger = KeyHolder(await world.job())
    await stranger.fetch_nonce()
    for _ in range(3):
        stranger.key = new_key()
        proof = {"DPoP": stranger.proof("POST", "/oauth/token")}
        assert (await world.http.post("/oauth/token", data={"grant_type": "x"}, headers=proof)).status_code == 400
    assert len(world.services.proofs.remembered) == 0


async def test_the_metadata_says_which_proofs_are_taken(world: World) -> None:
    metadata = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert metadata["dpop_signing_alg_values_supported"] == ["ES256", "EdDSA", "Ed25519"]
