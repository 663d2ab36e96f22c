"""What of an environment proves who a job is, and what is merely its own access to somebody else."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from broker.cli.withheld import without_identity
from tests.client.platforms import jwt

BROKER = "https://broker.vendor.example"


@pytest.mark.parametrize(
    "name",
    [
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "SYSTEM_ACCESSTOKEN",
        "SYSTEM_OIDCREQUESTURI",
        "BUILDKITE_AGENT_ACCESS_TOKEN",
        "SPIFFE_ENDPOINT_SOCKET",
        "CI_JOB_JWT",
        "CI_JOB_JWT_V1",
        "CI_JOB_JWT_V2",
        "CIRCLE_OIDC_TOKEN",
        "CIRCLE_OIDC_TOKEN_V2",
        "BITBUCKET_STEP_OIDC_TOKEN",
        "SEMAPHORE_OIDC_TOKEN",
        "SPACELIFT_OIDC_TOKEN",
        "TFC_WORKLOAD_IDENTITY_TOKEN",
        "TFC_WORKLOAD_IDENTITY_TOKEN_VAULT",
        "VERCEL_OIDC_TOKEN",
        "BROKER_IDENTITY",
        "BROKER_CLIENT_PROXY",
        "BROKER_ID_TOKEN",
    ],
)
def test_what_proves_a_jobs_identity_to_anybody_goes(name: str) -> None:
    assert without_identity({name: "x", "MINE": "kept"}, [BROKER]) == {"MINE": "kept"}


@pytest.mark.parametrize(
    "name",
    [
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_ROLE_ARN",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_SESSION_TOKEN",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "AZURE_FEDERATED_TOKEN_FILE",
        "CI_JOB_TOKEN",
        "GITHUB_TOKEN",
        "ACTIONS_RUNTIME_TOKEN",
        "OIDC_ISSUER",
        "TFC_WORKLOAD_IDENTITY_AUDIENCE",
        "IDENTITY_HEADER",
        "MY_ACTIONS_ID_TOKEN_REQUEST_URL",
        "http_proxy",
    ],
)
def test_a_jobs_own_access_to_somebody_else_stays(name: str) -> None:
    assert without_identity({name: "x"}, [BROKER]) == {name: "x"}


@pytest.mark.parametrize(
    "audience",
    [BROKER, f"{BROKER}/", f"{BROKER}/oauth/token", ["https://vault.example", BROKER]],
)
def test_a_token_for_the_broker_goes_whatever_it_is_called(audience: Any) -> None:
    environment = {"RAPTOR_SYNC": f" {jwt({'aud': audience, 'sub': 'job'})}\n", "MINE": "kept"}
    assert without_identity(environment, [BROKER]) == {"MINE": "kept"}


@pytest.mark.parametrize(
    "value",
    [
        jwt({"aud": "https://vault.example"}),
        jwt({"aud": f"{BROKER}.elsewhere.example"}),
        jwt({"aud": ["sts.amazonaws.com", 7, None]}),
        jwt({"sub": "job"}),
        jwt(["aud", BROKER]),
        "a.b.c",
        "1.2.3",
        "www.vendor.example",
        BROKER,
        "",
        f"a.{base64.urlsafe_b64encode(b'[' * 100_000).decode().rstrip('=')}.c",
    ],
)
def test_what_is_not_for_the_broker_stays(value: str) -> None:
    assert without_identity({"VALUE": value}, [BROKER]) == {"VALUE": value}


def test_what_is_named_stays_but_nothing_of_the_brokers() -> None:
    environment = {"CIRCLE_OIDC_TOKEN": "a", "OURS": jwt({"aud": BROKER}), "BROKER_TOKEN": "kbo", "CI_JOB_JWT": "b"}
    kept = without_identity(environment, [BROKER], ["CIRCLE_OIDC_TOKEN", "OURS", "BROKER_TOKEN"])
    assert sorted(kept) == ["CIRCLE_OIDC_TOKEN", "OURS"]


def test_what_the_jobs_own_source_reads_goes_whatever_it_is_called() -> None:
    environment = {"DEPLOY": "whatever it is", "IDENTITY_HEADER": "secret", "MINE": "kept"}
    assert without_identity(environment, [BROKER], sources=["DEPLOY", "IDENTITY_HEADER"]) == {"MINE": "kept"}
    assert "DEPLOY" in without_identity(environment, [BROKER], ["DEPLOY"], sources=["DEPLOY"])


def test_a_token_for_the_brokers_other_name_goes_too() -> None:
    environment = {"AZURE": jwt({"aud": "api://22222222-2222-2222-2222-222222222222"}), "MINE": "kept"}
    named = [BROKER, "api://22222222-2222-2222-2222-222222222222"]
    assert without_identity(environment, named) == {"MINE": "kept"}
