"""A link names whom it is for, and it and a code tell what was cut off from what is wrong."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats import link_secret
from broker.formats.intake_seal import SealContext
from tests.support import changed_links

SECRETS = st.binary(min_size=20, max_size=20)
RECIPIENTS = st.binary(min_size=32, max_size=32)
CONTEXT = SealContext("int_" + "0" * 32, "org_" + "1" * 32, "raptor-comply", 1_790_000_000_000)
PUBLIC = b"\x07" * 1216
RECIPIENT = link_secret.recipient_of(PUBLIC, CONTEXT)
TEXTS = st.one_of(SECRETS.map(link_secret.encode), st.builds(link_secret.link, SECRETS, RECIPIENTS))


@given(SECRETS)
def test_a_whole_secret_is_whole(secret: bytes) -> None:
    text = link_secret.encode(secret)
    assert len(text) == 32
    assert link_secret.check(text)
    assert base64.urlsafe_b64decode(text)[:20] == secret


def test_fresh_secrets_are_whole_and_differ() -> None:
    made = {link_secret.new() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(link_secret.check(text) for text in made)


@given(SECRETS, RECIPIENTS)
def test_a_link_names_its_recipient_and_no_other(secret: bytes, recipient: bytes) -> None:
    text = link_secret.link(secret, recipient)
    assert len(text) == 54
    assert link_secret.check(text)
    assert link_secret.names_recipient(text)
    assert link_secret.is_for(text, recipient)
    assert not link_secret.is_for(text, hashlib.sha256(recipient).digest())
    assert not link_secret.names_recipient(link_secret.encode(secret))
    assert not link_secret.is_for(link_secret.encode(secret), recipient)


@pytest.mark.parametrize(
    "other",
    [
        replace(CONTEXT, intake="int_" + "2" * 32),
        replace(CONTEXT, organization="org_" + "2" * 32),
        replace(CONTEXT, provider="stripe"),
        replace(CONTEXT, expires_ms=CONTEXT.expires_ms + 1),
        replace(CONTEXT, intake=CONTEXT.intake + "o", organization=CONTEXT.organization[1:]),
    ],
)
def test_the_recipient_is_the_key_pair_and_all_that_is_shown_of_the_request(other: SealContext) -> None:
    assert link_secret.recipient_of(PUBLIC, other) != RECIPIENT
    assert link_secret.recipient_of(PUBLIC[:-1] + b"\x08", CONTEXT) != RECIPIENT


def test_nothing_of_a_fresh_link_passes_as_one_of_version_1(monkeypatch: pytest.MonkeyPatch) -> None:
    text = link_secret.link_to(RECIPIENT)
    assert not any(link_secret.find(text[:end]) for end in range(54))
    # a link that would, is not given out
    good, asked = link_secret._of_length, []

    def looks_like_one(letters: str, length: int) -> str | None:
        asked.append(letters)
        return letters[:32] if len(asked) == 1 else good(letters, length)

    monkeypatch.setattr(link_secret, "_of_length", looks_like_one)
    assert link_secret.link_to(RECIPIENT) == asked[1] != asked[0]


@given(TEXTS)
def test_a_cut_off_secret_is_told_apart(text: str) -> None:
    assert not any(link_secret.check(text[:end]) for end in range(len(text)))
    assert not any(link_secret.check(text[start:]) for start in range(1, len(text) + 1))


@pytest.mark.parametrize("text", [link_secret.encode(bytes(range(20))), link_secret.link(bytes(range(20)), RECIPIENT)])
def test_a_mistyped_secret_is_told_apart_at_every_place(text: str) -> None:
    for place in range(len(text)):
        for letter in {chr(ord(text[place]) ^ 1), "A", "B"} - {text[place]}:
            assert not link_secret.check(text[:place] + letter + text[place + 1 :])


@pytest.mark.parametrize("extra", ["\n", " ", "=", "A", ".", "é"])
def test_a_secret_with_something_added_is_told_apart(extra: str) -> None:
    text = link_secret.encode(bytes(range(20)))
    assert not link_secret.check(text + extra)
    assert not link_secret.check(extra + text)
    assert not link_secret.check(text[:-1] + extra)


@given(TEXTS)
def test_a_secret_is_found_in_whatever_became_of_its_link(text: str) -> None:
    for end in changed_links.kept(text) + changed_links.sent(text):
        assert link_secret.find(end) == text, end


@given(TEXTS, st.integers(0, 31))
def test_a_link_that_lost_or_changed_a_character_holds_no_secret(text: str, place: int) -> None:
    shorter = f"#{text[:place]}{text[place + 1 :]}?utm_source=a-long-campaign-of-ours"
    assert link_secret.find(shorter) is None
    assert link_secret.cut_off(shorter)
    changed = f"#{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}"
    assert link_secret.find(changed) is None
    assert not link_secret.cut_off(changed)


@given(st.text() | st.text("%23abcABC-_?#&", max_size=5_000))
def test_any_text_can_be_searched(text: str) -> None:
    assert link_secret.find(text) is None


@pytest.mark.parametrize("length", [0, 19, 21, 32])
def test_only_twenty_bytes_make_a_secret(length: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        link_secret.encode(bytes(length))
    with pytest.raises(ValueError, match="20 bytes"):
        link_secret.link(bytes(length), RECIPIENT)


@given(st.text())
def test_any_text_can_be_asked_about(text: str) -> None:
    assert not link_secret.check(text)


@given(SECRETS, SECRETS)
def test_each_secret_has_a_proof_of_its_own_that_does_not_hold_it(one: bytes, other: bytes) -> None:
    text = link_secret.encode(one)
    proof = link_secret.proof(text)
    assert len(proof) == 43
    assert text not in proof
    assert not link_secret.check(proof)
    assert (proof == link_secret.proof(link_secret.encode(other))) == (one == other)


def test_the_bytes_are_those_of_the_specification() -> None:
    secret = bytes(range(20))
    checksum = hashlib.sha256(b"keybroker/link/v1" + secret).digest()[:4]
    text = base64.urlsafe_b64encode(secret + checksum).decode()
    assert link_secret.encode(secret) == text
    asked = b"\0\0\0\x17keybroker/link-proof/v1" + b"\0\0\0\x20" + text.encode()
    proof = base64.urlsafe_b64encode(hashlib.sha256(asked).digest()).decode().rstrip("=")
    assert link_secret.proof(text) == proof
    named = secret + RECIPIENT[:16]
    checksum = hashlib.sha256(b"keybroker/link/v2" + named).digest()[:4]
    assert link_secret.link(secret, RECIPIENT) == base64.urlsafe_b64encode(named + checksum).decode().rstrip("=")
