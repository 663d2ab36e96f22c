"""Several brokers: an account each, under a name; who one is there, and how one leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_account import Listener, listener
from tests.cli.test_commands import CliBench, CliRunner, bench
from tests.cli.test_getting_back_in import beside_the_broker
from tests.support.commands import MINIMAL

__all__ = ["bench", "listener"]

ACME, GLOBEX = "kbo_" + "a" * 49, "kbo_" + "g" * 49


def keep(home: Path, name: str, url: str, token: str) -> Path:
    """Somebody's stored account, as `broker login` writes it."""
    folder = home / "keybroker"
    file = folder / "account.json" if name == "default" else folder / "accounts" / f"{name}.json"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.write_text(json.dumps({"url": url, "token": token}))
    file.chmod(0o600)
    return file


@pytest.fixture
def shell(tmp_path: Path) -> CliRunner:
    return CliRunner({**MINIMAL, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}, tmp_path)


@pytest.fixture
def two(shell: CliRunner, listener: Listener) -> CliRunner:
    """A shell of somebody with an account at two brokers, of which both addresses are the listener's."""
    keep(shell.directory, "default", listener.url, ACME)
    keep(shell.directory, "globex", listener.url, GLOBEX)
    return shell


def beside(shell: CliRunner, **more: str) -> CliRunner:
    return CliRunner({**shell.environment, **more}, shell.directory)


def test_the_profile_that_a_command_names_counts_before_the_environments_and_that_before_the_used_one(
    two: CliRunner, listener: Listener
) -> None:
    two.run("org", "list")
    two.run("--profile", "globex", "org", "list")
    two.run("org", "list", "--profile", "globex")
    beside(two, BROKER_PROFILE="globex").run("org", "list")
    two.run("profile", "use", "globex")
    two.run("org", "list")
    beside(two, BROKER_PROFILE="default").run("org", "list")
    beside(two, BROKER_PROFILE="globex").run("org", "list", "--profile", "default")
    asked = [ACME, GLOBEX, GLOBEX, GLOBEX, GLOBEX, ACME, ACME]
    assert listener.tokens == [f"Bearer {token}" for token in asked]


def test_profiles_are_listed_with_their_brokers_never_with_a_token(two: CliRunner, listener: Listener) -> None:
    two.run("profile", "use", "globex")
    assert two.json("profile", "list") == [
        {"profile": "default", "broker": listener.url, "in_use": False},
        {"profile": "globex", "broker": listener.url, "in_use": True},
    ]
    assert "kbo_" not in two.run("profile", "list")


def test_a_removed_profile_is_used_no_more(two: CliRunner, listener: Listener) -> None:
    two.run("profile", "use", "globex")
    two.run("profile", "remove", "globex")
    assert [row["profile"] for row in two.json("profile", "list")] == ["default"]
    two.run("org", "list")
    assert listener.tokens == [f"Bearer {ACME}"]
    for words in (("use", "globex"), ("remove", "globex")):
        assert "There is: default" in two.run("profile", *words, status=1)


def test_a_profile_that_is_missing_sends_nothing_anywhere(two: CliRunner, listener: Listener) -> None:
    said = two.run("org", "list", "--profile", "acme", status=1)
    assert "`broker login --profile acme` makes it" in said
    # nor is the token of a new one sent to the default address
    assert "BROKER_URL" in two.run("login", "--profile", "acme", given=ACME, status=1)
    assert listener.tokens == []


def test_a_token_goes_to_its_profiles_broker_alone(two: CliRunner, listener: Listener) -> None:
    keep(two.directory, "away", "https://keys.vendor.example", GLOBEX)
    elsewhere = beside(two, BROKER_URL=listener.url)
    assert "doesn't get it" in elsewhere.run("org", "list", "--profile", "away", status=1)
    named = beside(two, BROKER_TOKEN="kbo_named")
    assert "leave one of them out" in named.run("org", "list", "--profile", "globex", status=1)
    assert listener.tokens == []


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "ü", "x" * 65, "a\nb"])
def test_a_profiles_name_leads_nowhere_else(two: CliRunner, name: str) -> None:
    assert "a profile's name has letters" in two.run("org", "list", "--profile", name, status=2).replace("\n", " ")
    assert "a profile's name has letters" in beside(two, BROKER_PROFILE=name).run("org", "list", status=1)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"url": 1, "token": 2}', b'{"url": "http://x"}', b"\xff", b"[" * 100_000]
)
def test_a_broken_account_is_named(two: CliRunner, content: bytes) -> None:
    file = keep(two.directory, "globex", "", "")
    file.write_bytes(content)
    said = two.run("org", "list", "--profile", "globex", status=1)
    assert f"{file}: is not an account" in said
    assert "is not an account" in json.dumps(two.json("profile", "list"))
    two.run("logout", "--profile", "globex")
    assert not file.exists()


