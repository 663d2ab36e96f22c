"""A proof is worth what it was made for: one nonce, one route, one body."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from broker.formats import linkproof, linksecret
from broker.formats.canonical import encode
from broker.formats.intake_seal import SealContext

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "links.json").read_text())["vectors"]
CODE = linksecret.encode(bytes(range(20)))
KEY = linkproof.key_of(CODE)
MADE = ("nonce", "/intake/int_1/open", b"{}")


def test_the_bytes_are_those_of_the_specification() -> None:
    key = hmac.digest(CODE.encode(), b"keybroker/link-key/v2", "sha256")
    assert key == KEY
    said = encode("keybroker/link-proof/v2", "nonce", "/intake/int_1/open", sha256(b"{}").digest())
    assert linkproof.proof(KEY, *MADE) == hmac.digest(KEY, said, "sha256")
    secret = hmac.digest(KEY, encode("keybroker/next-link/v2", "int_1", bytes(32)), "sha256")[:20]
    assert linkproof.next_secret(KEY, "int_1", bytes(32)) == secret


@pytest.mark.parametrize(
    "other",
    [
        ("other", "/intake/int_1/open", b"{}"),
        ("nonce", "/status/int_1/open", b"{}"),
        ("nonce", "/intake/int_2/open", b"{}"),
        ("nonce", "/intake/int_1/submit", b"{}"),
        ("nonce", "/intake/int_1/open", b"{ }"),
        ("nonce/", "intake/int_1/open", b"{}"),
    ],
)
def test_a_proof_is_for_one_nonce_route_and_body(other: tuple[str, str, bytes]) -> None:
    assert linkproof.proof(KEY, *MADE) != linkproof.proof(KEY, *other)


def test_a_proof_gives_neither_code_nor_key_away() -> None:
    sent = json.dumps(linkproof.header(KEY, *MADE))
    assert not any(secret in sent for secret in (CODE, KEY.hex(), linksecret.proof(CODE)))


def test_a_header_is_read_as_it_was_written() -> None:
    value = linkproof.header(KEY, *MADE)[linkproof.HEADER]
    assert linkproof.read(value) == ("nonce", linkproof.proof(KEY, *MADE))


@pytest.mark.parametrize("value", ["", ".", "nonce", "nonce.é", ".AAAA", "nonce.%%%%", "nonce.A"])
def test_what_is_no_proof_is_none(value: str) -> None:
    assert linkproof.read(value) is None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["context"]["provider"])
def test_the_vectors_that_the_page_agrees_on(vector: dict[str, Any]) -> None:
    context = SealContext(**vector["context"])
    recipient = linksecret.recipient_of(bytes.fromhex(vector["public_key"]), context)
    assert recipient.hex() == vector["recipient"]
    secret = bytes.fromhex(vector["secret"])
    link, code = linksecret.link(secret, recipient), linksecret.encode(secret)
    assert (link, code, linksecret.proof(code)) == (vector["link"], vector["code"], vector["constant_proof"])
    key, code_key = linkproof.key_of(link), linkproof.key_of(code)
    assert (key.hex(), code_key.hex()) == (vector["link_key"], vector["code_key"])
    made = (vector["nonce"], vector["route"], vector["body"].encode())
    assert linkproof.proof(key, *made).hex() == vector["proof"]
    assert linkproof.header(key, *made) == {linkproof.HEADER: vector["header"]}
    following = linksecret.link(linkproof.next_secret(code_key, context.intake, recipient), recipient)
    assert following == vector["next_link"]
    assert linkproof.next_recipient(code_key, vector["nonce"], recipient).hex() == vector["next_recipient"]
