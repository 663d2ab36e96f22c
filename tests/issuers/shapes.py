"""What each platform's tokens say, as they were seen, with made-up values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

AUDIENCE: Final = "https://keys.vendor.example"
T: Final = 1_800_000_000
UID: Final = "a709ef71-0b1c-4d2e-8f30-1a2b3c4d5e6f"


@dataclass(frozen=True)
class Shape:
    """A platform's token, and a rule that it fits."""

    preset: str
    claims: Mapping[str, Any]
    rule: Mapping[str, Sequence[str]]


SHAPES: Final = [
    Shape(
        "kubernetes",
        {
            "iss": "https://oidc.eks.eu-west-1.amazonaws.com/id/0A1B2C3D",
            "aud": [AUDIENCE],
            "sub": "system:serviceaccount:sync:nightly",
            "iat": T,
            "nbf": T,
            "exp": T + 3600,
            "jti": "0f3c",
            "kubernetes.io": {
                "namespace": "sync",
                "serviceaccount": {"name": "nightly", "uid": UID},
                "pod": {"name": "nightly-7d", "uid": UID},
                "node": {"name": "ip-10-0-1-7", "uid": UID},
            },
        },
        {"namespace": ["sync"], "serviceaccount": ["nightly"]},
    ),
    Shape(
        "github-actions",
        {
            "iss": "https://token.actions.githubusercontent.com",
            "aud": AUDIENCE,
            "sub": "repo:acme@123456/sync@456789:environment:prod",
            "jti": "6f4762ed",
            "iat": T,
            "nbf": T - 600,
            "exp": T + 300,
            "repository": "acme/sync",
            "repository_id": "456789",
            "repository_owner": "acme",
            "repository_owner_id": "123456",
            "repository_visibility": "private",
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "ref_protected": "true",
            "sha": "9f31",
            "environment": "prod",
            "event_name": "schedule",
            "workflow_ref": "acme/sync/.github/workflows/n.yml@refs/heads/main",
            "job_workflow_ref": "acme/sync/.github/workflows/n.yml@refs/heads/main",
            "actor": "ada",
            "actor_id": "77",
            "run_id": "8812",
            "run_attempt": "1",
            "runner_environment": "github-hosted",
            "enterprise_id": "9",
        },
        {"repository_id": ["456789"], "repository_owner_id": ["123456"], "environment": ["prod"]},
    ),
    Shape(
        "gitlab",
        {
            "iss": "https://gitlab.com",
            "aud": AUDIENCE,
            "sub": "project_path:acme/sync:ref_type:branch:ref:main",
            "jti": "63ab",
            "iat": T,
            "nbf": T - 5,
            "exp": T + 3600,
            "project_id": "28",
            "project_path": "acme/sync",
            "namespace_id": "11",
            "job_project_id": "28",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "environment": "prod",
            "environment_protected": "true",
            "pipeline_id": "455",
            "pipeline_source": "schedule",
            "job_id": "1123",
            "runner_id": 1,
            "sha": "714a",
            "ci_config_ref_uri": "gitlab.com/acme/sync//.gitlab-ci.yml@refs/heads/main",
            "user_login": "ada",
        },
        {"project_id": ["28"], "namespace_id": ["11"], "ref": ["main"], "ref_type": ["branch"]},
    ),
    Shape(
        "spiffe",
        {"sub": "spiffe://prod.vendor.example/ns/sync/sa/nightly", "aud": [AUDIENCE], "exp": T + 300, "iat": T},
        {"sub": ["spiffe://prod.vendor.example/ns/sync/*"]},
    ),
    Shape(
        "aws",
        {
            "iss": "https://3b2c.tokens.sts.global.api.aws",
            "aud": AUDIENCE,
            "sub": "arn:aws:iam::123456789012:role/nightly",
            "iat": T,
            "exp": T + 300,
            "jti": "3b2c",
            "https://sts.amazonaws.com/": {
                "aws_account": "123456789012",
                "source_region": "eu-west-1",
                "org_id": "o-abc1234567",
                "ec2_source_instance_arn": "arn:aws:ec2:eu-west-1:123456789012:instance/i-0a1b2c3d",
                "principal_tags": {"team": "data", "cost-center": "7"},
                "request_tags": {"job": "1"},
            },
        },
        {"sub": ["arn:aws:iam::123456789012:role/nightly"], "account": ["123456789012"]},
    ),
    Shape(
        "google",
        {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "112900000000000000001",
            "sub": "112900000000000000001",
            "email": "nightly@acme.iam.gserviceaccount.com",
            "email_verified": True,
            "iat": T,
            "exp": T + 3600,
            "google": {"compute_engine": {"project_number": 9876543210, "zone": "europe-west1-b", "instance_id": "41"}},
        },
        {"sub": ["112900000000000000001"], "project_number": ["9876543210"]},
    ),
    Shape(
        "azure",
        {
            "iss": "https://sts.windows.net/11111111-1111-1111-1111-111111111111/",
            "aud": AUDIENCE,
            "tid": "11111111-1111-1111-1111-111111111111",
            "oid": "33333333-3333-3333-3333-333333333333",
            "sub": "33333333-3333-3333-3333-333333333333",
            "appid": "44444444-4444-4444-4444-444444444444",
            "idtyp": "app",
            "ver": "1.0",
            "iat": T,
            "nbf": T,
            "exp": T + 86_400,
        },
        {"tid": ["11111111-1111-1111-1111-111111111111"], "oid": ["33333333-3333-3333-3333-333333333333"]},
    ),
    Shape(
        "hcp-terraform",
        {
            "iss": "https://app.terraform.io",
            "aud": AUDIENCE,
            "sub": "organization:acme:project:Default Project:workspace:sync:run_phase:apply",
            "jti": "9c",
            "iat": T,
            "nbf": T,
            "exp": T + 7200,
            "terraform_organization_id": "org-a",
            "terraform_workspace_id": "ws-b",
            "terraform_project_id": "prj-c",
            "terraform_run_phase": "apply",
            "terraform_run_id": "run-d",
        },
        {"organization_id": ["org-a"], "workspace_id": ["ws-b"], "run_phase": ["apply"]},
    ),
    Shape(
        "buildkite",
        {
            "iss": "https://agent.buildkite.com",
            "aud": AUDIENCE,
            "sub": "organization:acme:pipeline:sync:ref:refs/heads/main:commit:9f31:step:run",
            "iat": T,
            "nbf": T,
            "exp": T + 300,
            "organization_id": UID,
            "pipeline_id": UID,
            "build_branch": "main",
            "build_number": 7,
            "step_key": "run",
        },
        {"organization_id": [UID], "pipeline_id": [UID]},
    ),
    Shape(
        "circleci",
        {
            "iss": f"https://oidc.circleci.com/org/{UID}",
            "aud": AUDIENCE,
            "sub": f"org/{UID}/project/{UID}/user/{UID}",
            "iat": T,
            "exp": T + 3600,
            "oidc.circleci.com/project-id": UID,
            "oidc.circleci.com/vcs-origin": "github.com/acme/sync",
            "oidc.circleci.com/vcs-ref": "refs/heads/main",
            "oidc.circleci.com/context-ids": [UID, "22222222-2222-2222-2222-222222222222"],
            "oidc.circleci.com/ssh-rerun": False,
        },
        {
            "project_id": [UID],
            "vcs_origin": ["github.com/acme/sync"],
            "context_ids": ["22222222-2222-2222-2222-222222222222"],
        },
    ),
    Shape(
        "oidc",
        {"iss": "https://id.example", "aud": AUDIENCE, "sub": "job-1", "iat": T, "exp": T + 300},
        {"sub": ["job-1"]},
    ),
]
BY_PRESET: Final = {one.preset: one for one in SHAPES}


def changed(claims: Mapping[str, Any], path: str, value: Any = ...) -> dict[str, Any]:
    """The claims with another value at a path of names divided by ``>``; without one it is left out."""
    name, _, rest = path.partition(">")
    if rest:
        return {**claims, name: changed(claims[name], rest, value)}
    left = {key: kept for key, kept in claims.items() if key != name}
    return left if value is ... else {**left, name: value}