def test_what_names_the_used_profile_is_nobody_elses(two: CliRunner) -> None:
    two.run("profile", "use", "globex")
    file = two.directory / "keybroker/profile"
    file.chmod(0o666)
    assert f"chmod 600 {file}" in two.run("org", "list", status=1)


@beside_the_broker
def test_every_command_that_keeps_an_account_keeps_it_in_the_profile(bench: CliBench) -> None:
    shell, url = bench.shell, bench.shell.environment["BROKER_URL"]
    folder = shell.directory / ".config/keybroker"
    shell.run("operator", "bootstrap", "--name", "ada", "--profile", "acme", given=bench.bootstrap)
    file = folder / "accounts/acme.json"
    first = json.loads(file.read_text())
    assert first["url"] == url
    link = shell.json("--profile", "acme", "operator", "link", shell.json("--profile", "acme", "whoami")["id"])["link"]
    shell.run("--profile", "acme", "login", given=link)
    second = json.loads(file.read_text())["token"]
    assert second != first["token"]
    beside(shell, BROKER_PROFILE="other").run("login", given=second)
    assert json.loads((folder / "accounts/other.json").read_text()) == {"url": url, "token": second}
    assert not (folder / "account.json").exists()
    assert [row["profile"] for row in shell.json("profile", "list")] == ["acme", "other"]


@beside_the_broker
def test_who_one_is_and_where_the_token_is_from(bench: CliBench) -> None:
    shell, url = bench.shell, bench.shell.environment["BROKER_URL"]
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    me = shell.json("whoami")
    assert (me["name"], me["roles"], me["organizations"]) == ("ada", ["admin"], None)
    assert (me["broker"], me["profile"], me["token_from"]) == (url, "default", "profile")
    said = shell.run("whoami")
    assert all(word in said for word in ("ada", "admin", url, "profile default", me["session"]["ends_at"][:10]))
    token = json.loads((shell.directory / ".config/keybroker/account.json").read_text())["token"]
    given = beside(shell, BROKER_TOKEN=token, XDG_CONFIG_HOME="/proc/nowhere")
    me = given.json("whoami")
    assert (me["profile"], me["token_from"]) == (None, "BROKER_TOKEN")
    assert token not in said + given.run("whoami")


@beside_the_broker
def test_who_logs_out_is_signed_out_and_a_machine_is_told_how_long_its_token_works(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    machine = shell.json("operator", "token", "night", "--role", "security", "--days", "7")
    file = shell.directory / ".config/keybroker/account.json"
    kept, me = file.read_bytes(), shell.json("whoami")
    assert "Signed out" in shell.run("logout")
    assert not file.exists()
    assert "There is no account in the profile default" in shell.run("logout", status=1)
    file.write_bytes(kept)
    file.chmod(0o600)
    assert "`broker login`" in shell.run("org", "list", status=1), "a copy of the token is of no use"
    shell.run("login", given=machine["token"])
    said = shell.run("logout")
    assert f"works until {machine['expires_at']}" in said
    assert f"`broker operator revoke {machine['id']}`" in said
    assert me["id"] != machine["id"]


@beside_the_broker
def test_one_ends_other_sessions_and_sees_ones_own(bench: CliBench) -> None:
    shell = bench.shell
    made = shell.json("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    shell.run("login", "--profile", "second", given=made["link"])
    listed = shell.json("session", "list")
    assert [one["present"] for one in listed] == [True, False]
    assert shell.json("session", "end-others")["ended"] == 1
    assert "`broker login`" in shell.run("--profile", "second", "whoami", status=1)
    assert shell.json("session", "end", listed[0]["id"])["id"] == listed[0]["id"]
    assert "`broker login`" in shell.run("whoami", status=1)


def test_one_logs_out_where_the_broker_is_away_too(shell: CliRunner) -> None:
    file = keep(shell.directory, "default", "http://127.0.0.1:1", ACME)
    assert "works until it ends" in shell.run("logout")
    assert not file.exists()


@pytest.mark.parametrize("words", [("--version",), ("version",)])
def test_the_version_is_told(shell: CliRunner, words: tuple[str, ...]) -> None:
    name, number = shell.run(*words).split()
    assert name == "keybroker"
    assert shell.json("version") == {"version": number}
