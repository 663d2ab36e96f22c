"""How a job's command proves who the job is: by a file, by its platform's token, or by what the line names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.client.identity import Identity, generate
from tests.client.platforms import BROKER, CANARY, WORKLOAD, ServiceAnswer, TokenService, serving, token, told
from tests.support.commands import MINIMAL, run

OTHER = WORKLOAD.replace("1", "2")
LEASE = ("lease", "issue", "--org", "acme", "--provider", "raptor-comply")


@pytest.fixture
def platform() -> Iterator[TokenService]:
    with serving() as made:
        made.gives("/github", lambda asked: told({"value": token(asked.query["audience"])}))
        yield made


def github(platform: TokenService) -> dict[str, str]:
    """What a job of GitHub Actions has, and which broker it calls."""
    return {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{platform.url}/github?v=2",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY,
        "BROKER_URL": platform.url,
        "BROKER_WORKLOAD": WORKLOAD,
    }


def said(*words: str, environment: Mapping[str, str] | None = None, status: int = 0) -> str:
    """What the command prints; what it says on standard error where it fails.  Neither shows a platform's token."""
    done = run(*words, environment={**MINIMAL, **(environment or {})})
    assert done.returncode == status, done
    assert b"Traceback" not in done.stderr
    assert CANARY.encode() not in done.stdout + done.stderr
    return (done.stderr if status else done.stdout).decode()


def test_a_job_of_github_needs_no_file_and_no_key(platform: TokenService) -> None:
    assert said("token", "--ambient", environment=github(platform)) == "kba_4\n"
    assert said("token", "--ambient", "--workload", OTHER, environment=github(platform)) == "kba_4\n"
    assert [form["client_id"] for form in platform.exchanged] == [WORKLOAD, OTHER]
    assert {form["client_assertion"] for form in platform.exchanged} == {token(platform.url)}


def test_a_source_is_named_where_none_is_found(platform: TokenService, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token(platform.url))
    here = {"BROKER_URL": platform.url, "BROKER_WORKLOAD": WORKLOAD}
    assert said("token", "--token-from", f"file:{tmp_path / 'token'}", environment=here) == "kba_4\n"
    assert said("token", "--token-from", "env:DEPLOY", environment={**here, "DEPLOY": token(platform.url)}) == "kba_4\n"
    named = ("--token-from", "env:DEPLOY", "--audience", "api://2222")
    assert said("token", *named, environment={**here, "DEPLOY": token("api://2222")}) == "kba_4\n"


def test_a_file_without_a_key_says_it_all_and_a_line_may_name_another_source(
    platform: TokenService, tmp_path: Path
) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"broker": platform.url, "client_id": WORKLOAD, "token": {"github": True}}))
    environment = {**github(platform), "BROKER_URL": "", "BROKER_WORKLOAD": "", "BROKER_IDENTITY": str(file)}
    assert said("token", environment=environment) == "kba_4\n"
    assert said("token", "--ambient", environment=environment) == "kba_4\n"
    assert (
        said("token", "--token-from", "env:DEPLOY", environment={**environment, "DEPLOY": token(platform.url)})
        == "kba_4\n"
    )
    assert [form["client_id"] for form in platform.exchanged] == [WORKLOAD] * 3
    refused = said("token", "--ambient", "--workload", OTHER, status=1, environment=environment)
    assert "is another job's than --workload" in refused


@pytest.mark.parametrize("words", [LEASE, ("exec", *LEASE[2:], "--", "true"), ("lease", "end", "lse_1"), ("token",)])
def test_a_command_that_nothing_proves_says_both_ways(words: tuple[str, ...]) -> None:
    text = said(*words, status=2)
    assert "--identity FILE, or --ambient with --workload" in " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize("words", [LEASE, ("exec", *LEASE[2:], "--", "true"), ("token",)])
def test_a_job_whose_platform_gives_no_token_is_told_what_to_do(words: tuple[str, ...]) -> None:
    at = words.index("--") if "--" in words else len(words)
    words = (*words[:at], "--ambient", *words[at:])
    here = {"BROKER_URL": BROKER, "BROKER_WORKLOAD": WORKLOAD}
    text = said(*words, status=1, environment={**here, "GITHUB_ACTIONS": "true"})
    assert "Give the job `permissions: id-token: write`. [no_platform_token]" in text


def test_two_proofs_at_once_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    Identity(BROKER, WORKLOAD, generate()).write(file)
    text = said("token", "--ambient", "--identity", str(file), status=1)
    assert "has a private key, which proves who the job is: leave the file out, or --ambient" in text
    assert "--audience goes with" in said("token", "--audience", "x", "--identity", str(file), status=2)


def test_a_token_that_somebody_types_is_not_repeated() -> None:
    here = {"BROKER_URL": BROKER, "BROKER_WORKLOAD": WORKLOAD}
    assert "--token-from: the source of the token is none of file, env" in said(
        "token", "--token-from", token(), status=1, environment=here
    )


def test_a_file_without_a_key_has_none_to_rotate(tmp_path: Path) -> None:
    file = tmp_path / "job.json"
    file.write_text(json.dumps({"broker": BROKER, "client_id": WORKLOAD, "token": {"gcp": True}}))
    text = said("workload", "rotate-key", "--identity", str(file), status=1)
    assert "proves who it is by its platform's token, and has no key" in text


def test_other_languages_get_the_platforms_token_as_the_assertion(platform: TokenService) -> None:
    done = run("token", "--ambient", "--assertion", "--json", environment={**MINIMAL, **github(platform)})
    found = json.loads(done.stdout)
    assert found["client_id"] == WORKLOAD
    assert found["client_assertion"] == token(platform.url)
    assert found["token_endpoint"] == f"{platform.url}/oauth/token"
    assert platform.exchanged == [], "no broker is called"


def test_a_platform_that_is_away_is_no_refusal(platform: TokenService) -> None:
    platform.gives("/github", lambda _asked: ServiceAnswer(b"", 503))
    text = said("token", "--ambient", status=3, environment=github(platform))
    assert "[platform_unreachable]" in text
