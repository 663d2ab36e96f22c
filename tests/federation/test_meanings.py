"""Who a token is of, where names change, are taken again, or look alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any, Final

import pytest

from broker.base.clock import of_seconds
from broker.base.outbound import Outbound
from broker.identity.federation import assertion
from broker.issuers import files, published, verifying
from broker.issuers.files import IssuerFile
from broker.issuers.presets import PRESETS
from broker.issuers.verifying import Expected, NotTaken
from tests.issuers.shapes import AUDIENCE, BY_PRESET, UID, T, changed
from tests.support.issuer import pair, signed

NOW = of_seconds(T + 10)
GITHUB = BY_PRESET["github-actions"]


def refused(preset: str, claims: Mapping[str, Any]) -> str:
    found = PRESETS[preset].mismatch(BY_PRESET[preset].rule, claims)
    return found.code if found else ""


@pytest.mark.parametrize(
    "sub",
    [
        "repo:acme/sync:environment:prod",
        "repo:acme@123456/sync@456789:environment:prod",
        "repo:acme/sync:ref:refs/heads/main",
        "repository_owner:acme",
        "anything that an admin of the repository writes",
    ],
)
def test_what_github_calls_the_run_decides_nothing(sub: str) -> None:
    assert refused("github-actions", changed(GITHUB.claims, "sub", sub)) == ""


def test_a_renamed_repository_is_the_same_one() -> None:
    renamed = {
        "sub": "repo:globex@123456/nightly@456789:environment:prod",
        "repository": "globex/nightly",
        "repository_owner": "globex",
        "workflow_ref": "globex/nightly/.github/workflows/n.yml@refs/heads/main",
        "job_workflow_ref": "globex/nightly/.github/workflows/n.yml@refs/heads/main",
    }
    assert refused("github-actions", {**GITHUB.claims, **renamed}) == ""


@pytest.mark.parametrize(
    ("preset", "taken_again"),
    [
        ("github-actions", {"repository_id": "456790"}),
        ("github-actions", {"repository_owner_id": "123457"}),
        ("gitlab", {"project_id": "29", "job_project_id": "29"}),
        ("gitlab", {"namespace_id": "12"}),
        ("google", {"sub": "112900000000000000002", "azp": "112900000000000000002"}),
        ("azure", {"oid": UID, "sub": UID}),
        ("hcp-terraform", {"terraform_workspace_id": "ws-c"}),
        ("hcp-terraform", {"terraform_organization_id": "org-b"}),
        ("buildkite", {"pipeline_id": UID.replace("a", "b")}),
        ("circleci", {"oidc.circleci.com/project-id": UID.replace("a", "b")}),
    ],
)
def test_who_takes_a_name_again_is_somebody_else(preset: str, taken_again: dict[str, str]) -> None:
    assert refused(preset, {**BY_PRESET[preset].claims, **taken_again}) == "claim_differs"


def test_a_service_account_that_was_made_again_is_another_where_its_uid_is_bound() -> None:
    shape = BY_PRESET["kubernetes"]
    rule = {**shape.rule, "serviceaccount_uid": [UID]}
    assert PRESETS["kubernetes"].mismatch(rule, shape.claims) is None
    again = changed(shape.claims, "kubernetes.io>serviceaccount>uid", UID.replace("a", "b"))
    found = PRESETS["kubernetes"].mismatch(rule, again)
    assert found is not None
    assert found.claim == "serviceaccount_uid"


@pytest.mark.parametrize(
    "value", ["Prod", "PROD", "pro", "prod ", "prod\n", "prod*", "pr.d", "prоd", ["prod"], {"prod": 1}]
)
def test_a_value_is_exactly_that(value: Any) -> None:
    assert refused("github-actions", changed(GITHUB.claims, "environment", value)) in {"claim_differs", "claim_missing"}


@pytest.mark.parametrize(
    ("preset", "bound"),
    [
        ("aws", {"instance": "arn:aws:ec2:eu-west-1:123456789012:instance/i-0a1b2c3d"}),
        ("aws", {"principal_tags": "cost-center=7"}),
        ("aws", {"source_region": "eu-west-1", "org_id": "o-abc1234567"}),
        ("kubernetes", {"pod": "nightly-7d", "node": "ip-10-0-1-7", "serviceaccount_uid": UID}),
        ("google", {"instance_id": "41", "zone": "europe-west1-b"}),
        ("circleci", {"vcs_ref": "refs/heads/main", "ssh_rerun": "false"}),
        ("buildkite", {"branch": "main", "step": "run"}),
        ("github-actions", {"runner_environment": "github-hosted", "visibility": "private", "enterprise_id": "9"}),
        ("gitlab", {"environment_protected": "true", "config": "gitlab.com/acme/sync//.gitlab-ci.yml@refs/heads/main"}),
    ],
)
def test_what_a_rule_may_bind_besides_is_where_the_platform_writes_it(preset: str, bound: dict[str, str]) -> None:
    shape, kind = BY_PRESET[preset], PRESETS[preset]
    rule = {**shape.rule, **{name: [value] for name, value in bound.items()}}
    assert kind.faults(rule) == []
    assert kind.mismatch(rule, shape.claims) is None


@pytest.mark.parametrize(
    "tags",
    [..., None, "team=data", ["team=data"], {}, {"team": "dat"}, {"team": None}, {"TEAM": "data"}],
)
def test_a_roles_tag_is_the_whole_of_it_and_no_tag_that_the_caller_adds(tags: Any) -> None:
    shape = BY_PRESET["aws"]
    rule = {**shape.rule, "principal_tags": ["team=data"]}
    added = changed(shape.claims, "https://sts.amazonaws.com/>request_tags", {"team": "data"})
    assert PRESETS["aws"].mismatch(rule, added) is None
    found = PRESETS["aws"].mismatch(rule, changed(added, "https://sts.amazonaws.com/>principal_tags", tags))
    assert found is not None
    assert found.claim == "principal_tags"


def test_a_tags_name_ends_at_the_first_sign_and_its_value_is_a_text() -> None:
    aws, shape = PRESETS["aws"], BY_PRESET["aws"]

    def takes(value: str, tags: dict[str, Any]) -> bool:
        claims = changed(shape.claims, "https://sts.amazonaws.com/>principal_tags", tags)
        return aws.mismatch({**shape.rule, "principal_tags": [value]}, claims) is None

    assert takes("a=b=c", {"a": "b=c"})
    assert not takes("a=b=c", {"a=b": "c"})
    assert not takes("a=True", {"a": True})


@pytest.mark.parametrize("pattern", [".*", "prod|dev", "^prod$", "pro?", "(prod)", "[p]rod", "*", "prod*", "{prod}"])
def test_what_looks_like_a_pattern_is_no_pattern_and_is_warned_of(pattern: str) -> None:
    rule = {**GITHUB.rule, "environment": [pattern]}
    found = PRESETS["github-actions"].mismatch(rule, GITHUB.claims)
    assert found is not None
    assert PRESETS["github-actions"].mismatch(rule, changed(GITHUB.claims, "environment", pattern)) is None
    assert len(PRESETS["github-actions"].warnings(rule)) == 1


@pytest.mark.parametrize("value", [True, "True", "TRUE", 1, "1", "yes", [True]])
def test_gitlabs_protected_is_the_text_true(value: Any) -> None:
    assert refused("gitlab", changed(BY_PRESET["gitlab"].claims, "ref_protected", value)) == "event_refused"


ISSUERS: Final = {
    "github-actions": "https://token.actions.githubusercontent.com",
    "github-slug": "https://token.actions.githubusercontent.com/acme",
    "github-residency": "https://token.actions.acme.ghe.com",
    "github-enterprise": "https://github.vendor.example/_services/token",
}


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    one = Outbound()
    yield one
    await one.close()


def declared(folder: Path) -> list[IssuerFile]:
    for name, issuer in ISSUERS.items():
        text = f'id = "{name}"\nversion = 1\npreset = "github-actions"\nissuer = "{issuer}"\n'
        (folder / f"{name}.toml").write_text(text + "shared = true\n")
    return [one for one in files.load(folder) if one.id in ISSUERS]


def test_issuers_of_one_platform_speak_for_themselves_alone(tmp_path: Path) -> None:
    issuers = declared(tmp_path)
    keys = {one.id: pair("k1", "P-256") for one in issuers}
    for one, other in permutations(issuers, 2):
        wanted = replace(assertion.expected(one, AUDIENCE), algorithms=("ES256",))
        own = changed(GITHUB.claims, "iss", one.issuer)
        token = signed(keys[one.id], own, "ES256")
        assert assertion.issuer_of(token, issuers) is one
        assert code(token, wanted, keys[one.id]) == ""
        # another's token is not this one's, nor is one that another signed in its name
        assert (
            code(signed(keys[other.id], changed(own, "iss", other.issuer), "ES256"), wanted, keys[one.id])
            == "wrong_issuer"
        )
        assert code(signed(keys[other.id], own, "ES256"), wanted, keys[one.id]) == "bad_signature"


def code(token: str, wanted: Expected, key: Any) -> str:
    known = published.read({"keys": [key.as_dict(private=False)]})
    try:
        found = verifying.form(token, wanted)
        verifying.check(token, found, known.candidates(found.header.get("kid"), "ES256"), wanted, NOW)
    except NotTaken as refused:
        return refused.code
    return ""


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("ES256", "P-256"), ("ES384", "P-384"), ("ES512", "P-521"), ("EdDSA", "Ed25519")]
)
def test_an_algorithm_is_taken_where_the_issuers_file_names_it(algorithm: str, kind: str) -> None:
    key = pair("k1", kind)
    token = signed(key, GITHUB.claims, algorithm)
    known = published.read({"keys": [key.as_dict(private=False)]})
    for algorithms, taken in (((algorithm,), True), (("RS256",), False)):
        one = IssuerFile.model_validate(
            {
                "id": "one",
                "version": 1,
                "preset": "github-actions",
                "issuer": GITHUB.claims["iss"],
                "tokens": {"algorithms": algorithms},
            }
        )
        wanted = assertion.expected(one, AUDIENCE)
        if not taken:
            with pytest.raises(NotTaken, match="algorithm_refused"):
                verifying.form(token, wanted)
            continue
        found = verifying.form(token, wanted)
        assert verifying.check(token, found, known.candidates("k1", algorithm), wanted, NOW)
