"""A job without a key: what it sends to the token endpoint, when, and where to."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.client import Client, KeylessIdentity, read_identity
from broker.client.ambience import identity
from broker.client.errors import AccessEnded, CallFailed
from broker.client.identity import Identity, IdentityUnusable, from_environment, generate, read
from broker.client.platform.kept import InVariable
from broker.formats.assertion import ASSERTION_TYPE
from tests.client.platforms import BROKER, CANARY, WORKLOAD, TokenService, refused, serving, token, told
from tests.support.processes import free_port


@pytest.fixture
def platform() -> Iterator[TokenService]:
    with serving() as made:
        yield made


def keyless(path: Path, source: Any, broker: str = BROKER, **members: Any) -> Path:
    """An identity file without a key."""
    path.write_text(json.dumps({"broker": broker, "client_id": WORKLOAD, "token": source, **members}))
    return path


def test_a_token_is_exchanged_as_the_jobs_whose_id_is_sent(platform: TokenService, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token(platform.url))
    file = keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")}, platform.url)
    with Client(read_identity(file)) as client:
        assert client.token() == "kba_4"
    assert platform.exchanged == [
        {
            "grant_type": "client_credentials",
            "client_id": WORKLOAD,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": token(platform.url),
        }
    ]


def test_a_token_that_was_replaced_meanwhile_is_read_anew(platform: TokenService, tmp_path: Path) -> None:
    # given a broker whose access tokens are over at once
    platform.gives("/oauth/token", lambda _asked: told({"access_token": "a", "token_type": "Bearer", "expires_in": 0}))
    (tmp_path / "token").write_text(token(platform.url, n=1))
    with Client(read(keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")}, platform.url))) as client:
        client.token()
        # when the platform has another token
        (tmp_path / "new").write_text(token(platform.url, n=2))
        (tmp_path / "new").replace(tmp_path / "token")
        client.token()
    # then it is that one which is sent
    sent = [form["client_assertion"] for form in platform.exchanged]
    assert sent == [token(platform.url, n=1), token(platform.url, n=2)]


def test_the_token_is_for_the_address_that_is_called_or_for_the_files_audience(tmp_path: Path) -> None:
    environment = {"DEPLOY": token("api://2222")}
    source = InVariable("DEPLOY", environment)
    named = KeylessIdentity(BROKER, WORKLOAD, source, "api://2222")
    assert named.proof()["client_assertion"] == environment["DEPLOY"]
    with pytest.raises(CallFailed, match="is for api://2222"):
        KeylessIdentity(BROKER, WORKLOAD, source).proof()
    assert named.audiences == {BROKER, "api://2222"}


def test_a_token_for_the_broker_goes_nowhere_else_whoever_changes_the_address(
    platform: TokenService, tmp_path: Path
) -> None:
    # given a job whose BROKER_URL somebody has changed to a place of theirs
    (tmp_path / "token").write_text(token(BROKER))
    file = keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")})
    with Client(read(file, broker=platform.url)) as misled, pytest.raises(CallFailed, match="Nothing was sent"):
        misled.token()
    # then they get nothing, nor by an audience that the file names
    assert platform.asked == []
    other = keyless(tmp_path / "other.json", {"file": str(tmp_path / "token")}, audience=BROKER)
    with pytest.raises(IdentityUnusable, match="names an `audience`"):
        read(other, broker=platform.url)


@pytest.mark.parametrize(
    ("code", "status", "transient"),
    [("wrong_audience", 401, False), ("token_used", 401, False), ("invalid_client", 401, False)],
)
def test_what_the_broker_says_is_told_with_its_code(
    platform: TokenService, tmp_path: Path, code: str, status: int, transient: bool
) -> None:
    platform.gives("/oauth/token", refused(code, status))
    (tmp_path / "token").write_text(token(platform.url))
    file = keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")}, platform.url)
    with Client(read(file)) as client, pytest.raises(CallFailed) as failed:
        client.token()
    assert (failed.value.code, failed.value.transient) == (code, transient)
    assert CANARY not in f"{failed.value!r} {failed.value.problem}"


def test_a_revoked_job_has_lost_its_access_and_an_issuer_that_is_away_is_tried_again(
    platform: TokenService, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(token(platform.url))
    file = keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")}, platform.url)
    with Client(read(file)) as client:
        platform.gives("/oauth/token", refused("workload_revoked"))
        with pytest.raises(AccessEnded):
            client.token()
        problem = {"type": "urn:keybroker:problem:issuer_unreachable", "code": "issuer_unreachable", "detail": "Away."}
        platform.gives("/oauth/token", lambda _asked: told(problem, 503, **{"retry-after": "7"}))
        with pytest.raises(CallFailed, match="Away") as failed:
            client.token()
    assert (failed.value.code, failed.value.transient, failed.value.retry_after) == ("issuer_unreachable", True, 7)


def test_nothing_of_a_job_without_a_key_shows_its_token(tmp_path: Path) -> None:
    environment = {"BROKER_ID_TOKEN": token(), "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY, "IDENTITY_HEADER": CANARY}
    for source in ("", "github", "azure", "gcp", "env:BROKER_ID_TOKEN"):
        who = identity(broker=BROKER, workload=WORKLOAD, token_from=source, environment=environment)
        assert CANARY not in f"{who!r} {who} {who.source!r}"


def test_no_log_has_a_platforms_token(platform: TokenService, caplog: pytest.LogCaptureFixture) -> None:
    # given a program that logs all that its libraries say
    caplog.set_level(logging.DEBUG)
    platform.gives("/github", lambda asked: told({"value": token(asked.query["audience"])}))
    environment = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{platform.url}/github",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY,
    }
    # when it proves itself, and is refused
    with Client(identity(broker=platform.url, workload=WORKLOAD, environment=environment)) as client:
        client.token()
    platform.gives("/oauth/token", refused("token_used"))
    with (
        Client(identity(broker=platform.url, workload=WORKLOAD, environment=environment)) as client,
        pytest.raises(CallFailed),
    ):
        client.token()
    # then nothing of it stands there, nor what asks for others
    assert "/oauth/token" in caplog.text
    assert CANARY not in caplog.text
    assert token(platform.url).split(".")[1] not in caplog.text


def test_a_file_without_a_key_holds_no_secret_but_says_where_to_send_one(tmp_path: Path) -> None:
    file = keyless(tmp_path / "job.json", {"env": "DEPLOY"})
    file.chmod(0o644)
    assert read(file).client_id == WORKLOAD
    file.chmod(0o666)
    with pytest.raises(IdentityUnusable, match="others can read it or write to it"):
        read(file)
    with_key = tmp_path / "key.json"
    Identity(BROKER, WORKLOAD, generate()).write(with_key)
    with_key.chmod(0o644)
    with pytest.raises(IdentityUnusable, match="others can read it"):
        read(with_key)


def test_what_surrounds_a_job_says_who_it_is() -> None:
    environment = {"BROKER_URL": f"{BROKER}/", "BROKER_WORKLOAD": WORKLOAD, "BROKER_ID_TOKEN": token()}
    who = identity(environment=environment)
    assert (who.broker, who.client_id, who.audiences) == (BROKER, WORKLOAD, frozenset({BROKER}))
    assert who.proof()["client_assertion"] == token()
    assert who.withheld == {"BROKER_ID_TOKEN"}


@pytest.mark.parametrize(
    ("environment", "options", "why"),
    [
        ({"BROKER_WORKLOAD": WORKLOAD}, {}, "BROKER_URL: set it to the broker's address"),
        ({"BROKER_URL": "keys.vendor.example", "BROKER_WORKLOAD": WORKLOAD}, {}, "BROKER_URL: set it"),
        ({"BROKER_URL": BROKER}, {}, "--workload wkl_…, or BROKER_WORKLOAD"),
        ({"BROKER_URL": BROKER, "BROKER_WORKLOAD": "nightly"}, {}, "--workload wkl_…, or BROKER_WORKLOAD"),
        ({"BROKER_URL": BROKER, "BROKER_WORKLOAD": WORKLOAD}, {"token_from": "vault"}, "--token-from: the source"),
        ({"BROKER_URL": BROKER, "BROKER_WORKLOAD": WORKLOAD}, {"audience": "a\nb"}, "--audience"),
    ],
)
def test_what_is_not_named_is_asked_for(environment: dict[str, str], options: dict[str, str], why: str) -> None:
    with pytest.raises(IdentityUnusable, match=why):
        identity(environment=environment, **options)


def test_a_program_says_that_its_platform_proves_it(platform: TokenService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY", token(platform.url))
    with Client.ambient(WORKLOAD, broker=platform.url, token_from="env:DEPLOY") as client:
        assert client.token()
    monkeypatch.setenv("BROKER_URL", platform.url)
    monkeypatch.setenv("BROKER_WORKLOAD", WORKLOAD)
    monkeypatch.setenv("BROKER_ID_TOKEN", os.environ["DEPLOY"])
    with Client.ambient() as client:
        assert client.token()
    assert [form["client_id"] for form in platform.exchanged] == [WORKLOAD, WORKLOAD]


def test_an_error_says_who_named_the_address(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "token").write_text(token(nowhere))
    source = f"file:{tmp_path / 'token'}"
    with (
        Client(identity(broker=nowhere, workload=WORKLOAD, token_from=source)) as client,
        pytest.raises(CallFailed, match="The address is BROKER_URL's"),
    ):
        client.token()
    file = keyless(tmp_path / "job.json", {"file": str(tmp_path / "token")}, nowhere)
    with Client(read(file)) as client, pytest.raises(CallFailed, match="The address is the identity file's"):
        client.token()


def test_the_environment_names_a_file_without_a_key_as_it_does_any(tmp_path: Path) -> None:
    file = keyless(tmp_path / "job.json", {"github": True})
    assert isinstance(from_environment({"BROKER_IDENTITY": str(file)}), KeylessIdentity)
