"""Where a platform has its jobs' tokens: each source asks as its platform wants, within bounds, and tells no token."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.client.errors import CallFailed
from broker.client.platform.aws import OfAws
from broker.client.platform.clouds import OfAzure, OfGoogle
from broker.client.platform.github import OfGitHub
from broker.client.platform.kept import InFile, InSpiffeFile, InVariable
from broker.client.platform.named import parsed, source
from broker.client.platform.source import TOKEN_MAX
from broker.formats.identity_file import Unreadable
from tests.client.platforms import BROKER, CANARY, Question, ServiceAnswer, TokenService, serving, token, told
from tests.support.processes import free_port

METADATA = "/computeMetadata/v1/instance/service-accounts/default/identity"
IMDS = "/metadata/identity/oauth2/token"


@pytest.fixture
def platform() -> Iterator[TokenService]:
    with serving() as made:
        yield made


def github(platform: TokenService, query: str = "?api-version=2.0") -> OfGitHub:
    return OfGitHub(
        {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{platform.url}/github{query}", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY}
    )


def google(platform: TokenService) -> OfGoogle:
    return OfGoogle({"GCE_METADATA_HOST": platform.url.removeprefix("http://")})


def failing(one: Any, audience: str = BROKER) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        one.token(audience)
    assert CANARY not in f"{failed.value!r} {failed.value} {failed.value.problem} {one!r}"
    return failed.value


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    # given a volume as kubelet makes it: a link to a folder that is exchanged in one step
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(token(sub=name) + "\n")
    data = tmp_path / "..data"
    data.symlink_to(tmp_path / "first")
    (tmp_path / "token").symlink_to(data / "token")
    one = InFile(str(tmp_path / "token"))
    assert one.token(BROKER) == token(sub="first")
    # when it is exchanged
    (tmp_path / "new").symlink_to(tmp_path / "second")
    (tmp_path / "new").replace(data)
    # then the new one is there
    assert one.token(BROKER) == token(sub="second")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "holds no JWT"),
        (CANARY.encode(), "holds no JWT"),
        (b"\xff" + token().encode(), "holds no JWT"),
        (b"a." + b"e" * TOKEN_MAX + b".c", "holds no JWT"),
        (token("https://vault.example").encode(), f"for https://vault.example.*to be for {BROKER}"),
        (token([BROKER, "https://vault.example"]).encode(), "Nothing was sent"),
        (token(f"{BROKER}/").encode(), "Nothing was sent"),
        (token(None).encode(), "is for nobody"),
    ],
)
def test_a_file_with_anything_but_a_token_for_the_broker_alone_is_sent_nowhere(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    failed = failing(InFile(str(path)))
    assert failed.code == "no_platform_token"
    assert not failed.transient
    with pytest.raises(CallFailed, match=why):
        InFile(str(path)).token(BROKER)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for a writer
    assert "is not a file" in str(failing(InFile(str(tmp_path / "pipe"))))
    assert "No such file" in str(failing(InFile(str(tmp_path / "none"))))
    assert "is not a file" in str(failing(InFile(str(tmp_path))))
    assert "its name is none" in str(failing(InFile("a\0b")))


def test_an_svid_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    # given what spiffe-helper does: it empties the file, and writes into it again
    path = tmp_path / "svid"
    svid = token([BROKER], sub="spiffe://prod.vendor.example/sync")
    written = iter(["", svid[:40], svid])
    path.write_text(next(written))
    # when the file is read at that moment

    def meanwhile(_seconds: float) -> None:
        path.write_text(next(written))

    one = InSpiffeFile(str(path), meanwhile)
    # then the whole token is taken
    assert one.token(BROKER) == svid


def test_an_svid_that_is_never_whole_is_given_up(tmp_path: Path) -> None:
    path, waits = tmp_path / "svid", list[float]()
    path.write_text(token()[:40])
    assert "holds no JWT" in str(failing(InSpiffeFile(str(path), waits.append)))
    assert sum(waits) < 1


def test_a_variable_is_read_as_it_is_now() -> None:
    environment = {"DEPLOY": token(sub="1")}
    one = InVariable("DEPLOY", environment)
    assert one.token(BROKER) == token(sub="1")
    environment["DEPLOY"] = token(sub="2")
    assert one.token(BROKER) == token(sub="2")
    environment["DEPLOY"] = ""
    assert "The variable DEPLOY is not set" in str(failing(one))
    environment["DEPLOY"] = token("https://vault.example")
    assert "in the variable DEPLOY is for https://vault.example" in str(failing(one))


def test_github_is_asked_for_each_token_with_the_audience_and_the_runners_bearer(platform: TokenService) -> None:
    platform.gives("/github", lambda asked: told({"value": token(asked.query["audience"], n=len(platform.asked))}))
    audience = "https://keys.vendor.example/a b&c=d"
    first, second = github(platform).token(audience), github(platform, "").token(audience)
    assert first != second
    assert platform.asked[0].query == {"api-version": "2.0", "audience": audience}
    assert platform.asked[0].headers["authorization"] == f"Bearer {CANARY}"


def test_a_job_that_github_gives_no_token_is_told_what_to_write() -> None:
    failed = failing(OfGitHub({}))
    assert "permissions: id-token: write" in str(failed)


def test_githubs_bearer_is_sent_nowhere_in_clear() -> None:
    one = OfGitHub({"ACTIONS_ID_TOKEN_REQUEST_URL": "http://tokens.example/", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": CANARY})
    assert "nothing was sent" in str(failing(one))


def test_google_is_asked_as_its_metadata_server_wants(platform: TokenService) -> None:
    platform.gives(METADATA, lambda asked: ServiceAnswer(token(asked.query["audience"]).encode()))
    assert google(platform).token(BROKER) == token()
    assert platform.asked[0].query == {"audience": BROKER, "format": "full"}
    assert platform.asked[0].headers["metadata-flavor"] == "Google"


def test_azures_machine_and_app_service_are_asked_each_in_its_way(platform: TokenService) -> None:
    # given a token of version 2, whose audience is the app registration's other id
    given = token("22222222-2222-2222-2222-222222222222")
    platform.gives(IMDS, lambda _asked: told({"access_token": given}))
    platform.gives("/msi/token", lambda _asked: told({"access_token": given}))
    # when a virtual machine asks, and then a program of App Service
    assert OfAzure("", {}, platform.url).token("api://2222") == given
    assert OfAzure("3333", {}, platform.url).token("api://2222") == given
    there = {"IDENTITY_ENDPOINT": f"{platform.url}/msi/token", "IDENTITY_HEADER": CANARY}
    assert OfAzure("", there).token("api://2222") == given
    # then each was asked as it wants
    machine, one_of_several, service = platform.asked
    assert machine.query == {"api-version": "2018-02-01", "resource": "api://2222"}
    assert machine.headers["metadata"] == "true"
    assert one_of_several.query["client_id"] == "3333"
    assert service.query == {"api-version": "2019-08-01", "resource": "api://2222"}
    assert service.headers["x-identity-header"] == CANARY


@pytest.mark.parametrize("url", ["http://tokens.example/msi", "http://10.0.0.1/msi", "ftp://127.0.0.1/", "nonsense"])
def test_app_services_secret_is_sent_nowhere_else_in_clear(url: str) -> None:
    assert "nothing was sent" in str(failing(OfAzure("", {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": CANARY})))


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404])
def test_a_platform_that_says_no_is_asked_once_and_its_mend_is_told(platform: TokenService, status: int) -> None:
    elsewhere = {"location": f"{platform.url}/elsewhere"}
    platform.gives("/github", lambda _asked: ServiceAnswer(CANARY.encode(), status, elsewhere))
    failed = failing(github(platform))
    assert failed.code == "no_platform_token"
    assert f"answered {status} and gave no token. Give the job `permissions: id-token: write`" in str(failed)
    assert [asked.path for asked in platform.asked] == ["/github"], "no redirect is followed"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_platform_is_asked_again(platform: TokenService, status: int) -> None:
    def busy(asked: Question) -> ServiceAnswer:
        return (
            ServiceAnswer(b"", status)
            if len(platform.asked) < 3
            else ServiceAnswer(token(asked.query["audience"]).encode())
        )

    platform.gives(METADATA, busy)
    assert google(platform).token(BROKER) == token()
    assert len(platform.asked) == 3


def test_a_platform_that_stays_away_is_worth_another_try_later(platform: TokenService) -> None:
    platform.gives(METADATA, lambda _asked: ServiceAnswer(b"", 503))
    for one in (google(platform), OfGoogle({"GCE_METADATA_HOST": f"127.0.0.1:{free_port()}"})):
        failed = failing(one)
        assert failed.code == "platform_unreachable"
        assert failed.transient
    assert len(platform.asked) == 3


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b'{"value": null}', b"[" * 50_000, CANARY.encode(), f'{{"value": "{CANARY}"}}'.encode()],
)
def test_an_answer_without_a_token_is_refused(platform: TokenService, body: bytes) -> None:
    platform.gives("/github", lambda _asked: ServiceAnswer(body))
    assert failing(github(platform)).code == "no_platform_token"


def test_an_answer_is_read_no_further_than_its_bound(platform: TokenService) -> None:
    platform.gives(METADATA, lambda _asked: ServiceAnswer(b"a" * (1 << 20)))
    assert "more than 64 KiB, which is no token" in str(failing(google(platform)))


def test_a_token_for_somebody_else_is_not_taken_from_an_answer(platform: TokenService) -> None:
    platform.gives("/github", lambda _asked: told({"value": token("https://vault.example")}))
    assert "in GitHub's answer is for https://vault.example" in str(failing(github(platform)))


def test_the_environments_proxies_see_no_question(platform: TokenService, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.gives(METADATA, lambda asked: ServiceAnswer(token(asked.query["audience"]).encode()))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert google(platform).token(BROKER) == token()


BOTO3 = """
import sys, types
class Config:
    def __init__(self, **bounds):
        assert bounds["connect_timeout"] <= 5 and bounds["read_timeout"] <= 5
