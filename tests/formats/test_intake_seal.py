"""A key sealed to one intake opens there, whole, and nowhere else."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey, Suite
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broker.formats import canonical, intake_seal
from broker.formats.intake_seal import CannotOpen, SealContext, Submission, generate, open_sealed, open_sealed_v1

PRIVATE, PUBLIC = generate()
CONTEXT = SealContext("int_" + "0" * 32, "org_" + "1" * 32, "raptor-comply", 1_790_000_000_000)
ENC_BYTES = 1088 + 32
VERIFIER = bytes(range(100, 132))
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "intake_seal.json").read_text())


def seal(key: bytes, public: bytes, context: SealContext) -> bytes:
    return intake_seal.seal(Submission(key, VERIFIER), public, context)


def sealed_padded(padded: bytes, version: int = 2) -> bytes:
    """A message whose plaintext is ``padded`` as it is: what a sender of their own making could send."""
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    mlkem, x25519 = MLKEM768PublicKey.from_public_bytes(PUBLIC[:1184]), X25519PublicKey.from_public_bytes(PUBLIC[1184:])
    return suite.encrypt(padded, MLKEM768X25519PublicKey(mlkem, x25519), info=CONTEXT.info(version))


@given(st.binary(max_size=2_000), st.text(max_size=10), st.text(max_size=10), st.text(max_size=10), st.integers(0))
@example(b"", "", "", "", 0)
@example(bytes(222), "int", "org", "p", 1)
@example(b"x" * intake_seal.KEY_MAX, "int", "org", "p", 1)
def test_what_was_sealed_comes_back(key: bytes, intake: str, organization: str, provider: str, expires: int) -> None:
    context = SealContext(intake, organization, provider, expires)
    assert open_sealed(seal(key, PUBLIC, context), PRIVATE, context) == Submission(key, VERIFIER)


def test_a_fresh_pair_has_the_specified_lengths_and_its_own_bytes() -> None:
    private, public = generate()
    assert (len(private), len(public)) == (64 + 32, intake_seal.PUBLIC_BYTES)
    assert {private, public}.isdisjoint({PRIVATE, PUBLIC})
    assert open_sealed(seal(b"key", public, CONTEXT), private, CONTEXT).key == b"key"


def test_the_length_of_a_message_hides_the_length_of_its_key() -> None:
    lengths = {length: len(seal(b"x" * length, PUBLIC, CONTEXT)) for length in (0, 1, 40, 222, 223, 478)}
    assert lengths[0] == lengths[1] == lengths[40] == lengths[222] == ENC_BYTES + 256 + 16
    assert lengths[223] == lengths[478] == ENC_BYTES + 512 + 16


def test_the_same_key_never_seals_to_the_same_bytes() -> None:
    assert len({seal(b"key", PUBLIC, CONTEXT) for _ in range(20)}) == 20


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, intake="int_" + "2" * 32),
        replace(CONTEXT, organization="org_" + "2" * 32),
        replace(CONTEXT, provider="stripe"),
        replace(CONTEXT, expires_ms=CONTEXT.expires_ms + 1),
        replace(CONTEXT, intake=CONTEXT.intake + "o", organization=CONTEXT.organization[1:]),
        replace(CONTEXT, intake=CONTEXT.organization, organization=CONTEXT.intake),
    ],
)
def test_a_message_does_not_open_in_another_context(other: SealContext) -> None:
    message = seal(b"key", PUBLIC, CONTEXT)
    assert open_sealed(message, PRIVATE, CONTEXT).key == b"key"
    with pytest.raises(CannotOpen):
        open_sealed(message, PRIVATE, other)


def test_a_message_does_not_open_with_another_key_or_half_of_one() -> None:
    message = seal(b"key", PUBLIC, CONTEXT)
    other, _ = generate()
    for private in (other, PRIVATE[:64] + other[64:], other[:64] + PRIVATE[64:]):
        with pytest.raises(CannotOpen):
            open_sealed(message, private, CONTEXT)


@settings(max_examples=300)
@given(st.integers(0, ENC_BYTES + 256 + 16 - 1), st.integers(0, 7))
@example(ENC_BYTES - 1, 7)  # the bit that X25519 itself would ignore
def test_a_flipped_bit_anywhere_is_noticed(place: int, bit: int) -> None:
    message = bytearray(seal(b"key", PUBLIC, CONTEXT))
    message[place] ^= 1 << bit
    with pytest.raises(CannotOpen):
        open_sealed(bytes(message), PRIVATE, CONTEXT)


@given(st.integers(0, ENC_BYTES + 256 + 16 - 1))
@example(ENC_BYTES)
@example(ENC_BYTES + 16)
def test_a_message_cut_off_anywhere_is_refused(end: int) -> None:
    message = seal(b"key", PUBLIC, CONTEXT)
    for cut in (message[:end], message[len(message) - end :]):
        with pytest.raises(CannotOpen):
            open_sealed(cut, PRIVATE, CONTEXT)


def test_a_message_with_something_added_is_refused() -> None:
    message = seal(b"key", PUBLIC, CONTEXT)
    for longer in (message + b"\0", b"\0" + message, message + message):
        with pytest.raises(CannotOpen):
            open_sealed(longer, PRIVATE, CONTEXT)


@given(st.binary(max_size=1_500))
def test_bytes_that_nobody_sealed_are_refused(message: bytes) -> None:
    with pytest.raises(CannotOpen):
        open_sealed(message, PRIVATE, CONTEXT)


def test_a_point_of_low_order_is_refused() -> None:
    message = seal(b"key", PUBLIC, CONTEXT)
    with pytest.raises(CannotOpen):
        open_sealed(message[:1088] + bytes(32) + message[ENC_BYTES:], PRIVATE, CONTEXT)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "padded",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\0", id="half a length"),
        pytest.param(b"\0\3key", id="no padding"),
        pytest.param(b"\0\3key" + VERIFIER + bytes(218), id="padding too short"),
        pytest.param(b"\0\3key" + bytes(252), id="padding too long"),
        pytest.param(b"\0\3key" + bytes(251 + 256), id="a block too much"),
        pytest.param(b"\0\3key" + bytes(250) + b"\1", id="padding not zero at its end"),
        pytest.param(b"\0\xff" + b"x" * 254, id="length one past the end"),
        pytest.param(b"\xff\xff" + b"x" * 254, id="length far past the end"),
    ],
)
def test_padding_that_is_not_ours_is_refused(padded: bytes, version: int) -> None:
    with pytest.raises(CannotOpen, match="padding"):
        (open_sealed if version == 2 else open_sealed_v1)(sealed_padded(padded, version), PRIVATE, CONTEXT)


@pytest.mark.parametrize("length", [223, 254])
def test_a_verifier_that_is_cut_off_is_refused(length: int) -> None:
    padded = length.to_bytes(2, "big") + b"x" * length
    with pytest.raises(CannotOpen, match="padding"):
        open_sealed(sealed_padded(padded + bytes(256 - len(padded))), PRIVATE, CONTEXT)


def test_the_padding_of_the_specification_opens() -> None:
    message = sealed_padded(b"\0\3key" + VERIFIER + bytes(219))
    assert open_sealed(message, PRIVATE, CONTEXT) == Submission(b"key", VERIFIER)
    assert open_sealed_v1(sealed_padded(b"\0\3key" + bytes(251), 1), PRIVATE, CONTEXT) == Submission(b"key", b"")


def test_no_message_opens_as_one_of_the_other_version() -> None:
    with pytest.raises(CannotOpen, match="does not open"):
        open_sealed_v1(seal(b"key", PUBLIC, CONTEXT), PRIVATE, CONTEXT)
    with pytest.raises(CannotOpen, match="does not open"):
        open_sealed(sealed_padded(b"\0\3key" + bytes(251), 1), PRIVATE, CONTEXT)


def test_neither_key_nor_verifier_is_shown() -> None:
    assert "key" not in repr(Submission(b"key", VERIFIER))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_only_a_whole_verifier_is_sealed(length: int) -> None:
    with pytest.raises(ValueError, match="a verifier of 32 bytes"):
        intake_seal.seal(Submission(b"key", bytes(length)), PUBLIC, CONTEXT)


@pytest.mark.parametrize("public", [b"", PUBLIC[:-1], PUBLIC + b"\0", b"\xff" * intake_seal.PUBLIC_BYTES])
def test_what_is_no_public_key_cannot_be_sealed_to(public: bytes) -> None:
    with pytest.raises(ValueError, match="public key"):
        seal(b"key", public, CONTEXT)


def test_a_key_over_the_cap_cannot_be_sealed() -> None:
    with pytest.raises(ValueError, match="at most 16 KiB"):
        seal(bytes(intake_seal.KEY_MAX + 1), PUBLIC, CONTEXT)


def test_the_info_is_that_of_the_specification() -> None:
    for version in (1, 2):
        protocol = f"keybroker/intake-seal/v{version}".encode()
        expected = canonical.encode(protocol, b"int_1", b"org_2", b"p", b"3")
        assert SealContext("int_1", "org_2", "p", 3).info(version) == expected


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["name"])
def test_a_message_sealed_long_ago_still_opens(vector: dict[str, Any]) -> None:
    context, version = SealContext(**vector["context"]), vector["version"]
    assert context.info(version).hex() == vector["info"]
    opens = open_sealed if version == 2 else open_sealed_v1
    private, public, message = (b64decode(vector[name]) for name in ("private", "public", "message"))
    opened = opens(message, private, context)
    assert (opened.key.hex(), opened.verifier.hex()) == (vector["key"], vector.get("verifier", ""))
    assert open_sealed(seal(b"new", public, context), private, context).key == b"new"
    with pytest.raises(CannotOpen):
        opens(message, PRIVATE, context)
