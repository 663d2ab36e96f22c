"""The provider files that come with the broker."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.base.secret import Secret
from broker.providers import catalog
from broker.providers.definition import Definition

BUNDLED = Path(catalog.__file__).parent / "definitions"
EVERY = pytest.mark.parametrize("provider", list(catalog.load()), ids=lambda definition: definition.id)


def test_the_catalog_holds_every_bundled_file_in_order_of_id() -> None:
    ids = [definition.id for definition in catalog.load()]
    assert ids == sorted(path.stem for path in BUNDLED.glob("*.toml"))
    assert len(ids) >= 10
    assert "raptor-comply" in ids


@EVERY
def test_an_example_matches_and_nothing_around_it_does(provider: Definition) -> None:
    example = provider.key.example
    assert provider.matches(example)
    assert provider.key.min_length <= len(example) <= provider.key.max_length
    for stray in (" ", "\t", "\r", "\n", "\0", "\x7f", "\u00a0", "é", "𝟘", "\u2028", '"'):
        for at in {0, 1, len(example) // 2, len(example)}:
            assert not provider.matches(example[:at] + stray + example[at:])
            assert not provider.matches(example[:at] + stray + example[at + 1 :])
    assert not provider.matches("")
    assert not provider.matches(example + example * 50)


@EVERY
def test_an_example_is_placed_in_exactly_one_slot(provider: Definition) -> None:
    placed = provider.place(Secret(provider.key.example))
    assert len(placed.headers) + len(placed.query) == 1


@EVERY
def test_an_answer_that_says_nothing_about_the_key_refuses_no_key(provider: Definition) -> None:
    for status in (408, 429, 500, 502, 503, 504):
        assert status not in provider.verify.bad_key
        assert status not in provider.verify.good


@EVERY
def test_its_host_is_https_and_public(provider: Definition) -> None:
    values = {name: variable.narrowest for name, variable in provider.host.variables.items()}
    assert not provider.host.private
    assert re.fullmatch(r"https://[a-z0-9.-]+(/[a-z0-9/]+)?", provider.url(values))


def test_raptor_comply_is_declared_as_its_documentation_says() -> None:
    raptor = catalog.load().get("raptor-comply")
    key = "rc_live_" + "a" * 64
    assert raptor.url({}) == "https://api.raptormaps.com"
    assert raptor.place(Secret(key)).headers == (("X-API-Key", key),)
    assert raptor.matches(key)
    assert not raptor.matches(key + "a")
    assert not raptor.matches(key[:-1])
    assert not raptor.matches("rc_test_" + "a" * 64)
    assert (raptor.verify.method, raptor.verify.path, raptor.verify.good, raptor.verify.bad_key) == (
        "GET",
        "/facilities",
        (200,),
        (401,),
    )
    assert raptor.identity is not None
    assert raptor.identity.path == "[].id"
    assert set(raptor.presets) == {"read-only", "cyber-assets"}
    assert raptor.presets["read-only"].methods == ("GET",)
    assert set(raptor.presets["cyber-assets"].methods) == {"GET", "POST", "PATCH", "DELETE"}
    assert raptor.rotation is not None
    assert raptor.rotation.interval_days == 365
    assert raptor.rotation.new_key_revokes_old is False
    assert raptor.admin.role == "Organization Admin"


@pytest.mark.parametrize(
    ("provider", "values", "url"),
    [
        ("datadog", {"site": "us3.datadoghq.com"}, "https://api.us3.datadoghq.com"),
        ("freshdesk", {"subdomain": "acme"}, "https://acme.freshdesk.com"),
        ("pipedrive", {"company": "acme-2"}, "https://acme-2.pipedrive.com/api"),
        ("sendgrid", {"region": "eu.sendgrid.com"}, "https://api.eu.sendgrid.com"),
        ("github", {}, "https://api.github.com"),
    ],
)
def test_a_customers_host_is_filled_in(provider: str, values: dict[str, str], url: str) -> None:
    assert catalog.load().get(provider).url(values) == url


@pytest.mark.parametrize(
    ("provider", "headers", "query"),
    [
        ("github", [("Authorization", "Bearer K")], []),
        ("stripe", [("Authorization", "Basic Szo=")], []),
        ("freshdesk", [("Authorization", "Basic SzpY")], []),
        ("pagerduty", [("Authorization", "Token token=K")], []),
        ("anthropic", [("x-api-key", "K")], []),
        ("pipedrive", [], [("api_token", "K")]),
    ],
)
def test_a_key_goes_where_its_provider_reads_it(
    provider: str, headers: list[tuple[str, str]], query: list[tuple[str, str]]
) -> None:
    placed = catalog.load().get(provider).place(Secret("K"))
    assert (list(placed.headers), list(placed.query)) == (headers, query)
