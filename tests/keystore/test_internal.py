"""Hashes of what can be guessed are keyed, each by a key of its own under the root."""

from __future__ import annotations

from broker.base.secret import Secret
from broker.keystore.internal import InternalKeys

ONE, OTHER = InternalKeys(Secret(b"1" * 32)), InternalKeys(Secret(b"2" * 32))


def test_without_the_root_no_guess_can_be_tried() -> None:
    key = Secret(b"rc_live_x")
    assert ONE.fingerprint(key) != OTHER.fingerprint(key)
    assert ONE.leak_mark("00") != OTHER.leak_mark("00")
    assert ONE.evidence("p", "org_1") != OTHER.evidence("p", "org_1")


def test_every_use_has_a_key_of_its_own() -> None:
    used = [value for value in vars(ONE).values() if isinstance(value, bytes)]
    assert len(used) >= 9
    assert len(used) == len(set(used))


def test_an_id_means_nothing_at_another_provider() -> None:
    assert ONE.evidence("p", "org_1") != ONE.evidence("q", "org_1")
    assert ONE.evidence("p", "org_1") == ONE.evidence("p", "org_1")
