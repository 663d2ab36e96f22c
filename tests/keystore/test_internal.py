"""The broker's own keys; hashes of what can be guessed are keyed by them."""

from __future__ import annotations

from broker.base.secret import Secret
from broker.keystore.internal import InternalKeys

ONE, OTHER = InternalKeys(Secret(b"1" * 32)), InternalKeys(Secret(b"2" * 32))


def test_without_the_root_no_guess_can_be_tried() -> None:
    key = Secret(b"rc_live_x")
    assert ONE.fingerprint(key) != OTHER.fingerprint(key)
    assert ONE.leak_fingerprint("00") != OTHER.leak_fingerprint("00")
    assert ONE.evidence("p", "org_1") != OTHER.evidence("p", "org_1")


def test_an_id_means_nothing_at_another_provider() -> None:
    assert ONE.evidence("p", "org_1") != ONE.evidence("q", "org_1")
    assert ONE.evidence("p", "org_1") == ONE.evidence("p", "org_1")


def test_every_use_has_a_key_of_its_own() -> None:
    """But for what is out there already: links and status codes, and a day's answers from before."""
    by_key: dict[bytes, set[str]] = {}
    for use, key in vars(InternalKeys(Secret(b"r" * 32))).items():
        if isinstance(key, bytes):
            by_key.setdefault(key, set()).add(use)
    assert [uses for uses in by_key.values() if len(uses) > 1] == [{"proof", "status", "idempotency_previous"}]


def test_what_is_out_there_is_made_of_the_same_keys_for_good() -> None:
    """Links of version 1 and status codes from the root of a database of long ago."""
    keys = InternalKeys(Secret(b"r" * 32))
    assert keys.proof.hex() == "db02886bff5857836e9d3fbb4747106acab3571699690f9c5dd0acc923cd179e"
    assert keys.lease_token.hex() == "785593b6223bbea2be612e590e042b14f65934cc621246b00b7f990b59962572"
    assert keys.token_hash.hex() == "3a88d12a8103ae49b217d3115406e4124f6aa846c0350e9c521603c5a46b3a1e"
    assert keys.rows.hex() == "836292b4440ee10ed6fcea768bc0c840f2da3b84ed946caba8f455b8905e5c1b"
