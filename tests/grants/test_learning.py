"""Least privilege: the smallest rules that cover what a grant was used for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.formats.ids import GrantId
from broker.grants.learning import METHODS, Learning, is_within, lost
from broker.grants.policy import Grant, Mode, refuse_call
from broker.providers.rule import Method, Rule, covers


class Use(NamedTuple):
    """A use, as rules look at it."""

    method: Method
    path: str
    query: str = ""


def rule(text: str) -> Rule:
    methods, _, paths = text.partition(" ")
    return Rule.model_validate({"methods": methods.split(","), "paths": paths.split(" ")})


def grant(rules: Sequence[Rule]) -> Grant:
    return Grant(GrantId("grt_1"), "lab", None, frozenset({Mode.USE}), 60, False, None, True, tuple(rules))


def allowed(rules: Sequence[Rule], call: Use) -> bool:
    return refuse_call(grant(rules), call) is None


def learnt(calls: Iterable[Use], present: Sequence[Rule] = ()) -> tuple[Rule, ...]:
    learning = Learning(present)
    for call in calls:
        learning.add(call.method, call.path)
    return learning.rules()


def of(*texts: str) -> list[Use]:
    return [Use(method, path) for method, _, path in (text.partition(" ") for text in texts)]  # type: ignore[arg-type]  # any text is one here


@pytest.mark.parametrize(
    ("used", "rules"),
    [
        (["GET /facilities"], ["GET /facilities"]),
        (["GET /facilities/7"], ["GET /facilities/7"]),
        (["GET /facilities/7", "GET /facilities/8"], ["GET /facilities/*"]),
        (["GET /facilities/7", "GET /facilities/8", "GET /facilities"], ["GET /facilities /facilities/*"]),
        (["GET /a/7/units", "GET /a/8/units/9", "GET /a/8/units/10"], ["GET /a/*/units /a/*/units/*"]),
        (["GET /devices", "GET /facilities"], ["GET /devices /facilities"]),
        (["GET /v1/a", "GET /v2/a"], ["GET /v1/a /v2/a"]),
        (["GET /a", "POST /a", "DELETE /a/1", "DELETE /a/2"], ["GET,POST /a", "DELETE /a/*"]),
        (["HEAD /a", "GET /a"], ["GET /a"]),
        (["HEAD /a"], ["HEAD /a"]),
        (["GET "], ["GET /"]),
        (["GET /a/"], ["GET /a/"]),
        (["GET /a%20b/x"], ["GET /*/x"]),
        (["GET /p/a%2Fb", "GET /p/a%2Fc"], ["GET /p/*"]),
        ([f"GET /names/{name}/x" for name in "abcdefghijk"], ["GET /names/*/x"]),
        ([f"GET /names/{name}/x" for name in "abc"], ["GET /names/a/x /names/b/x /names/c/x"]),
    ],
)
def test_what_varies_like_ids_is_any_segment_and_all_else_stays_as_it_was(used: list[str], rules: list[str]) -> None:
    assert {str(one) for one in learnt(of(*used))} == {str(rule(text)) for text in rules}


@pytest.mark.parametrize(
    ("present", "used", "rules"),
    [
        (["GET /**"], ["GET /a/7", "GET /a/8"], ["GET /a/*"]),
        (["GET /a/7 /a/8 /a/9"], ["GET /a/7", "GET /a/8"], ["GET /a/7 /a/8"]),
        (["GET /a/1*"], [f"GET /a/1{number}" for number in range(20)], ["GET /a/1*"]),
        (["GET /a/*", "POST /b"], ["GET /a/7"], ["GET /a/7"]),
        (["GET /a/**"], ["HEAD /a/7"], ["HEAD /a/7"]),
        (["GET /a/x*"], ["GET /a/x%20y"], ["GET /a/x*"]),
    ],
)
def test_no_rule_is_wider_than_the_grant(present: list[str], used: list[str], rules: list[str]) -> None:
    before = [rule(text) for text in present]
    found = learnt(of(*used), before)
    assert {str(one) for one in found} == {str(rule(text)) for text in rules}
    assert is_within(found, before)


def test_what_nobody_can_tell_the_use_of_stays_as_it_was() -> None:
    learning = Learning((rule("GET,POST /a/**"), rule("POST /b")))
    learning.add("GET", "/a/7")
    learning.keep("POST")
    assert {str(one) for one in learning.rules()} == {"GET /a/7", "POST /a/**, /b"}


def test_a_million_paths_take_no_more_than_some_thousand_shapes() -> None:
    learning = Learning(())
    for number in range(30_000):
        learning.add("GET", f"/a/{number}/b/{number * 7 % 1_000}")
    assert [str(one) for one in learning.rules()] == ["GET /a/*/b/*"]
    words = Learning(())
    names = ["".join(chr(97 + int(digit)) for digit in str(number)) for number in range(100, 400)]
    for one in names:
        for other in names[:60]:
            words.add("GET", f"/{one}/{other}")
    assert [str(rule) for rule in words.rules()] == ["GET /*/*"]


def test_what_is_lost_is_shown_by_rule() -> None:
    before = (rule("GET,DELETE /a/*"), rule("POST /b"))
    found = lost(before, (rule("GET /a/*"),))
    assert [(one.rule, one.method) for one in found] == [("DELETE /a/*", "DELETE"), ("POST /b", "POST")]
    assert not [one for one in found if not allowed(before, Use(one.method, one.path))]  # type: ignore[arg-type]  # any text is one here
    everything = lost((), (rule("GET /a"),))
    assert {one.method for one in everything} == set(METHODS)
    assert lost(before, before) == []


segments = st.sampled_from(["a", "b", "facilities", "7", "8", "9", "x1", "v1", "a%20b", "p%2Fq", "~", "(x)"])
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
patterns = st.lists(st.sampled_from(["a", "b", "facilities", "7", "*", "x*"]), min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from(["/" + "/".join(parts), "/" + "/".join([*parts, "**"])])
)
rules = st.lists(
    st.builds(
        lambda methods, paths: Rule(methods=tuple(sorted(methods)), paths=tuple(paths)),
        st.sets(st.sampled_from(METHODS), min_size=1, max_size=3),
        st.lists(patterns, min_size=1, max_size=3),
    ),
    max_size=3,
)
histories = st.lists(st.builds(Use, st.sampled_from(METHODS), paths), min_size=1, max_size=40)


def test_the_rules_cover_every_use_are_never_wider_and_none_of_them_can_be_left_out() -> None:
    many = 0

    @settings(max_examples=400)
    @given(present=rules, history=histories)
    def every(present: list[Rule], history: list[Use]) -> None:
        nonlocal many
        used = [call for call in history if allowed(present, call)]
        if not used:
            return
        found = learnt(used, present)
        # it covers every use, by the policy's own function
        assert [call for call in used if not allowed(found, call)] == []
        # and is never wider
        assert is_within(found, present)
        assert [call for call in history if allowed(found, call) and not allowed(present, call)] == []
        # whatever order the uses came in, it is the same
        assert learnt(reversed(used), present) == found
        # learning again from the same changes nothing that was learnt
        assert is_within(learnt(used, found), found)
        many += len(found) > 1
        pairs = [(one, method, path) for one in found for method in one.methods for path in one.paths]
        if "%20" not in "".join(call.path for call in used):
            for _, method, path in pairs:
                without = [
                    Rule(methods=(other,), paths=(each,)) for _, other, each in pairs if (other, each) != (method, path)
                ]
                assert not without or [call for call in used if not allowed(without, call)], (method, path, found)

    every()
    assert many >= 40


@settings(max_examples=300)
@given(outer=st.lists(patterns, min_size=1, max_size=3).map(tuple), inner=patterns, path=paths)
def test_a_pattern_that_is_covered_matches_nothing_beyond(outer: tuple[str, ...], inner: str, path: str) -> None:
    if covers(outer, inner) and rule(f"GET {inner}").allows("GET", path):
        assert Rule(methods=("GET",), paths=outer).allows("GET", path)
