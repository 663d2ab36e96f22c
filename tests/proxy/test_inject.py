"""Strip first, inject last."""

from __future__ import annotations

import pytest

from broker.base.errors import Invalid
from broker.providers.definition import Placement
from broker.proxy.inject import query, query_names, request_headers

SLOT = Placement(headers=(("X-API-Key", "K"),))
QUERY_SLOT = Placement(query=(("api_token", "K&=1"),))


def names(headers: list[tuple[str, str]]) -> list[str]:
    return [name.lower() for name, _ in headers]


@pytest.mark.parametrize("alias", ["X-API-Key", "x-api-key", "X_API_KEY", "x-Api_kEy"])
def test_every_spelling_of_the_slot_is_replaced_by_the_key(alias: str) -> None:
    sent = request_headers([(alias, "mine"), ("x-api-key", "again"), ("Accept", "a/b")], [], SLOT)
    assert [(n, v) for n, v in sent if n.lower().replace("_", "-") == "x-api-key"] == [("X-API-Key", "K")]
    assert ("Accept", "a/b") in sent


def test_a_connection_header_cannot_take_the_key_out() -> None:
    sent = request_headers([("Connection", "close, X-API-Key, X-Trace"), ("X-Trace", "1")], [], SLOT)
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
        ("X-Forwarded-For", "10.0.0.1"),
        ("X-Broker-Anything", "1"),
        ("anthropic-version", "2023-06-01"),
        ("Content-Type", "application/json"),
    ]
    assert names(request_headers(caller, [], SLOT)) == [
        "anthropic-version",
        "content-type",
        "accept-encoding",
        "x-api-key",
    ]


def test_required_headers_of_the_provider_win() -> None:
    sent = request_headers([("Accept", "text/html")], [("Accept", "application/json")], SLOT)
    assert [value for name, value in sent if name == "Accept"] == ["application/json"]


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nb", "a\0b"])
def test_a_value_that_could_start_another_header_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        request_headers([("X-Trace", value)], [], SLOT)


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
    assert query(f"{caller}&limit=5&{caller}", QUERY_SLOT) == "limit=5&api_token=K%26%3D1"


def test_other_parameters_are_sent_byte_for_byte() -> None:
    assert query("q=%7Ba%7D&x=1+2&empty=", SLOT) == "q=%7Ba%7D&x=1+2&empty="


def test_only_names_of_parameters_reach_the_record() -> None:
    assert query_names("token=secret&limit=5&limit=6") == ("limit", "token")
    assert query_names("rc_live_" + "x" * 64) == ("(long name)",)


def test_a_placement_does_not_print_its_key() -> None:
    assert "K" not in repr(SLOT).replace("Key", "")
    assert "K&" not in repr(QUERY_SLOT)
