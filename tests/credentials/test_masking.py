"""Where a key was found is kept and shown, and holds no key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.secret import Secret
from broker.credentials.masking import Masking
from broker.credentials.tables import VersionRow
from broker.keystore.internal import InternalKeys
from broker.providers import catalog

KEYS = InternalKeys(Secret(b"r" * 32))
MASKING = Masking(catalog.load(), KEYS)
RAPTOR = "rc_live_" + "k9Zq" * 16
STRIPE = "sk_live_" + "a1" * 12
# Of a form that many words have.
PAGERDUTY = "u+Abcdefghij-1234567"
FRESHDESK = "aaaaaaaaaaaaaaaaaaaa"


def version(provider: str, key: str) -> VersionRow:
    return VersionRow(provider=provider, fingerprint=KEYS.fingerprint(Secret(key)), last4=key[-4:])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://x.example/?key={RAPTOR}&a=1", "https://x.example/?key=…&a=1"),
        (f"logs/{RAPTOR}.txt:3", "logs/….txt:3"),
        (f"key_{RAPTOR}_backup", "key_…_backup"),
        (f"{RAPTOR}{STRIPE}", "……"),
        (f"{RAPTOR}sk-{'a' * 20}", "……"),
        ("src/task-list-with-a-very-long-name-indeed/a.py:1", "src/task-list-with-a-very-long-name-indeed/a.py:1"),
    ],
)
def test_what_looks_like_a_key_of_any_provider_is_masked(text: str, shown: str) -> None:
    assert MASKING.masked(text, []) == shown


@pytest.mark.parametrize(("provider", "key"), [("pagerduty", PAGERDUTY), ("freshdesk", FRESHDESK)])
@pytest.mark.parametrize("place", ["%s", "a/%s.log:7", "pull_request_%s_description", "%s%s", "%%20%s", "no longer %s"])
def test_a_key_that_looks_like_any_word_is_masked_where_it_is_the_key(provider: str, key: str, place: str) -> None:
    text = place.replace("%s", key)
    masked = MASKING.masked(text, [version(provider, key)])
    assert key not in masked
    assert masked == place.replace("%s", "…")


def test_any_other_word_of_that_form_stays() -> None:
    for place in ("pull_request_description", "0123456789_an_operator_of_ours", PAGERDUTY[:-1] + "x"):
        assert MASKING.masked(place, [version("pagerduty", PAGERDUTY), version("freshdesk", FRESHDESK)]) == place


def test_a_key_of_a_provider_that_is_declared_no_more_is_masked() -> None:
    assert MASKING.masked(f"a/{PAGERDUTY}:1", [version("gone", PAGERDUTY)]) == "a/…:1"


@given(text=st.text(alphabet="a1/ …" + RAPTOR[:12], max_size=90))
def test_what_was_masked_is_taken_as_it_is(text: str) -> None:
    about = [version("freshdesk", FRESHDESK), version("pagerduty", PAGERDUTY)]
    once = MASKING.masked(text + RAPTOR + text + FRESHDESK, about)
    assert MASKING.masked(once, about) == once
    assert RAPTOR not in once
    assert FRESHDESK not in once
