"""Strip first, inject last."""

from __future__ import annotations

import pytest

from broker.base.errors import Invalid
from broker.base.parameters import QueryRefused
from broker.providers.definition import KeyPlacement
from broker.proxy.request_headers import query, request_headers, target

PLACEMENT = KeyPlacement(headers=(("X-API-Key", "K"),))
QUERY_PLACEMENT = KeyPlacement(query=(("api_token", "K&=1"),))


def names(headers: list[tuple[str, str]]) -> list[str]:
    return [name.lower() for name, _ in headers]


@pytest.mark.parametrize(
    "alias", ["X-API-Key", "x-api-key", "X_API_KEY", "x-Api_kEy", "X.API.Key", "x~api!key", "X%2DAPI.Key"]
)
def test_every_spelling_of_the_slot_is_replaced_by_the_key(alias: str) -> None:
    sent = request_headers([(alias, "mine"), ("x-api-key", "again"), ("Accept", "a/b")], [], PLACEMENT)
    assert sent == [("Accept", "a/b"), ("Accept-Encoding", "identity"), ("X-API-Key", "K")]


def test_a_connection_header_cannot_take_the_key_out() -> None:
    sent = request_headers([("Connection", "close, X-API-Key, X-Trace"), ("X-Trace", "1")], [], PLACEMENT)
    assert names(sent) == ["accept-encoding", "x-api-key"]


def test_hop_by_hop_and_broker_headers_stay_behind_and_vendor_headers_pass() -> None:
    caller = [
        ("Host", "evil.example"),
        ("Authorization", "Bearer lease"),
        ("Cookie", "a=b"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("Proxy-Connection", "close"),
        ("Trailer", "X-Sum"),
        ("Expect", "100-continue"),
        ("Via", "1.1 here"),
        ("X-Real-IP", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Broker-Anything", "1"),
        ("anthropic-version", "2023-06-01"),
        ("Content-Type", "application/json"),
    ]
    assert names(request_headers(caller, [], PLACEMENT)) == [
        "anthropic-version",
        "content-type",
        "accept-encoding",
        "x-api-key",
    ]


OVERRIDES = [
    "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Verb", "X-HTTP-Verb-Override", "X-Method",
    "Method-Override", "HTTP-Method-Override", "X-Original-Method", "X-Original-URL", "X-Original-URI",
    "X-Original-Host", "X-Rewrite-URL", "X-Rewrite-URI", "X-Override-URL", "X-Request-URI", "X-Replaced-Path",
    "X-Envoy-Original-Path", "X-Forwarded-Uri", "X-Forwarded-Method", "X-HTTP-Host-Override",
]  # fmt: skip


@pytest.mark.parametrize("between", ["-", "_", ".", "%2D", "~"])
@pytest.mark.parametrize("name", OVERRIDES)
def test_a_header_that_names_another_method_or_address_stays_here_in_every_spelling(name: str, between: str) -> None:
    spelled = name.replace("-", between)
    caller = [(spelled, "DELETE"), (spelled.lower(), "x"), ("Accept", "a/b")]
    assert names(request_headers(caller, [], PLACEMENT)) == ["accept", "accept-encoding", "x-api-key"]


@pytest.mark.parametrize(
    "name", ["Proxy", "PROXY", "Proxy-Connection", "Proxy.Authorization", "Expect", "Via", "X-Real-IP"]
)
def test_a_header_for_what_stands_between_stays_here(name: str) -> None:
    assert names(request_headers([(name, "x")], [], PLACEMENT)) == ["accept-encoding", "x-api-key"]


@pytest.mark.parametrize(
    "name",
    [
        "X-Request-ID",
        "Request-Id",
        "X-Correlation-ID",
        "X-Original-Id",
        "X-Verbose",
        "Methods",
        "X-Amz-Target",
        "Proxied",
    ],
)
def test_a_name_that_belongs_to_the_job_and_the_upstream_passes_as_it_is_spelled(name: str) -> None:
    assert request_headers([(name, "x")], [], PLACEMENT)[0] == (name, "x")


def test_required_headers_of_the_provider_win() -> None:
    sent = request_headers([("Accept", "text/html")], [("Accept", "application/json")], PLACEMENT)
    assert [value for name, value in sent if name == "Accept"] == ["application/json"]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b"])
def test_a_value_that_could_start_another_header_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        request_headers([("X-Trace", value)], [], PLACEMENT)


@pytest.mark.parametrize(
    "caller",
    [
        "api_token=mine",
        "API_TOKEN=mine",
        "api%5Ftoken=mine",
        "api%255Ftoken=mine",
        "api_token",
        "api_token[]=x",
        "+api_token=x",
    ],
)
def test_every_spelling_of_the_parameter_is_replaced_by_the_key(caller: str) -> None:
    assert query(f"{caller}&limit=5&{caller}", QUERY_PLACEMENT) == "limit=5&api_token=K%26%3D1"


@pytest.mark.parametrize(
    "doubled",
    [
        "a=1;api_token=2",
        "api.token=2",
        "api+token=2",
        "api-token=2",
        "api[token=2",
        "%5Bapi_token]=2",
        "api_token%00x=2",
    ],
)
def test_no_receiver_finds_a_second_key(doubled: str) -> None:
    sent = query(f"limit=5&{doubled}", QUERY_PLACEMENT)
    assert sent == ("limit=5&a=1" if doubled.startswith("a=1") else "limit=5") + "&api_token=K%26%3D1"


def test_a_key_in_the_query_leaves_the_rest_as_it_was_sent() -> None:
    assert query("a=1;b=2&&c;", QUERY_PLACEMENT) == "a=1;b=2&&c;&api_token=K%26%3D1"
    assert query("", QUERY_PLACEMENT) == "api_token=K%26%3D1"


def test_a_parameter_whose_name_cannot_be_told_is_refused_and_not_sent() -> None:
    with pytest.raises(QueryRefused):
        query("%" + "25" * 8_000, QUERY_PLACEMENT)


@pytest.mark.parametrize(
    ("path", "caller", "address"),
    [
        ("/x", None, "http://h/base/x"),
        ("/x", "", "http://h/base/x?"),
        ("/x", "a=?b", "http://h/base/x?a=?b"),
        ("", None, "http://h/base"),
        ("", "", "http://h/base?"),
        ("/", None, "http://h/base/"),
    ],
)
def test_the_address_is_the_one_that_was_asked_for(path: str, caller: str | None, address: str) -> None:
    assert target("http://h/base", path, caller, PLACEMENT) == address


def test_a_key_in_the_query_needs_no_query_of_the_caller() -> None:
    assert target("http://h", "/x", None, QUERY_PLACEMENT) == "http://h/x?api_token=K%26%3D1"


def test_other_parameters_are_sent_byte_for_byte() -> None:
    assert query("q=%7Ba%7D&x=1+2&empty=", PLACEMENT) == "q=%7Ba%7D&x=1+2&empty="


def test_a_placement_does_not_print_its_key() -> None:
    assert "K" not in repr(PLACEMENT).replace("Key", "")
    assert "K&" not in repr(QUERY_PLACEMENT)
