"""Rules: anchored patterns against what a path decodes to."""

from __future__ import annotations

import time
from typing import NamedTuple
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.ids import GrantId
from broker.grants.policy import Denied, Grant, Mode, refuse_call
from broker.providers.rule import Rule
from broker.proxy.path import PathRefused, judged


class Call(NamedTuple):
    """What rules look at."""

    method: str
    path: str
    query: str = ""


def rule(*paths: str, methods: tuple[str, ...] = ("GET",)) -> Rule:
    return Rule.model_validate({"methods": methods, "paths": paths})


@pytest.mark.parametrize(
    ("pattern", "within", "without"),
    [
        ("/a", ["/a", "/%61"], ["/", "/a/", "/ab", "/a/b", "/A", "/x/a"]),
        ("/a/*", ["/a/1", "/a/%20", "/a/1.json"], ["/a", "/a/", "/a/1/2", "/b/1"]),
        ("/a/*/c", ["/a/b/c"], ["/a/c", "/a/b/b/c", "/a/b/c/d"]),
        ("/a/**", ["/a/1", "/a/1/2/3"], ["/a", "/ab/1"]),
        ("/**", ["/a", "/a/b"], []),
        ("/a/*.json", ["/a/1.json"], ["/a/1xjson", "/a/.json/x"]),
        ("/a.b", ["/a.b"], ["/axb"]),
        ("/", ["/", ""], ["/a"]),
        ("/a$(x)+", ["/a$(x)+"], ["/a", "/ax"]),
    ],
)
def test_a_pattern_covers_whole_paths_only(pattern: str, within: list[str], without: list[str]) -> None:
    assert [path for path in within if not rule(pattern).allows("GET", path)] == []
    assert [path for path in without if rule(pattern).allows("GET", path)] == []


@pytest.mark.parametrize(
    ("pattern", "within", "without"),
    [
        ("/p/*", ["/p/a%2Fb", "/p/a%2fb"], ["/p/a%2Fb/c"]),
        ("/p/*/issues", ["/p/a%2Fb/issues"], ["/p/a%2Fissues", "/p/a%2F/issues%2Fx"]),
        ("/p/a/**", ["/p/a/b"], ["/p/a%2Fb"]),
        ("/p/a%2Fb/**", ["/p/a%2Fb/c", "/p/a%2fb/c"], ["/p/a/b/c", "/p/a%2Fc/c"]),
        ("/p/a%2f*", ["/p/a%2Fb"], ["/p/ab", "/p/c%2Fb"]),
    ],
)
def test_an_encoded_slash_is_part_of_a_segment(pattern: str, within: list[str], without: list[str]) -> None:
    assert [path for path in within if not rule(pattern).allows("GET", path)] == []
    assert [path for path in without if rule(pattern).allows("GET", path)] == []


def test_methods_are_part_of_the_rule_and_get_includes_head() -> None:
    assert rule("/a").allows("HEAD", "/a")
    assert not rule("/a").allows("POST", "/a")
    assert not rule("/a", methods=("HEAD",)).allows("GET", "/a")


@given(st.text("/.%2eEfF5c;\\ax", max_size=14))
def test_no_accepted_spelling_leaves_the_allowed_tree(tail: str) -> None:
    """Whatever a job writes below an allowed tree is refused, or stays below it however often it is decoded."""
    try:
        sent = judged(f"/allowed/{tail}".encode())
    except PathRefused:
        return
    if rule("/allowed/**").allows("GET", sent):
        form = sent
        for _ in range(8):
            assert form.startswith("/allowed/")
            assert ".." not in form.split("/")
            form = unquote(form)


def test_a_long_path_does_not_take_the_matcher_for_ever() -> None:
    widest = rule("/**/a*/b*/c*/*d")
    began = time.process_time()
    assert not widest.allows("GET", "/" + "a/" * 4_000)
    assert time.process_time() - began < 5, "not a measurement: exponential matching would take for ever"


def test_a_grant_without_rules_allows_everything_and_refusals_say_what_is_allowed() -> None:
    grant = Grant(GrantId("grt_1"), "lab", None, frozenset({Mode.USE}), 60, False, None, True)
    assert refuse_call(grant, Call("DELETE", "/a", "_method=x")) is None
    limited = Grant(
        GrantId("grt_1"), "lab", None, frozenset({Mode.USE}), 60, False, None, True, (rule("/a"), rule("/b"))
    )
    denied = refuse_call(limited, Call("POST", "/a"))
    assert isinstance(denied, Denied)
    assert denied.allowed == ("GET /a", "GET /b")
    assert "grt_1" in denied.need
    assert refuse_call(limited, Call("GET", "/a", "x=1&%5Fmethod=DELETE")) is not None


@pytest.mark.parametrize(
    "query",
    [
        ".method=DELETE",
        "[method=DELETE",
        "%20_method=DELETE",
        "+_method=DELETE",
        "_method[]=DELETE",
        "[_method]=DELETE",
        "a=1;_method=DELETE",
        "_method%00=DELETE",
        "%255Fmethod=DELETE",
        "X-HTTP-Method-Override=DELETE",
        "x_http_method=DELETE",
    ],
)
def test_where_a_grant_limits_methods_no_parameter_names_another_one(query: str) -> None:
    limited = Grant(GrantId("grt_1"), "lab", None, frozenset({Mode.USE}), 60, False, None, True, (rule("/a"),))
    denied = refuse_call(limited, Call("GET", "/a", query))
    assert isinstance(denied, Denied)
    assert denied.reason == "rule_refused"
    assert "_method" in denied.need
    assert refuse_call(limited, Call("GET", "/a", "method=DELETE&q=_method")) is None
