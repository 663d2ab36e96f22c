"""What a customer says of its host never lets another host in."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.base.errors import Invalid
from broker.providers import catalog
from tests.providers.files import definition

CATALOG = catalog.load()
HOSTILE = [
    "",
    ".",
    "a.b",
    "a.",
    "-a",
    "a-",
    "A",
    "ACME",
    "evil.com/#",
    "evil.com?",
    "evil.com\\",
    "evil.com:443",
    "user@evil",
    "a/b",
    "a b",
    "a\n",
    "\na",
    "a\r\nHost: evil",
    "a%2eb",
    "ä",
    "evil。com",
    "ａ",
    "\u0430cme",
    "a\u200d",
    "{subdomain}",
    "a" * 64,
    "*",
    "[::1]",
    "a\0",
]


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
@pytest.mark.parametrize(("provider", "name"), [("freshdesk", "subdomain"), ("datadog", "site")])
def test_a_hostile_host_part_is_refused_with_its_name(provider: str, name: str, value: str) -> None:
    with pytest.raises(Invalid, match=rf"^variables\.{name}: .* must be one") as refused:
        CATALOG.get(provider).url({name: value})
    assert value not in refused.value.public or len(value) < 3, "what a caller sent is not echoed"


@given(
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,30}", fullmatch=True)
    | st.text(max_size=80)
    | st.text("abcxyz019-._~%/?#@:[]{}\\ ", max_size=12)
)
def test_whatever_is_accepted_stays_under_the_declared_domain(value: str) -> None:
    try:
        url = CATALOG.get("freshdesk").url({"subdomain": value})
    except Invalid:
        return
    parts = urlsplit(url)
    assert parts.hostname == f"{value}.freshdesk.com"
    assert (parts.scheme, parts.netloc, parts.path, parts.query, parts.fragment) == (
        "https",
        f"{value}.freshdesk.com",
        "",
        "",
        "",
    )


@given(
    st.sampled_from(CATALOG.get("datadog").host.variables["site"].choices)
    | st.text(max_size=40)
    | st.sampled_from(["datadoghq.com.evil.com", "evil.com", "DATADOGHQ.COM", "us3.datadoghq.com"])
)
def test_of_choices_only_a_listed_one_is_accepted(value: str) -> None:
    datadog = CATALOG.get("datadog")
    if value in datadog.host.variables["site"].choices:
        assert datadog.url({"site": value}) == f"https://api.{value}"
    else:
        with pytest.raises(Invalid, match=r"one of datadoghq\.com"):
            datadog.url({"site": value})


def test_a_missing_part_and_an_unknown_part_are_named() -> None:
    with pytest.raises(Invalid, match=r"^variables\.subdomain: Freshdesk subdomain must be one lower-case"):
        CATALOG.get("freshdesk").url({})
    with pytest.raises(Invalid, match=r"^variables\.other: Freshdesk has no such host part"):
        CATALOG.get("freshdesk").url({"subdomain": "acme", "other": "x"})
    with pytest.raises(Invalid, match=r"^variables\.region: GitHub has no such host part"):
        CATALOG.get("github").url({"region": "eu"})


def test_a_part_by_pattern_before_a_part_by_choice_stays_under_the_choice(tmp_path: Path) -> None:
    more = '[host.variables.site]\ntitle = "Site"\nchoices = ["example.com", "eu.example.com"]\n\n[auth]\n'
    base = ("{subdomain}.example.com/api", "{subdomain}.{site}/api")
    two = definition(tmp_path, base, ("[auth]\n", more))
    assert two.url({"subdomain": "acme", "site": "eu.example.com"}) == "https://acme.eu.example.com/api"
    with pytest.raises(catalog.ProviderInvalid, match="any domain"):
        definition(tmp_path, base, ("[auth]\n", more.replace('"example.com"', '"com"')))
