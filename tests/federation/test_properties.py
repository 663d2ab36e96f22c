"""What holds for every token and every rule of every platform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.issuers.presets import PRESETS
from broker.issuers.presets.model import Claim, Kind, Preset
from tests.issuers.shapes import BY_PRESET, SHAPES, Shape, changed

Rule = Mapping[str, Sequence[str]]
_OF_KIND = {Kind.TEXT: str, Kind.NUMBER: int, Kind.FLAG: bool, Kind.LIST: list, Kind.TAGS: dict}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", "true", "True", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)
KNOWN = {step for preset in PRESETS.values() for claim in preset.claims for step in claim.path}
KNOWN |= {name for shape in SHAPES for name in shape.claims}


def at(claims: Any, path: Sequence[str]) -> Any:
    for step in path:
        claims = claims.get(step) if isinstance(claims, dict) else None
    return claims


def written(value: Any) -> str:
    """As a rule has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def model(preset: Preset, rule: Rule, claims: Mapping[str, Any]) -> bool:
    """What a rule means: each of its claims is there, of its type, with one of the values; and nothing refuses."""
    found = {one.name: at(claims, one.path) for one in preset.claims if one.name in rule}
    typed = all(type(value) is _OF_KIND[claim_of(preset, name).kind] for name, value in found.items())
    matches = typed and all({*said(found[name])} & {*rule[name]} - {""} for name in rule)
    return matches and preset.refuses(claims, frozenset(rule)) is None


def said(value: Any) -> list[str]:
    """What a claim says, a text for each."""
    if isinstance(value, dict):
        return [f"{name}={text}" for name, text in value.items() if isinstance(text, str) and text and "=" not in name]
    if isinstance(value, list):
        return value if all(isinstance(one, str) and one for one in value) else []
    return [written(value)]


def claim_of(preset: Preset, name: str) -> Claim:
    found = preset.claim(name)
    assert found is not None
    return found


def takes(preset: Preset, rule: Rule, claims: Mapping[str, Any]) -> bool:
    return preset.mismatch(rule, claims) is None


@st.composite
def cases(draw: st.DrawFn, shape: Shape) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
    """A platform's token in which some claims are others, and a rule that binds them to this or that."""
    claims, rule = dict(shape.claims), draw(st.sampled_from([{}, dict(shape.rule)]))
    for claim in draw(st.lists(st.sampled_from(PRESETS[shape.preset].claims), unique=True, min_size=1, max_size=2)):
        usual = at(shape.claims, claim.path)
        near = [usual, [usual], [usual, 1], f"{usual}x", f"{usual}"[:-1], f"{usual}".upper(), "", True, None, ...]
        value = draw(st.sampled_from(near) | JSON)
        if isinstance(at(claims, claim.path[:-1]), dict):
            claims = changed(claims, ">".join(claim.path), value)
        wanted = [*map(written, claim.shown(shape.claims)), written(usual), written(value), str(value), "", "a"]
        rule[claim.name] = draw(st.lists(st.sampled_from(wanted), max_size=3))
    return claims, rule


shapes = st.sampled_from(SHAPES)


@settings(max_examples=1_000)
@given(st.data())
def test_a_token_is_taken_where_the_model_takes_it(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    claims, rule = data.draw(cases(shape))
    assert takes(PRESETS[shape.preset], rule, claims) == model(PRESETS[shape.preset], rule, claims)


@given(st.data())
def test_a_token_that_still_fits_lost_nothing_that_is_bound(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    preset = PRESETS[shape.preset]
    rule = shape.rule if data.draw(st.booleans()) else data.draw(cases(shape))[1]
    assume(takes(preset, rule, shape.claims))
    lost = data.draw(st.sets(st.sampled_from(sorted(shape.claims)), min_size=1))
    left = {name: value for name, value in shape.claims.items() if name not in lost}
    bound = {claim_of(preset, name).path[0] for name in rule}
    assert not (takes(preset, rule, left) and bound & lost)


@given(st.data())
def test_what_nobody_knows_yet_changes_no_answer(data: st.DataObject) -> None:
    shape = data.draw(shapes)
    preset = PRESETS[shape.preset]
    claims, rule = data.draw(cases(shape) | st.just((dict(shape.claims), dict(shape.rule))))
    unknown = st.text("abcxyz_-/.", min_size=1, max_size=8).filter(lambda name: name not in KNOWN)
    more = data.draw(st.dictionaries(unknown, JSON, min_size=1, max_size=3))
    before = preset.mismatch(rule, claims)
    assert preset.mismatch(rule, {**more, **claims}) == before
    assert preset.mismatch(rule, {**claims, **more}) == before


@given(st.text("v1./-", max_size=6), st.text("v1./-", max_size=6))
def test_a_star_is_what_begins_like_it_and_goes_no_further(begin: str, shown: str) -> None:
    ref = claim_of(PRESETS["github-actions"], "ref")
    assert ref.fits(f"refs/tags/{begin}*", f"refs/tags/{shown}") == shown.startswith(begin)
    assert not ref.fits(f"refs/tags/{begin}*", f"refs/heads/{shown}")


@given(st.lists(st.sampled_from(["ns", "sync", "syn", "c"]), min_size=1, max_size=3).map("/".join))
def test_a_star_of_a_mesh_stands_for_whole_segments(path: str) -> None:
    sub = claim_of(PRESETS["spiffe"], "sub")
    bound = sub.fits("spiffe://prod.example/ns/syn/*", f"spiffe://prod.example/{path}")
    assert bound == (path.split("/")[:2] == ["ns", "syn"] and path.count("/") >= 2)


def test_the_shapes_are_taken_by_the_model_too() -> None:
    for preset, shape in BY_PRESET.items():
        if preset != "spiffe":  # the model knows no stars
            assert model(PRESETS[preset], shape.rule, shape.claims), preset