class Sts:
    def get_web_identity_token(self, *, Audience, SigningAlgorithm):
        if MODE == "refused":
            raise ClientError
        if MODE == "away":
            raise ConnectTimeoutError
        if MODE == "nobody":
            raise NoCredentialsError
        assert SigningAlgorithm == "ES384"
        return {"WebIdentityToken": TOKEN(Audience[0])}
class BotoCoreError(Exception): pass
class NoRegionError(BotoCoreError): pass
class ConnectTimeoutError(BotoCoreError): pass
class NoCredentialsError(BotoCoreError): pass
class ClientError(Exception):
    response = {"Error": {"Code": "OutboundWebIdentityFederationDisabled", "Message": CANARY}}
def client(name, *, region_name, config):
    assert name == "sts"
    if region_name is None:
        raise NoRegionError
    return object() if MODE == "old" else Sts()
errors = {"BotoCoreError": BotoCoreError, "ClientError": ClientError}
for name, content in {"": {}, ".config": {"Config": Config}, ".exceptions": errors}.items():
    module = types.ModuleType("botocore" + name)
    module.__dict__.update(content)
    sys.modules["botocore" + name] = module
"""


@pytest.fixture
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What stands in for boto3, which no job but AWS's has."""

    def install(mode: str) -> None:
        says = f"MODE, CANARY = {mode!r}, {CANARY!r}\nfrom tests.client.platforms import token as TOKEN\n"
        (tmp_path / "boto3.py").write_text(says + BOTO3)

    monkeypatch.syspath_prepend(tmp_path)
    yield install
    for name in [name for name in sys.modules if name.partition(".")[0] in {"boto3", "botocore"}]:
        del sys.modules[name]


