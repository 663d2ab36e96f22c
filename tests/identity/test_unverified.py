"""One bounded look at tokens before they are verified, and what odd ones are answered."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.issuers.unverified import NotAToken, peek
from tests.identity.test_token_endpoint import sign
from tests.support.world import World


def part(text: str | bytes) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(claims: str | bytes, header: str | bytes = '{"alg":"none"}') -> str:
    return f"{part(header)}.{part(claims)}."


DEEP = "[" * 1_100 + "]" * 1_100
ODD: dict[str, str] = {
    "deep claims": token(f'{{"sub":{DEEP}}}'),
    "a deep header": token("{}", f'{{"alg":{DEEP}}}'),
    "brackets without end": token("[" * 4_000),
    "beyond what a parser's stack holds": token("[" * 40_000),
    "nested more than any claim is": token('{"a":' * 9 + "1" + "}" * 9),
    "long": token(json.dumps({"sub": "x" * 20_000})),
    "claims that take too much room": token(json.dumps({"sub": "x" * 5_000})),
    "a list": token("[]"),
    "no JSON": token("x"),
    "not UTF-8": token(b'{"sub":"\xff"}'),
    "a surrogate": token('{"jti":"\\ud800"}'),
    "a surrogate in a name": token('{"\\udfff":1}'),
    "NUL": token('{"jti":"a\\u0000b"}'),
    "NUL within": token('{"a":[{"b":["\\u0000"]}]}'),
    "members twice": token('{"sub":"a","sub":"b"}'),
    "a number beyond measure": token('{"exp":1e999}'),
    "digits without end": token('{"exp":' + "9" * 4_000 + "}"),
    "not a number": token('{"exp":NaN}'),
    "two parts": "e30.e30",
    "four parts": "e30.e30.e30.e30",
    "padding": "e30=.e30=.",
    "a line's end": "e30.e30.\n",
    "not ASCII": "é.é.é",
    "a surrogate instead of a byte": "e30.e30.\udcff",
    "nothing": "",
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_small_token_is_not_looked_at(odd: str) -> None:
    with pytest.raises(NotAToken):
        peek(ODD[odd])


@given(st.text() | st.builds(token, st.binary() | st.text(alphabet='[]{}",:\\u0d8e1-'), st.binary()))
def test_whatever_comes_is_read_or_no_token(text: str) -> None:
    with suppress(NotAToken):
        peek(text)


CLAIMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.text("abc"), CLAIMS, max_size=4))
def test_what_tokens_say_is_told_as_it_is(claims: dict[str, Any]) -> None:
    assert peek(token(json.dumps(claims))).claims == claims
    assert peek(token("{}", json.dumps(claims))).header == claims


async def test_an_odd_token_is_a_401_wherever_it_comes(world: World) -> None:
    job = await world.job()
    for odd, text in ODD.items():
        sent = text.encode("utf-8", "surrogateescape")
        refused = await job.token(client_assertion=sent)
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client"), odd
        for path in ("/v1/leases", "/proxy/acme/raptor-comply/facilities"):
            answer = await world.http.get(path, headers={b"Authorization": b"Bearer " + sent})
            assert answer.status_code == 401, (odd, path)


async def test_no_database_sees_a_jti_that_it_would_refuse(world: World) -> None:
    job = await world.job()
    for jti in ("\0", "a\0b", "\ud800", "\udcff"):
        refused = await job.token(client_assertion=sign(job, jti=jti))
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")
    assert (await job.token(client_assertion=sign(job, jti="ä\n\U0001f600"))).status_code == 200


async def test_an_odd_basic_header_is_a_401(world: World) -> None:
    for basic in (b"/w==", b"\xff", b"!", b"d2tsXzA6AA==", b"d2tsXzA6JTAw", b"d2tsXzA6JWZm"):
        headers = {b"Authorization": b"Basic " + basic}
        refused = await world.http.post("/oauth/token", headers=headers, data={"grant_type": "client_credentials"})
        assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client"), basic


async def test_odd_json_before_authentication_is_refused(world: World) -> None:
    unknown = "int_" + "0" * 32
    paths = [f"/{page}/{unknown}/{act}" for page in ("intake", "status") for act in ("open", "submit", "pause")]
    paths += ["/v1/bootstrap", "/v1/leases", "/v1/leaks/check", "/v1/leaks/reports/github"]
    surrogates = '{"token":"\\ud800","name":"\\ud800","proof":"\\ud800"}'
    for body in (DEEP, f'{{"proof":{DEEP}}}', surrogates, '{"token":"\\u0000","proof":"\\u0000"}'):
        for path in paths:
            answer = await world.http.post(path, content=body, headers={"Content-Type": "application/json"})
            assert 400 <= answer.status_code < 500, (path, answer.text)


async def test_an_odd_link_is_refused(world: World) -> None:
    for odd in ("%00", "%ed%a0%80", "%ff", "x" * 3_000):
        for page in ("intake", "status"):
            answer = await world.http.post(f"/{page}/{odd}/open", json={})
            assert answer.status_code == 404, (odd, answer.text)
