"""What each platform's token has to say before a trust takes it, and by which word it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.issuers.presets import PRESETS
from broker.issuers.presets.model import Kind
from tests.issuers.shapes import BY_PRESET, SHAPES, UID, Shape, changed

EACH = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.preset)


def refused(preset: str, claims: Mapping[str, Any], rule: Mapping[str, Sequence[str]] | None = None) -> str:
    """The word by which it is; empty if it is taken."""
    found = PRESETS[preset].mismatch(BY_PRESET[preset].rule if rule is None else rule, claims)
    return found.code if found else ""


def test_every_platform_has_a_shape() -> None:
    assert set(BY_PRESET) == set(PRESETS)


@EACH
def test_a_platforms_token_fits_a_rule_that_binds_what_has_to_be_bound(shape: Shape) -> None:
    preset = PRESETS[shape.preset]
    assert preset.faults(shape.rule) == []
    assert refused(shape.preset, shape.claims) == ""
    # and what a platform adds some day changes nothing
    assert refused(shape.preset, {**shape.claims, "new": {"deep": [1]}, "newer": None}) == ""


@EACH
def test_a_rule_that_leaves_out_what_has_to_be_bound_is_refused(shape: Shape) -> None:
    preset = PRESETS[shape.preset]
    for group in preset.required:
        less = {name: values for name, values in shape.rule.items() if name not in group}
        assert any(fault.startswith(f"bind {' or '.join(group)}") for fault in preset.faults(less)), group


@EACH
def test_without_a_claim_that_is_bound_or_with_another_type_it_is_no_match(shape: Shape) -> None:
    preset = PRESETS[shape.preset]
    for name in shape.rule:
        claim = preset.claim(name)
        assert claim is not None
        path = ">".join(claim.path)
        others: list[Any] = [..., None, "", True, {"a": 1}, [], [shape.rule[name][0], 1], 1.5]
        if claim.kind is Kind.TEXT:
            others += [[shape.rule[name][0]], f"{shape.rule[name][0]}x", f" {shape.rule[name][0]}", "x", 1]
        for value in others:
            said = refused(shape.preset, changed(shape.claims, path, value))
            assert said in {"claim_missing", "claim_differs"}, value


@EACH
def test_a_rule_is_proposed_from_a_token_that_fits_it(shape: Shape) -> None:
    preset = PRESETS[shape.preset]
    proposed = preset.proposed(shape.claims)
    assert preset.faults(proposed) == []
    assert preset.mismatch(proposed, shape.claims) is None


def test_what_can_be_made_again_is_proposed_with_what_tells_it_from_the_one_before() -> None:
    cluster, gitlab = BY_PRESET["kubernetes"].claims, BY_PRESET["gitlab"].claims
    assert PRESETS["kubernetes"].proposed(cluster)["serviceaccount_uid"] == (UID,)
    without = changed(cluster, "kubernetes.io>serviceaccount>uid")
    assert set(PRESETS["kubernetes"].proposed(without)) == {"namespace", "serviceaccount"}
    assert set(PRESETS["gitlab"].proposed(gitlab)) == {"project_id", "namespace_id", "environment"}
    branch = PRESETS["gitlab"].proposed(changed(gitlab, "environment"))
    assert (branch["ref"], branch["ref_type"]) == (("main",), ("branch",))


def test_a_tag_with_the_name_of_a_branch_is_told_from_it() -> None:
    shape = BY_PRESET["gitlab"]
    less = {name: values for name, values in shape.rule.items() if name != "ref_type"}
    assert PRESETS["gitlab"].faults(less) == ["bind ref_type beside ref, which says too little by itself"]
    assert refused("gitlab", {**shape.claims, "ref_type": "tag"}) == "claim_differs"


@pytest.mark.parametrize(
    ("preset", "path", "value", "code"),
    [
        ("kubernetes", "sub", "system:serviceaccount:sync:other", "claim_differs"),
        ("kubernetes", "kubernetes.io>pod", ..., "pod_missing"),
        ("kubernetes", "kubernetes.io", ..., "claim_missing"),
        ("github-actions", "event_name", "pull_request_target", "event_refused"),
        ("github-actions", "event_name", "pull_request", "event_refused"),
        ("github-actions", "event_name", ..., "event_refused"),
        ("github-actions", "event_name", ["push"], "event_refused"),
        ("github-actions", "repository_owner_id", "654321", "claim_differs"),
        ("gitlab", "job_project_id", "29", "event_refused"),
        ("gitlab", "pipeline_source", "merge_request_event", "event_refused"),
        ("gitlab", "ref_protected", "false", "event_refused"),
        ("gitlab", "ref_protected", True, "event_refused"),
        ("spiffe", "sub", "spiffe://prod.vendor.example/ns/syncing/sa/nightly", "claim_differs"),
        ("spiffe", "sub", "spiffe://other.example/ns/sync/sa/nightly", "claim_differs"),
        ("spiffe", "sub", "spiffe://prod.vendor.example/ns/sync/../admin", "claim_differs"),
        ("spiffe", "sub", "spiffe://prod.vendor.example/ns/sync/", "claim_differs"),
        ("aws", "sub", "arn:aws:iam::123456789012:root", "claim_differs"),
        ("google", "azp", "someone.apps.googleusercontent.com", "claim_differs"),
        ("azure", "scp", "user_impersonation", "claim_differs"),
        ("azure", "idtyp", "user", "claim_differs"),
        ("azure", "iss", "https://sts.windows.net/22222222-2222-2222-2222-222222222222/", "claim_differs"),
        ("circleci", "oidc.circleci.com/ssh-rerun", True, "event_refused"),
        ("circleci", "oidc.circleci.com/ssh-rerun", "false", "event_refused"),
        ("circleci", "oidc.circleci.com/ssh-rerun", ..., "event_refused"),
    ],
)
def test_what_a_stranger_could_have_started_or_a_person_holds_is_refused(
    preset: str, path: str, value: Any, code: str
) -> None:
    assert refused(preset, changed(BY_PRESET[preset].claims, path, value)) == code


@pytest.mark.parametrize(
    ("preset", "path", "value", "bound"),
    [
        ("github-actions", "event_name", "pull_request", {"event": ["pull_request"]}),
        ("gitlab", "ref_protected", "false", {"ref_protected": ["false"]}),
        ("gitlab", "pipeline_source", "merge_request_event", {"pipeline_source": ["merge_request_event"]}),
        ("circleci", "oidc.circleci.com/ssh-rerun", True, {"ssh_rerun": ["true"]}),
    ],
)
def test_unless_a_rule_binds_just_that(preset: str, path: str, value: Any, bound: dict[str, list[str]]) -> None:
    shape = BY_PRESET[preset]
    assert refused(preset, changed(shape.claims, path, value), {**shape.rule, **bound}) == ""


@pytest.mark.parametrize(
    ("preset", "bound", "told"),
    [
        ("github-actions", {"repository_id": ["acme/sync"]}, "repository_id: write what the token has, such as 456789"),
        ("github-actions", {"ref": ["refs/*"]}, ""),
        ("github-actions", {"ref": ["main"]}, "ref: write what the token has, such as refs/heads/main"),
        ("github-actions", {"sub": ["repo:acme/sync:*"]}, "sub: GitHub Actions has no such claim"),
        ("aws", {"request_tags": ["1"]}, "request_tags: AWS has no such claim"),
        ("aws", {"sub": ["arn:aws:iam::123456789012:user/ada"]}, "sub: write what the token has"),
        ("google", {"email": ["nightly@acme.iam.gserviceaccount.com"]}, "email: Google Cloud has no such claim"),
        ("spiffe", {"sub": ["spiffe://prod.vendor.example/*"]}, "sub: write what the token has"),
        ("spiffe", {"sub": ["spiffe://prod.vendor.example/ns/sync*"]}, "sub: write what the token has"),
        ("azure", {"oid": []}, "oid: write at least one value, or leave it out"),
        ("gitlab", {"ref_type": []}, "bind ref_type beside ref, which says too little by itself"),
    ],
)
def test_what_would_only_fail_at_sign_in_is_refused_at_once(
    preset: str, bound: dict[str, list[str]], told: str
) -> None:
    found = PRESETS[preset].faults({**BY_PRESET[preset].rule, **bound})
    assert bool(found) == bool(told)
    assert not told or any(one.startswith(told) for one in found), found


def test_a_star_stands_for_the_rest_of_a_ref_and_everywhere_else_for_itself() -> None:
    shape = BY_PRESET["github-actions"]
    starred = {**shape.rule, "ref": ["refs/tags/v*"], "workflow": ["acme/sync/.github/workflows/*"]}
    tag = {**shape.claims, "ref": "refs/tags/v1.2"}
    assert refused("github-actions", tag, {**shape.rule, "ref": ["refs/tags/v*"]}) == ""
    assert refused("github-actions", shape.claims, {**shape.rule, "ref": ["refs/tags/v*"]}) == "claim_differs"
    assert refused("github-actions", tag, starred) == "claim_differs"
    (warned,) = PRESETS["github-actions"].warnings(starred)
    assert warned == "workflow: `acme/sync/.github/workflows/*` is taken as it stands; there are no patterns."


def test_a_refusal_tells_what_the_token_says_and_never_what_is_expected() -> None:
    shape = BY_PRESET["github-actions"]
    found = PRESETS["github-actions"].mismatch({**shape.rule, "environment": ["secret-name"]}, shape.claims)
    assert found is not None
    assert found.text == "environment is `prod`; no trust takes it."
    # what identifies the bearer is looked at first, whatever else differs
    other = changed(changed(shape.claims, "repository_id", "1"), "environment", "dev")
    found = PRESETS["github-actions"].mismatch(shape.rule, other)
    assert found is not None
    assert found.claim == "repository_id"


@given(
    rule=st.dictionaries(st.sampled_from(["sub", "client", "email"]), st.lists(st.sampled_from("ab"), max_size=2)),
    claims=st.dictionaries(
        st.sampled_from(["sub", "azp", "email", "new"]), st.sampled_from(["a", "b", "", None, True, 1])
    ),
)
def test_a_rule_holds_where_each_of_its_names_has_one_of_its_values(
    rule: dict[str, list[str]], claims: dict[str, Any]
) -> None:
    path = {"sub": "sub", "client": "azp", "email": "email"}
    model = all(claims.get(path[name]) in values and claims.get(path[name]) for name, values in rule.items())
    assert (refused("oidc", claims, rule) == "") == model
    assert (refused("oidc", {**claims, "more": UID}, rule) == "") == model