def test_aws_is_asked_by_boto3(aws: Any) -> None:
    aws("good")
    assert OfAws("eu-west-1").token(BROKER) == token()


@pytest.mark.parametrize(
    ("mode", "region", "code", "said"),
    [
        ("good", "", "no_platform_token", "set AWS_REGION, or name it: aws:eu-west-1"),
        ("old", "eu-west-1", "no_platform_token", "too old.*pip install --upgrade boto3"),
        ("refused", "eu-west-1", "no_platform_token", r"\(OutboundWebIdentityFederationDisabled\).*sts:GetWebIdentity"),
        ("nobody", "eu-west-1", "no_platform_token", "give the job one"),
        ("away", "eu-west-1", "platform_unreachable", "gave no answer"),
    ],
)
def test_what_keeps_aws_from_an_answer_is_told_with_its_mend(
    aws: Any, mode: str, region: str, code: str, said: str
) -> None:
    aws(mode)
    with pytest.raises(CallFailed, match=said):
        OfAws(region).token(BROKER)
    assert failing(OfAws(region)).code == code


def test_without_boto3_the_command_that_installs_it_is_told() -> None:
    assert "pip install --upgrade boto3" in str(failing(OfAws("eu-west-1")))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("file:/var/run/token", InFile("/var/run/token")),
        ("spiffe-file:/run/svid:1", InSpiffeFile("/run/svid:1")),
        ("env:DEPLOY", InVariable("DEPLOY", {})),
        ("github", OfGitHub({})),
        ("gcp", OfGoogle({})),
        ("azure", OfAzure("", {})),
        ("azure:3333", OfAzure("3333", {})),
        ("aws", OfAws("")),
        ("aws:eu-west-1", OfAws("eu-west-1")),
    ],
)
def test_a_source_is_named_in_one_word(text: str, kind: Any) -> None:
    assert source(parsed(text), {}) == kind


@pytest.mark.parametrize("text", ["", "file", "file:", "env:", "github:x", "gcp:x", "vault", token(), "file:a\nb"])
def test_what_is_no_source_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(Unreadable) as refused:
        parsed(text)
    assert CANARY not in str(refused.value)


def test_a_source_says_which_variables_give_its_tokens_to_others() -> None:
    named = {str(one): source(one, {}).withheld for one in map(parsed, ("env:DEPLOY", "github", "azure", "gcp", "aws"))}
    assert {name: sorted(variables) for name, variables in named.items()} == {
        "env:DEPLOY": ["DEPLOY"],
        "github": ["ACTIONS_ID_TOKEN_REQUEST_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL"],
        "azure": ["IDENTITY_ENDPOINT", "IDENTITY_HEADER"],
        "gcp": [],
        "aws": [],
    }
