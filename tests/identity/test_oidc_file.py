"""The file of providers to sign in by: what is wrong in one is said at start, with the field and the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.app import running
from broker.config import SettingsUnusable
from broker.identity.oidc.providers import SignInUnusable, load
from tests.support.signing_in import sign_in_file
from tests.support.world import settings_for

ISSUER = "https://login.vendor.example"


def test_a_file_is_read_with_its_secret_beside_it(tmp_path: Path) -> None:
    (found,) = load(sign_in_file(tmp_path, ISSUER, private="false"))
    assert found.issuer == ISSUER
    assert found.secret() == "the secret of our client"
    (public,) = load(sign_in_file(tmp_path, ISSUER, client_secret_file=None))
    assert public.secret() is None
    assert load(None) == ()


FAULTS: list[tuple[dict[str, str], str]] = [
    ({"issuer": '"http://login.vendor.example"', "private": "false"}, "entra: issuer: must begin with https://"),
    ({"issuer": '"https://login.vendor.example/?x=1"'}, "entra: issuer: write it as the issuer does"),
    ({"scopes": '["profile"]'}, 'entra: scopes: must hold "openid"'),
    ({"algorithms": '["HS256"]'}, "entra: algorithms: HS256 is none of RS256"),
    ({"algorithms": '["none"]'}, "entra: algorithms: none is none of"),
    ({"parameters": '{state = "x"}'}, "entra: parameters: state is the broker's to write"),
    ({"client_secret_file": '"missing"'}, "entra: client_secret_file: No such file or directory; name a file"),
    ({"ca_file": '"client.secret"'}, "entra: ca_file: is not PEM"),
    ({"id": '"No Id"'}, "provider: number 1: id:"),
    ({"colour": '"red"'}, "provider: number 1: colour: there is no such field"),
    ({"roles_claim": "7"}, "provider: number 1: roles_claim: write a text in quotes"),
]


@pytest.mark.parametrize(("more", "said"), FAULTS)
def test_a_fault_is_named_with_file_field_and_fix(more: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(SignInUnusable) as wrong:
        load(sign_in_file(tmp_path, ISSUER, **more))
    assert str(wrong.value).startswith(str(tmp_path / "sign-in.toml"))
    assert said in str(wrong.value)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = sign_in_file(tmp_path, ISSUER)
    (tmp_path / "client.secret").chmod(0o644)
    with pytest.raises(SignInUnusable, match="chmod 600"):
        load(file)


def test_two_providers_are_not_one(tmp_path: Path) -> None:
    file = sign_in_file(tmp_path, ISSUER)
    file.write_text(file.read_text() * 2)
    with pytest.raises(SignInUnusable, match="two providers have this issuer"):
        load(file)


@pytest.mark.parametrize("text", ["", "x", "[[provider]]", "provider = 7"])
def test_a_file_that_declares_nothing_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "sign-in.toml"
    file.write_text(text)
    with pytest.raises(SignInUnusable, match=r"sign-in\.toml"):
        load(file)


async def test_a_broker_does_not_start_with_a_faulty_file(tmp_path: Path, sqlite_url: str) -> None:
    file = sign_in_file(tmp_path, ISSUER, scopes="[]")
    settings = settings_for(tmp_path, sqlite_url, "http://127.0.0.1:1", sign_in_file=file)
    with pytest.raises(SettingsUnusable, match=r"BROKER_SIGN_IN_FILE: .*scopes"):
        async with running(settings):
            pass
