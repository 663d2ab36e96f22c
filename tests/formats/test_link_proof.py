"""A proof is worth what it was made for: one nonce, one route, one body."""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from broker.formats import link_proof, link_secret
from broker.formats.canonical import encode
from broker.formats.intake_seal import SealContext

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "links.json").read_text())["vectors"]
CODE = link_secret.encode(bytes(range(20)))
KEY = link_proof.key_of(CODE)
MADE = ("nonce", "/intake/int_1/open", b"{}")


def test_the_bytes_are_those_of_the_specification() -> None:
    key = hmac.digest(CODE.encode(), b"keybroker/link-key/v2", "sha256")
    assert key == KEY
    said = encode("keybroker/link-proof/v2", "nonce", "/intake/int_1/open", sha256(b"{}").digest())
    assert link_proof.proof(KEY, *MADE) == hmac.digest(KEY, said, "sha256")
    secret = hmac.digest(KEY, encode("keybroker/next-link/v2", "int_1", bytes(32)), "sha256")[:20]
    assert link_proof.next_secret(KEY, "int_1", bytes(32)) == secret


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
    assert link_proof.proof(KEY, *MADE) != link_proof.proof(KEY, *other)


def test_a_proof_gives_neither_code_nor_key_away() -> None:
    sent = json.dumps(link_proof.header(KEY, *MADE))
    assert not any(secret in sent for secret in (CODE, KEY.hex(), link_secret.proof(CODE)))


def test_a_header_is_read_as_it_was_written() -> None:
    value = link_proof.header(KEY, *MADE)[link_proof.HEADER]
    assert link_proof.read(value) == ("nonce", link_proof.proof(KEY, *MADE))


@pytest.mark.parametrize("value", ["", ".", "nonce", "nonce.é", ".AAAA", "nonce.%%%%", "nonce.A"])
def test_what_is_no_proof_is_none(value: str) -> None:
    assert link_proof.read(value) is None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["context"]["provider"])
def test_the_vectors_that_the_page_agrees_on(vector: dict[str, Any]) -> None:
    context = SealContext(**vector["context"])
    recipient = link_secret.recipient_of(bytes.fromhex(vector["public_key"]), context)
    assert recipient.hex() == vector["recipient"]
    secret = bytes.fromhex(vector["secret"])
    link, code = link_secret.link(secret, recipient), link_secret.encode(secret)
    assert (link, code, link_secret.proof(code)) == (vector["link"], vector["code"], vector["constant_proof"])
    key, code_key = link_proof.key_of(link), link_proof.key_of(code)
    assert (key.hex(), code_key.hex()) == (vector["link_key"], vector["code_key"])
    made = (vector["nonce"], vector["route"], vector["body"].encode())
    assert link_proof.proof(key, *made).hex() == vector["proof"]
    assert link_proof.header(key, *made) == {link_proof.HEADER: vector["header"]}
    following = link_secret.link(link_proof.next_secret(code_key, context.intake, recipient), recipient)
    assert following == vector["next_link"]
    assert link_proof.next_recipient(code_key, vector["nonce"], recipient).hex() == vector["next_recipient"]
