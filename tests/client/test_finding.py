"""How a job finds its platform's token by itself: by what is there, and never by asking over a network."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.client.errors import CallFailed
from broker.client.platform.finding import PROJECTED, found
from tests.client.platforms import BROKER, CANARY

GITHUB = {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x.example", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY}
FIRMWARE = {
    "gcp": ("product_name", "Google Compute Engine"),
    "aws": ("sys_vendor", "Amazon EC2"),
    "azure": ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
}


def machine(root: Path, kind: str) -> None:
    """A machine of that cloud, by what its firmware says."""
    name, says = FIRMWARE[kind]
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / name).write_text(says + "\n")


def projected(root: Path) -> Path:
    path = root / PROJECTED
    path.parent.mkdir(parents=True)
    path.touch()
    return path


@pytest.mark.parametrize(
    ("environment", "source"),
    [
        ({"BROKER_ID_TOKEN": CANARY}, "env:BROKER_ID_TOKEN"),
        ({"BROKER_ID_TOKEN": CANARY, **GITHUB}, "env:BROKER_ID_TOKEN"),
        ({"GITHUB_ACTIONS": "true", **GITHUB}, "github"),
        ({"TFC_WORKLOAD_IDENTITY_TOKEN": CANARY}, "env:TFC_WORKLOAD_IDENTITY_TOKEN"),
        (
            {"TFC_WORKLOAD_IDENTITY_TOKEN": CANARY, "TFC_WORKLOAD_IDENTITY_TOKEN_BROKER": CANARY},
            "env:TFC_WORKLOAD_IDENTITY_TOKEN_BROKER",
        ),
        ({"CIRCLE_OIDC_TOKEN": CANARY, "CIRCLE_OIDC_TOKEN_V2": CANARY}, "env:CIRCLE_OIDC_TOKEN_V2"),
        ({"IDENTITY_ENDPOINT": "http://127.0.0.1/", "IDENTITY_HEADER": CANARY}, "azure"),
        ({"K_SERVICE": "nightly"}, "gcp"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "nightly"}, "aws"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/"}, "aws"),
    ],
)
def test_what_the_platform_set_names_the_source(tmp_path: Path, environment: dict[str, str], source: str) -> None:
    assert str(found(environment, BROKER, tmp_path)) == source


def test_a_projected_volume_is_found_at_its_place(tmp_path: Path) -> None:
    path = projected(tmp_path)
    machine(tmp_path, "gcp")
    assert str(found({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, BROKER, tmp_path)) == f"file:{path}"


@pytest.mark.parametrize("kind", sorted(FIRMWARE))
def test_a_clouds_machine_says_so_itself(tmp_path: Path, kind: str) -> None:
    machine(tmp_path, kind)
    assert str(found({}, BROKER, tmp_path)) == kind


@pytest.mark.parametrize(
    ("told_by", "platform", "mend"),
    [
        ("GITHUB_ACTIONS", "GitHub Actions", "`permissions: id-token: write`"),
        ("GITLAB_CI", "GitLab", "`id_tokens: {BROKER_ID_TOKEN: {aud: https://keys.vendor.example}}`"),
        ("CIRCLECI", "CircleCI", 'circleci run oidc get --claims \'{"aud": "https://keys.vendor.example"}\''),
        ("BUILDKITE", "Buildkite", "oidc request-token --audience https://keys.vendor.example --claim organization_id"),
        ("TFC_RUN_ID", "HCP Terraform", "TFC_WORKLOAD_IDENTITY_AUDIENCE_BROKER=https://keys.vendor.example"),
        ("KUBERNETES_SERVICE_HOST", "Kubernetes", "audience: https://keys.vendor.example, expirationSeconds: 3600"),
    ],
)
def test_a_platform_that_gave_no_token_is_named_with_its_fix_and_its_owners_cloud_is_not_asked(
    tmp_path: Path, told_by: str, platform: str, mend: str
) -> None:
    # given a CI's or cluster's machine, which is a cloud's, and is somebody else's there
    machine(tmp_path, "azure")
    with pytest.raises(CallFailed) as failed:
        found({told_by: "true", "AWS_WEB_IDENTITY_TOKEN_FILE": "/token"}, BROKER, tmp_path)
    # then no token of that machine is taken
    assert failed.value.code == "no_platform_token"
    assert f"runs on {platform}" in str(failed.value)
    assert mend in str(failed.value)


def test_where_nothing_is_found_the_text_has_what_was_looked_for_and_what_to_do_everywhere(tmp_path: Path) -> None:
    with pytest.raises(CallFailed) as failed:
        found({"HOME": "/root"}, BROKER, tmp_path)
    said = str(failed.value)
    for looked in ("BROKER_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", f"/{PROJECTED}", "IDENTITY_ENDPOINT"):
        assert looked in said
    for platform in ("GitHub Actions", "GitLab", "CircleCI", "Buildkite", "HCP Terraform", "Kubernetes", "SPIFFE"):
        assert f"\n{platform}: " in said
    assert "--token-from gcp, azure or aws" in said
