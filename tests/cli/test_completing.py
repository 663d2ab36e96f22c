"""What a TAB offers for values: the broker's names, what words there are, and never an error."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from broker.base.validity import Validity
from broker.cli import TABLE, build
from broker.cli.completing import VALUES
from broker.credentials.lifecycle import State
from broker.credentials.rotation_lifecycle import RotationState
from broker.formats.identity_file import SOURCES, Detail
from broker.grants.shown import GrantState
from broker.identity.principal import Role
from broker.issuers.presets import PRESETS
from broker.leases.attention import Selection
from broker.leases.listing import LeaseState
from broker.notifications.lifecycle import DeliveryState, WebhookState
from broker.reviews.commands import Decision
from broker.reviews.shown import ReviewState
from tests.cli.test_account import Asked, Listener, listener
from tests.cli.test_commands import CliBench, CliRunner, bench
from tests.cli.test_getting_back_in import beside_the_broker
from tests.support.commands import MINIMAL, run

__all__ = ["bench", "listener"]

# What people make up, numbers, times and files: the shell knows the files itself.
FREE = {
    *("--actor", "--allow", "--contact", "--for", "--found-by", "--from", "--keep-env", "--name", "--note", "--proxy"),
    *("--purpose", "--rate", "--reason", "--reveal", "--token-env", "--url-env", "--variable", "--where", "slug"),
    *("--deadline-hours", "--grace-minutes", "--hours", "--limit", "--max-age-days", "--max-ttl", "--max-uses"),
    *("--overlap-hours", "--rotation-days", "--ttl", "--version", "--expires", "--since", "--until", "--to"),
    *("--overlap-hours", "--rotation-days", "--ttl", "--version", "--expires", "--since", "--until", "--request"),
    *("--identity", "--key-out", "--out", "--providers", "command", "file", "path", "name"),
    *("--checkpoint", "--days", "--key", "--serial", "--skew", "--subject", "event_id", "saved"),
    *("--audience", "--days", "--path", "--checkpoint", "--key", "--serial", "--skew", "event_id", "saved"),
    *("--days", "--path", "--checkpoint", "--key", "--serial", "--skew", "event_id", "saved"),
    *("--id", "--audience", "--jwks", "--keys-url", "--host", "--ca-file", "--bearer-file"),
    *("--expiring", "--token", "--from-token"),
    *(f"--{claim.name.replace('_', '-')}" for preset in PRESETS.values() for claim in preset.claims),
}


def tab(shell: CliRunner, line: str, **more: str) -> list[str]:
    """What bash is told at the end of a line."""
    asked = {"_BROKER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = run(environment={**shell.environment, **asked, **more}, directory=shell.directory)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().split()


def parameters() -> Iterator[tuple[str, Any]]:
    """Every option that takes a value, and every argument, with the command's first word."""

    def walk(command: Any, group: str) -> Iterator[tuple[str, Any]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, group or name)
        for parameter in command.params:
            if not getattr(parameter, "is_flag", False):
                yield group, parameter

    for group, parameter in walk(get_command(build()), ""):
        if group and not TABLE[group].server:
            yield group, parameter


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("--role", Role),
        ("key --only", Selection),
        ("key --state", State),
        ("rotation --state", RotationState),
        ("grant --state", GrantState),
        ("lease --state", LeaseState),
        ("notice --state", DeliveryState),
        ("webhook --state", WebhookState),
        ("org --state", Validity),
        ("review --state", ReviewState),
        ("review --decision", Decision),
        ("workload --state", Validity),
        ("trust --state", Validity),
    ],
)
def test_the_words_are_those_that_the_broker_knows(name: str, known: Iterable[StrEnum]) -> None:
    assert sorted(VALUES[name]({}, "")) == sorted(one.value for one in known)


def test_the_sources_of_tokens_that_need_no_more_than_their_name_are_offered() -> None:
    assert set(VALUES["--token-from"]({}, "")) == {kind for kind, of in SOURCES.items() if of is not Detail.NEEDED}


def test_every_value_is_offered_or_free() -> None:
    asked = {
        (group, parameter.opts[0] if parameter.param_type_name == "option" else parameter.name)
        for group, parameter in parameters()
        if not parameter.type_descriptor.is_choice
    }
    left = {(group, name) for group, name in asked if f"{group} {name}" not in VALUES and name not in VALUES}
    assert {name for _, name in left} - FREE == set()
    assert {group for group, name in left if name in {"--state", "--kind", "--only"}} == set()
    known = {name for _, name in asked} | {f"{group} {name}" for group, name in asked}
    assert set(VALUES) - known == set(), "what no command takes any more"


