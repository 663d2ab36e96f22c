"""An issuer's keys: where they are fetched, what is taken of what comes, how long it holds, how often it is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from starlette.responses import JSONResponse, Response, StreamingResponse

from broker.base.outbound import Outbound
from broker.issuers import published, verifying
from broker.issuers.declared import Declared, fault
from broker.issuers.issuer import Issuer, IssuerUnreachable
from broker.issuers.verifying import Expected, NotTaken
from tests.support.issuer import FakeIssuer, fake_issuer, pair, signed
from tests.support.world import WorldClock

JWKS = "/jwks"
DISCOVERY = "/.well-known/openid-configuration"


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    one = Outbound()
    yield one
    await one.close()


@pytest.fixture
async def provider() -> AsyncIterator[FakeIssuer]:
    async with fake_issuer() as one:
        yield one


@pytest.fixture
def clock() -> WorldClock:
    return WorldClock()


@pytest.fixture
def issuer(provider: FakeIssuer, outbound: Outbound, clock: WorldClock) -> Issuer:
    return Issuer(Declared(provider.url, private=True), outbound, clock)


async def kids(issuer: Issuer, kid: str, alg: str = "RS256") -> list[str]:
    return [key.kid for key in await issuer.candidates(kid, alg)]


def _lengthy(bytes_: int) -> Callable[[], Response]:
    return lambda: Response(b'{"keys":[], "x":"' + b"x" * bytes_ + b'"}', media_type="application/json")


async def _drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.2)


BAD_SETS: dict[str, Callable[[], Response]] = {
    "300 KiB": _lengthy(300 * 1024),
    "a redirect": lambda: Response(status_code=302, headers={"Location": "/elsewhere"}),
    "HTML with 200": lambda: Response("<html>", media_type="text/html"),
    "an error": lambda: JSONResponse({"keys": []}, 500),
    "no keys": lambda: JSONResponse({"keys": []}),
    "no list": lambda: JSONResponse({"keys": {}}),
    "a list": lambda: JSONResponse([]),
    "nested deeply": lambda: Response('{"keys":' + "[" * 2_000 + "]" * 2_000 + "}"),
    "101 keys": lambda: JSONResponse({"keys": [pair("k1", "P-256").as_dict(private=False)] * 101}),
    "a secret in place of a key": lambda: JSONResponse({"keys": [{"kty": "oct", "k": "AAAA", "kid": "k1"}]}),
    "a private key": lambda: JSONResponse({"keys": [pair("k1", "P-256").as_dict(private=True)]}),
    "1024 bits": lambda: JSONResponse({"keys": [RSAKey.generate_key(1024, {"kid": "k1"}).as_dict(private=False)]}),
    "a key to encrypt with": lambda: JSONResponse({"keys": [{**pair().as_dict(private=False), "use": "enc"}]}),
    "a bomb": lambda: Response(b"\x1f\x8b" + b"x" * 100, headers={"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("bad", BAD_SETS)
async def test_a_bad_answer_gives_no_keys_and_takes_no_good_ones(
    bad: str, provider: FakeIssuer, issuer: Issuer, clock: WorldClock
) -> None:
    provider.answers[JWKS] = BAD_SETS[bad]
    with pytest.raises(IssuerUnreachable):
        await kids(issuer, "k1")
    # when a good answer came meanwhile, and a bad one follows it
    del provider.answers[JWKS]
    clock.forward(seconds=61)
    assert await kids(issuer, "k1") == ["k1"]
    provider.answers[JWKS] = BAD_SETS[bad]
    clock.forward(hours=2)
    assert await kids(issuer, "k1") == ["k1"]
    # then an unknown key may be a good one
    with pytest.raises(IssuerUnreachable):
        await kids(issuer, "k2")


async def test_an_issuer_that_drips_is_given_up(provider: FakeIssuer, issuer: Issuer) -> None:
    provider.answers[JWKS] = lambda: StreamingResponse(_drip())
    with pytest.raises(IssuerUnreachable):
        await kids(issuer, "k1")


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://else.example"},
        {"issuer": None},
        {"jwks_uri": "https://else.example/jwks"},
        {"jwks_uri": "http://169.254.169.254/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": None},
    ],
)
async def test_discovery_leads_nowhere_else(told: dict[str, Any], provider: FakeIssuer, issuer: Issuer) -> None:
    provider.metadata = told
    with pytest.raises(IssuerUnreachable):
        await kids(issuer, "k1")
    assert not provider.asked[JWKS]


async def test_an_issuer_is_compared_to_its_last_slash(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock
) -> None:
    declared = Declared(provider.url + "/", private=True)
    with pytest.raises(IssuerUnreachable):
        await kids(Issuer(declared, outbound, clock), "k1")
    provider.metadata = {"issuer": provider.url + "/"}
    assert await kids(Issuer(declared, outbound, clock), "k1") == ["k1"]


async def test_a_host_is_asked_that_was_declared_beside_the_issuers(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock
) -> None:
    async with fake_issuer() as other:
        other.keys = [pair("theirs")]
        provider.metadata = {"jwks_uri": f"{other.url}/jwks"}
        where = other.url.partition("//")[2]
        one = Issuer(Declared(provider.url, hosts=frozenset({where}), private=True), outbound, clock)
        assert await kids(one, "theirs") == ["theirs"]


@pytest.mark.parametrize("host", ["127.0.0.1", "169.254.169.254", "[::1]", "10.1.2.3"])
async def test_no_address_inside_is_asked(host: str, outbound: Outbound, clock: WorldClock) -> None:
    with pytest.raises(IssuerUnreachable):
        await kids(Issuer(Declared(f"https://{host}/realm"), outbound, clock), "k1")


async def test_one_unusable_key_costs_no_good_one(provider: FakeIssuer, issuer: Issuer) -> None:
    good = [key.as_dict(private=False) for key in (pair("r"), pair("e", "P-256"), pair("d", "Ed25519"))]
    odd = [{"kty": "RSA", "kid": "r"}, {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}, {"kty": "new"}, 7, None]
    foreign = {**good[0], "use": "jwt-svid"}
    provider.answers[JWKS] = lambda: JSONResponse({"keys": [*odd, foreign, *good]})
    assert await kids(issuer, "r") == ["r"]
    assert await kids(issuer, "e", "ES256") == ["e"]
    assert await kids(issuer, "d", "EdDSA") == ["d"]
    # and a key is taken for its own kind alone
    assert await kids(issuer, "r", "ES256") == []


async def test_keys_of_one_name_are_all_tried_up_to_four(provider: FakeIssuer, issuer: Issuer) -> None:
    provider.keys = [pair("same", "P-256") for _ in range(9)] + [pair("same")]
    assert len(await issuer.candidates("same", "ES256")) == 4
    assert len(await issuer.candidates("same", "RS256")) == 1


async def test_a_token_without_a_key_is_of_an_issuer_with_one(provider: FakeIssuer, issuer: Issuer) -> None:
    provider.keys = [pair("a"), pair("b", "P-256"), pair("c", "P-256")]
    assert len(await issuer.candidates(None, "RS256")) == 1
    assert len(await issuer.candidates(None, "ES256")) == 0


async def test_a_thousand_unknown_keys_cost_one_fetch_a_minute(
    provider: FakeIssuer, issuer: Issuer, clock: WorldClock
) -> None:
    assert await kids(issuer, "k1") == ["k1"]
    clock.forward(seconds=61)
    await asyncio.gather(*(kids(issuer, f"made-up-{n}") for n in range(1_000)))
    assert provider.asked[JWKS] == 2
    clock.forward(seconds=30)
    await kids(issuer, "made-up")
    assert provider.asked[JWKS] == 2
    clock.forward(seconds=31)
    await kids(issuer, "made-up")
    assert provider.asked[JWKS] == 3
    assert await kids(issuer, "k1") == ["k1"]


async def test_an_issuer_that_is_down_is_asked_no_more_often(
    provider: FakeIssuer, issuer: Issuer, clock: WorldClock
) -> None:
    provider.answers[DISCOVERY] = lambda: Response(status_code=500)
    for _ in range(50):
        with pytest.raises(IssuerUnreachable) as refused:
            await kids(issuer, "k1")
    assert provider.asked[DISCOVERY] == 1
    assert 0 < refused.value.members["retry_after"] <= 60
    clock.forward(seconds=61)
    del provider.answers[DISCOVERY]
    assert await kids(issuer, "k1") == ["k1"]


async def test_a_new_key_is_taken_and_a_withdrawn_one_is_gone(
    provider: FakeIssuer, issuer: Issuer, clock: WorldClock
) -> None:
    assert await kids(issuer, "k1") == ["k1"]
    provider.keys = [pair("k2")]
    clock.forward(seconds=61)
    assert await kids(issuer, "k2") == ["k2"]
    assert await kids(issuer, "k1") == []


async def test_what_was_asked_for_before_a_renewal_does_not_count_as_renewed(
    provider: FakeIssuer, issuer: Issuer
) -> None:
    began, gate, before = asyncio.Event(), asyncio.Event(), json.dumps(provider.jwks()).encode()

    async def late() -> AsyncIterator[bytes]:
        began.set()
        await gate.wait()
        yield before

    provider.answers[JWKS] = lambda: StreamingResponse(late())
    asking = asyncio.create_task(kids(issuer, "k1"))
    await began.wait()
    provider.keys[:] = [pair("k2")]
    issuer.renew()
    provider.answers.clear()
    gate.set()
    assert await asking == [], "the withdrawn key is gone also for who waited already"
    assert await kids(issuer, "k2") == ["k2"]
    assert provider.asked[JWKS] == 2


async def test_keys_last_a_day_without_their_issuer(provider: FakeIssuer, issuer: Issuer, clock: WorldClock) -> None:
    assert await kids(issuer, "k1") == ["k1"]
    provider.answers[DISCOVERY] = lambda: Response(status_code=503)
    clock.forward(hours=24, seconds=-1)
    assert await kids(issuer, "k1") == ["k1"]
    clock.forward(seconds=62)
    with pytest.raises(IssuerUnreachable):
        await kids(issuer, "k1")


@pytest.mark.parametrize(
    ("said", "fresh"), [("", 3_600), ("max-age=600", 600), ("public, max-age=1", 300), ("max-age=99999", 3_600)]
)
async def test_what_an_issuer_says_may_shorten_an_hour(
    said: str, fresh: int, provider: FakeIssuer, issuer: Issuer, clock: WorldClock
) -> None:
    headers = {"Cache-Control": said} if said else {}
    provider.answers[JWKS] = lambda: Response(json.dumps(provider.jwks()), headers=headers)
    await kids(issuer, "k1")
    clock.forward(seconds=fresh * 0.75)
    await kids(issuer, "k1")
    assert provider.asked[JWKS] == 1
    clock.forward(seconds=fresh * 0.25 + 1)
    await kids(issuer, "k1")
    assert provider.asked[JWKS] == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example",
        "https://Login.example",
        "https://ada@login.example",
        "https://login.example?tenant=1",
        "https://login.example#here",
        "https://login.example/a/../b",
        "https://login.example/%2E%2e/b",
        "https://lögin.example",
        "https://login.example:0",
        "https://login.example:65536",
        "https://[::1::]",
        "https://",
        "login.example",
        "https://login.example\n",
    ],
)
def test_an_address_that_is_no_issuers_is_found_with_what_to_do(url: str) -> None:
    assert fault(url, private=False)


def test_the_usual_addresses_are_issuers() -> None:
    for url in (
        "https://accounts.google.com",
        "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0",
        "https://acme.okta.com/oauth2/default",
        "https://sso.vendor.example:8443/realms/acme/",
    ):
        assert fault(url, private=False) is None


async def test_keys_that_are_declared_elsewhere_are_fetched_without_asking_where(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock
) -> None:
    # a cluster whose issuer nobody outside can reach, or that calls itself by a name of its own
    declared = Declared("https://kubernetes.default.svc.cluster.local", private=True, keys_url=f"{provider.url}/jwks")
    assert await kids(Issuer(declared, outbound, clock), "k1") == ["k1"]
    assert provider.asked[DISCOVERY] == 0


async def test_keys_in_a_file_are_read_again_when_they_are_others(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.jwks"
    file.write_text(json.dumps(provider.jwks()))
    issuer = Issuer(Declared("https://cluster.example", keys_file=file), outbound, clock)
    assert await kids(issuer, "k1") == ["k1"]
    provider.keys = [pair("k2")]
    file.write_text(json.dumps(provider.jwks()))
    assert await kids(issuer, "k2") == ["k2"]
    assert await kids(issuer, "k1") == []
    assert not provider.asked


@pytest.mark.parametrize("content", [None, "", "[]", "{", '{"keys": []}', '{"x": "' + "x" * 300_000 + '", "keys": []}'])
async def test_a_file_without_keys_takes_no_good_ones(
    content: str | None, provider: FakeIssuer, outbound: Outbound, clock: WorldClock, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.jwks"
    file.write_text(json.dumps(provider.jwks()))
    issuer = Issuer(Declared("https://cluster.example", keys_file=file), outbound, clock)
    assert await kids(issuer, "k1") == ["k1"]
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert await kids(issuer, "k1") == ["k1"]


async def test_a_bearer_token_goes_to_the_declared_host_alone(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock, tmp_path: Path
) -> None:
    bearer = tmp_path / "token"
    bearer.write_text("of the service account\n")
    async with fake_issuer() as other:
        provider.metadata["jwks_uri"] = f"{other.url}/jwks"
        where = other.url.removeprefix("http://")
        declared = Declared(provider.url, hosts=frozenset({where}), private=True, bearer_file=bearer)
        assert await kids(Issuer(declared, outbound, clock), "k1") == ["k1"]
        assert provider.bearers == ["Bearer of the service account"]
        assert other.bearers == [""]
    # and it is read each time, as it is replaced each hour
    bearer.unlink()
    with pytest.raises(IssuerUnreachable):
        await kids(Issuer(declared, outbound, clock), "k1")


async def test_a_document_fetched_safely_leads_to_no_address_that_is_not_safe(provider: FakeIssuer) -> None:
    """Private hosts may speak http, and one that is declared with https doesn't."""
    declared = Declared("https://cluster.example", hosts=frozenset({"other.example"}), private=True)
    assert declared.trusts("https://cluster.example/jwks")
    assert not declared.trusts("http://cluster.example:443/jwks")
    assert not declared.trusts("http://cluster.example/jwks")
    assert not declared.trusts("http://other.example/jwks")
    assert Declared(provider.url, private=True).trusts(f"{provider.url}/jwks")


