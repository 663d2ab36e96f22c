"""A job's identity file, as it is written and read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.client.identity import Algorithm, generate
from broker.formats.identity_file import SOURCES, Detail, IdentityFile, TokenSource, Unreadable, is_address

KEY = generate("EdDSA")
FILE = IdentityFile("https://keys.vendor.example", "wkl_1", KEY)


def changed(**members: Any) -> bytes:
    """The file with other members; one that is None is left out."""
    document = {**json.loads(FILE.encode()), **members}
    return json.dumps({name: value for name, value in document.items() if value is not None}).encode()


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_file_is_read_as_it_was_written(algorithm: Algorithm) -> None:
    file = IdentityFile("https://keys.vendor.example", "wkl_1", generate(algorithm))
    assert IdentityFile.decode(file.encode()) == file


@pytest.mark.parametrize("kind", SOURCES)
def test_a_file_without_a_key_is_read_as_it_was_written(kind: str) -> None:
    details = (
        ["", "/run/token"] if SOURCES[kind] is Detail.OPTIONAL else ["x" if SOURCES[kind] is Detail.NEEDED else ""]
    )
    for detail in details:
        for audience in ("", "api://2222"):
            source = TokenSource.of(kind, detail)
            file = IdentityFile("https://keys.vendor.example", "wkl_1", token=source, audience=audience)
            assert IdentityFile.decode(file.encode()) == file


def test_what_is_not_known_is_left_out_and_the_order_is_free() -> None:
    reordered = dict(reversed(json.loads(changed(note="ours")).items()))
    assert IdentityFile.decode(json.dumps(reordered).encode()) == FILE


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (changed(broker=None), "`broker`"),
        (changed(broker=8080), "`broker`"),
        (changed(broker="keys.vendor.example"), "`broker`"),
        (changed(client_id=""), "`client_id`"),
        (changed(jwk=None), "`jwk` is missing"),
        (changed(token={"github": True}), "`jwk` and `token` are both there"),
        (changed(jwk=None, token="github"), "`token` does not name one source"),
        (changed(jwk=None, token={}), "`token` does not name one source"),
        (changed(jwk=None, token={"github": True, "gcp": True}), "`token` does not name one source"),
        (changed(jwk=None, token={"vault": True}), "none of file, env"),
        (changed(jwk=None, token={"file": True}), "`file` needs a path"),
        (changed(jwk=None, token={"file": ""}), "`file` needs a path"),
        (changed(jwk=None, token={"file": "/run/a\nb"}), "`file` needs a path"),
        (changed(jwk=None, token={"env": True}), "`env` needs the name of a variable"),
        (changed(jwk=None, token={"github": "x"}), "`github` takes nothing"),
        (changed(jwk=None, token={"azure": False}), "neither a text nor `true`"),
        (changed(jwk=None, token={"azure": 7}), "neither a text nor `true`"),
        (changed(jwk=None, token={"gcp": True}, audience=7), "`audience`"),
        (changed(jwk=None, token={"gcp": True}, audience="a\nb"), "`audience`"),
        (changed(jwk=None, token={"gcp": True}, audience="a" * 513), "`audience`"),
        (changed(jwk={}), "no `alg`"),
        (changed(jwk={**KEY, "alg": "HS256"}), "no `alg`"),
        (changed(jwk={**KEY, "alg": ["EdDSA"]}), "no `alg`"),
        (changed(jwk={**KEY, "alg": "ES256"}), "another `kty`"),
        (changed(jwk={**KEY, "crv": "X25519"}), "another `crv`"),
        (changed(jwk={**KEY, "kid": ""}), "no `kid`"),
        (changed(jwk={name: value for name, value in KEY.items() if name != "d"}), "not a private key"),
    ],
)
def test_what_is_no_identity_file_is_refused_and_says_why(content: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why) as refused:
        IdentityFile.decode(content)
    assert KEY["d"] not in str(refused.value)


@pytest.mark.parametrize("address", ["https://keys.vendor.example", "http://127.0.0.1:8080", "https://[::1]/broker"])
def test_the_address_of_a_broker_is_taken(address: str) -> None:
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:8080",
        "ftp://keys.vendor.example",
        "https://",
        "https://keys.vendor.example:port",
        "https://keys.vendor.example@elsewhere.example",
        "https://keys.vendor.example\\@elsewhere.example",
        "https://keys.vendor.example/?to=elsewhere",
        "https://keys.vendor.example/#",
        "https://keys.vendor.example\n",
        "https://keys vendor.example",
        "https://kéys.example",
    ],
)
def test_what_could_be_read_as_another_address_is_not(address: str) -> None:
    assert not is_address(address)