@beside_the_broker
def test_the_brokers_names_are_offered_to_whoever_has_an_account(bench: CliBench) -> None:
    shell, state = bench.shell, bench.upstream
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    key = state.add_key(state.add_organization("acme"))[1]
    for slug in ("acme", "acme-power", "globex"):
        shell.run("org", "add", slug)
    names = ("--org", "acme", "--provider", "raptor-comply", "--label", "spare")
    shell.run("key", "add", *names, given=key)
    shell.run("workload", "add", "nightly")
    grant = shell.json("grant", "add", "--workload", "nightly", "--org", "acme", "--provider", "raptor-comply")[0]
    assert tab(shell, "broker key list --org ac") == ["acme", "acme-power"]
    assert tab(shell, "broker key list --org=gl") == ["globex"]
    assert tab(shell, "broker org show ") == ["acme", "acme-power", "globex"]
    assert "raptor-comply" in tab(shell, "broker key request --org acme --provider ")
    assert tab(shell, "broker key show --org acme --provider raptor-comply --label ") == ["spare"]
    assert tab(shell, "broker key show --org globex --label ") == []
    assert tab(shell, "broker grant add --workload ni") == ["nightly"]
    assert tab(shell, "broker operator link a") == ["ada"]
    assert tab(shell, "broker session list --operator a") == ["ada"]
    assert "read-only" in tab(shell, "broker grant add --provider raptor-comply --preset ")
    assert tab(shell, "broker grant revoke grt_") == [grant["id"]]
    assert tab(shell, "broker issuer show git") == ["github-actions", "gitlab-com"]
    bound = ("--repository-id", "1", "--repository-owner-id", "2", "--environment", "prod")
    trust = shell.json("trust", "add", "nightly", "--issuer", "github-actions", *bound)
    assert tab(shell, "broker trust revoke trs_") == [trust["id"]]
    assert tab(shell, "broker trust add ni") == ["nightly"]
    assert tab(shell, "broker trust add nightly --issuer goo") == ["google"]
    assert tab(shell, "broker trust add nightly --issuer google --claim ") == [
        *("sub", "project_number", "instance_id", "zone")
    ]
    assert "--repository-id" in tab(shell, "broker trust add nightly --repository")
    assert "spiffe" in tab(shell, "broker issuer add s")
    assert tab(shell, "broker issuer add oidc --id x --issuer ") == []
    # with the account of the profile that the line names
    shell.run("login", "--profile", "other", given=json.loads(account(shell).read_text())["token"])
    account(shell).unlink()
    assert tab(shell, "broker key list --org ac") == []
    assert tab(shell, "broker --profile other key list --org ac") == ["acme", "acme-power"]
    assert tab(shell, "broker key list --profile other --org ac") == ["acme", "acme-power"]
    assert tab(shell, "broker key list --profile ") == ["other"]


def account(shell: CliRunner) -> Path:
    return shell.directory / ".config/keybroker/account.json"


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"BROKER_TOKEN": "kbo_x", "BROKER_URL": "http://127.0.0.1:1"},
        {"BROKER_TOKEN": "kb\nx", "BROKER_URL": "http://127.0.0.1:1"},
        {"BROKER_TOKEN": "kbo_x", "BROKER_URL": "nonsense"},
        {"BROKER_PROFILE": "../x"},
        {"XDG_CONFIG_HOME": "/proc/nowhere"},
    ],
    ids=["no account", "nobody there", "no token", "no address", "no profile", "no folder"],
)
def test_where_nothing_is_known_nothing_is_offered_or_said(tmp_path: Path, more: dict[str, str]) -> None:
    shell = CliRunner({**MINIMAL, "HOME": str(tmp_path), **more}, tmp_path)
    assert tab(shell, "broker key list --org ") == []
    assert tab(shell, "broker key list --profile ") == []
    assert tab(shell, "broker --profile ../x key list --org ") == []


class Hostile(Asked):
    """Names that a shell reads as more than a word."""

    def do_GET(self) -> None:  # noqa: N802 - the base class names it
        names = ["good", "$(touch x)", "`x`", "a b", "a;b", "\x1b[2J", "-x", "*", "ü\u202e"]
        body = json.dumps({"items": [{"slug": name} for name in names], "next": None}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)


def test_a_name_that_a_shell_could_obey_is_not_offered(tmp_path: Path, listener: Listener) -> None:
    listener.RequestHandlerClass = Hostile
    given = {"BROKER_TOKEN": "kbo_x", "BROKER_URL": listener.url}
    shell = CliRunner({**MINIMAL, "HOME": str(tmp_path), **given}, tmp_path)
    assert tab(shell, "broker key list --org ") == ["good"]