async def test_a_mesh_signs_with_keys_that_are_for_that_alone(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock
) -> None:
    bundle = {"keys": [{**key, "use": "jwt-svid"} for key in provider.jwks()["keys"]]}
    provider.answers[JWKS] = lambda: JSONResponse(bundle)
    url = f"{provider.url}/jwks"
    mesh = Declared("spiffe://prod.vendor.example", private=True, keys_url=url, use="jwt-svid")
    assert await kids(Issuer(mesh, outbound, clock), "k1") == ["k1"]
    with pytest.raises(IssuerUnreachable):
        await kids(Issuer(Declared(provider.url, private=True, keys_url=url), outbound, clock), "k1")


async def test_a_meshs_token_may_name_no_key_of_ten(
    provider: FakeIssuer, outbound: Outbound, clock: WorldClock, tmp_path: Path
) -> None:
    def tried(count: int) -> int:
        keys = [{**pair(f"k{n}", "P-256").as_dict(private=False), "use": "jwt-svid"} for n in range(count)]
        return len(published.read({"keys": keys}, "jwt-svid").candidates(None, "ES256"))

    assert [tried(count) for count in (1, 3, 10, 11)] == [1, 3, 10, 10]
    # given a bundle of three, and a token of the last one of them
    provider.keys = [pair(f"k{n}", "P-256") for n in range(3)]
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps({"keys": [{**key, "use": "jwt-svid"} for key in provider.jwks()["keys"]]}))
    mesh = Issuer(Declared("spiffe://prod.vendor.example", keys_file=file, use="jwt-svid"), outbound, clock)
    second = provider.clock() // 1000
    claims = {"sub": "spiffe://prod.vendor.example/ns/sync", "aud": ["us"], "exp": second + 300}
    expected = Expected("", "us", ("ES256",), dated=False)
    token = signed(provider.keys[2], claims, "ES256", kid=None)
    assert await verifying.verified(token, mesh, expected, provider.clock()) == claims
    with pytest.raises(NotTaken, match="bad_signature"):
        await verifying.verified(signed(pair("k2", "P-256"), claims, "ES256", kid=None), mesh, expected, clock())
