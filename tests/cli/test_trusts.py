"""``broker issuer`` and ``broker trust``: from a platform's token to a job without a key."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from broker.cli.verdict import lines
from broker.issuers import files
from broker.issuers.presets import PRESETS
from broker.sandbox.serve import running as serving
from tests.cli.test_commands import CliRunner, shell_beside
from tests.cli.test_tables import Terminal, terminal
from tests.issuers.shapes import SHAPES, Shape
from tests.support.commands import run
from tests.support.issuer import fake_issuer, pair, signed
from tests.support.platform import ACTIONS, CLUSTER, Platform, platform
from tests.support.processes import free_port
from tests.support.world import running_world, settings_for, upstream

__all__ = ["terminal"]

_CLAIMS = ("--namespace", "sync", "--serviceaccount", "nightly")


@dataclass
class Beside:
    """An admin's shell beside a broker that takes the tokens of two platforms."""

    shell: CliRunner
    there: Platform
    url: str

    def pod_token(self, **more: Any) -> str:
        return self.there.pod_token(**{"aud": [self.url], **more})

    def run_token(self, **more: Any) -> str:
        return self.there.run_token(**{"aud": self.url, **more})

    def keep(self, token: str, name: str = "token.jwt") -> str:
        """A file with a token."""
        (self.shell.directory / name).write_text(f"{token}\n")
        return name

    def said(self, *words: str, answer: str = "") -> tuple[int, str]:
        """How a command ends, and what it says, for somebody at a terminal who answers so."""
        done = run(
            *words,
            environment=self.shell.environment,
            directory=self.shell.directory,
            given=answer.encode() + b"\n",
            typed=True,
        )
        return done.returncode, done.stdout.decode() + done.stderr.decode()


@pytest.fixture
async def bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Beside]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with platform(tmp_path, sqlite_url, public_url=url) as there, serving(there.world.edge, port=port):
        shell = shell_beside(url, tmp_path)
        shell.environment["BROKER_TOKEN"] = there.world.admin["Authorization"].removeprefix("Bearer ")
        yield Beside(shell, there, url)


async def test_a_job_without_a_key_from_its_first_command_to_its_last(bench: Beside) -> None:
    shell = bench.shell

    def before() -> str:
        made = shell.json("workload", "add", "nightly-sync", "--keyless")
        assert not list(shell.directory.glob("*.json")), "there is nothing to keep"
        assert set(made) == {"id", "name"}
        assert "--keyless" in shell.run("workload", "add", "x", "--keyless", "--key-out", "x.json", status=2)
        assert "exists already" in shell.run("workload", "add", "nightly-sync", "--keyless", status=5)
        trust = shell.json("trust", "add", "nightly-sync", "--issuer", CLUSTER, *_CLAIMS, "--note", "the pod")
        assert trust["claims"] == {"namespace": ["sync"], "serviceaccount": ["nightly"]}
        (listed,) = shell.json("workload", "list")
        assert (listed["key_ids"], listed["trusts"]) == ([], 1)
        assert "1 trust" in shell.run("workload", "list")
        (found,) = shell.json("trust", "list", "--workload", "nightly-sync")
        assert shell.json("trust", "show", trust["id"]) == found == trust
        assert "namespace=sync, serviceaccount=nightly" in shell.run("trust", "list")
        return str(made["id"])

    job = await asyncio.to_thread(before)
    assert (await bench.there.exchange(job, bench.pod_token())).status_code == 200

    def after() -> None:
        (trust,) = shell.json("trust", "list", "--state", "active")
        assert shell.json("trust", "revoke", trust["id"], "--reason", "over")["state"] == "revoked"
        assert shell.json("trust", "list", "--state", "active") == []
        assert "revoked" in shell.run("trust", "show", trust["id"])

    await asyncio.to_thread(after)
    assert (await bench.there.exchange(job, bench.pod_token())).status_code == 401


async def test_what_a_platform_lacks_or_a_trust_needs_is_named(bench: Beside) -> None:
    def act() -> None:
        shell = bench.shell
        shell.run("workload", "add", "sync", "--keyless")
        add = partial(shell.run, "trust", "add", "sync", "--issuer")
        assert "bind serviceaccount" in add(CLUSTER, "--namespace", "sync", status=1)
        unknown = add(CLUSTER, *_CLAIMS, "--repository-id", "1", status=2)
        assert "repository_id: Kubernetes has no such claim; take one of namespace, serviceaccount" in unknown
        assert "no such claim" in add(CLUSTER, "--claim", "sub=x", status=2)
        assert "write NAME=VALUE" in add(CLUSTER, "--claim", "namespace", status=2)
        assert "broker issuer list" in add("nobody", *_CLAIMS, status=4)
        assert "--expiring" in shell.run("trust", "list", "--expiring", "soon", status=2)
        made = shell.json(
            *("trust", "add", "sync", "--issuer", ACTIONS, "--claim", "repository-id=1", "--repository-owner-id", "2"),
            *("--claim", "environment=prod", "--environment", "test", "--from", "203.0.113.0/24"),
            *("--expires", "2099-01-01T00:00:00Z"),
        )
        assert made["claims"] == {"repository_id": ["1"], "repository_owner_id": ["2"], "environment": ["prod", "test"]}
        assert (made["networks"], made["expires_at"]) == (["203.0.113.0/24"], "2099-01-01T00:00:00.000Z")
        assert [one["id"] for one in shell.json("trust", "list", "--issuer", ACTIONS)] == [made["id"]]
        assert shell.json("trust", "list", "--expiring", "30d") == []
        warned = shell.hinted(
            *("trust", "add", "sync", "--issuer", ACTIONS, "--repository-id", "1", "--repository-owner-id", "2"),
            *("--workflow", "acme/*"),
        )
        assert "workflow: `acme/*` is taken as it stands; there are no patterns." in warned

    await asyncio.to_thread(act)


async def test_a_trust_is_proposed_from_a_token_that_stays_where_it_is(bench: Beside) -> None:
    def act() -> None:
        shell, token = bench.shell, bench.run_token()
        shell.run("workload", "add", "sync", "--keyless")
        words = ("trust", "add", "sync", "--issuer", ACTIONS, "--from-token", bench.keep(token))
        # it is shown, and nothing is done without a yes
        status, said = bench.said(*words, answer="n")
        assert (status, "Nothing was changed." in said) == (1, True)
        for shown in ("* repository_id", "* repository_owner_id", "* environment", "  event", "schedule"):
            assert shown in said, said
        assert "Add --yes" in shell.run(*words, status=2)
        assert shell.json("trust", "list") == []
        # with one it is made, and an option goes before what the token shows
        made = shell.json(*words, "--yes", "--environment", "test")
        assert made["claims"] == {
            "repository_id": ["456789"],
            "repository_owner_id": ["123456"],
            "environment": ["test"],
        }
        assert bench.said(*words, answer="y")[0] == 0
        piped = shell.json("trust", "add", "sync", "--issuer", ACTIONS, "--from-token", "-", "--yes", given=token)
        assert piped["claims"]["environment"] == ["prod"]
        # and the broker never saw it
        everything = said + shell.hinted(*words, "--yes") + shell.run("audit", "search", "--json")
        assert all(part not in everything for part in token.split("."))

    await asyncio.to_thread(act)


def declared(folder: Path, shape: Shape) -> str:
    """The id of a platform token's issuer, which is declared if it doesn't come with the broker."""
    bundled = {one.issuer: one.id for one in files.load()}
    issuer = shape.claims.get("iss", "spiffe://prod.vendor.example")
    if issuer not in bundled:
        folder.mkdir(exist_ok=True)
        text = f'id = "its-{shape.preset}"\nversion = 1\npreset = "{shape.preset}"\nissuer = "{issuer}"\n'
        keys = '[keys]\nfrom = "url"\nurl = "https://bundle.vendor.example/"' if shape.preset == "spiffe" else ""
        (folder / f"{shape.preset}.toml").write_text(text + keys)
    return bundled.get(issuer, f"its-{shape.preset}")


async def test_every_platforms_token_proposes_a_trust_that_takes_it_and_every_claim_is_an_option(
    tmp_path: Path, sqlite_url: str
) -> None:
    port, folder = free_port(), tmp_path / "issuers"
    issuers = {shape.preset: declared(folder, shape) for shape in SHAPES}
    async with upstream() as (state, upstream_url):
        settings = settings_for(
            tmp_path, sqlite_url, upstream_url, issuers_dir=folder, public_url=f"http://127.0.0.1:{port}"
        )
        async with running_world(settings, state, upstream_url) as world, serving(world.edge, port=port):
            shell = shell_beside(settings.public_url, tmp_path)
            shell.environment["BROKER_TOKEN"] = world.admin["Authorization"].removeprefix("Bearer ")
            key = pair("k", "P-256")

            def add() -> None:
                shell.run("workload", "add", "sync", "--keyless")
                for shape in SHAPES:
                    (shell.directory / "token.jwt").write_text(signed(key, shape.claims, "ES256"))
                    words = ("trust", "add", "sync", "--issuer", issuers[shape.preset])
                    claims = shell.json(*words, "--from-token", "token.jwt", "--yes")["claims"]
                    preset = PRESETS[shape.preset]
                    assert preset.mismatch(claims, shape.claims) is None, shape.preset
                    assert set(claims) >= {group[0] for group in preset.required if len(group) == 1}
                    options = [
                        word
                        for claim in preset.claims
                        if (value := shape.rule.get(claim.name, claim.shown(shape.claims)))
                        for word in (f"--{claim.name.replace('_', '-')}", value[0])
                    ]
                    bound = shell.json(*words, *options)["claims"]
                    assert len(bound) == len(options) // 2, shape.preset
                    assert preset.mismatch(bound, shape.claims) is None, shape.preset

            await asyncio.to_thread(add)


async def test_a_token_that_is_no_use_says_why(bench: Beside) -> None:
    def act() -> None:
        shell = bench.shell
        shell.run("workload", "add", "sync", "--keyless")

        def of(token: str, issuer: str = ACTIONS, status: int = 1) -> str:
            named = ("trust", "add", "sync", "--issuer", issuer, "--from-token")
            return shell.run(*named, bench.keep(token), "--yes", status=status).replace("\n", " ")

        assert "three parts with dots between" in of("x.y")
        assert "there is no token" in of("").lower()
        assert bench.there.actions.url in of(bench.run_token(), CLUSTER)
        assert "bind environment or ref or workflow" in of(bench.run_token(environment=""))
        missing = shell.run("trust", "add", "sync", "--issuer", ACTIONS, "--from-token", "no.jwt", status=1)
        assert "no.jwt: can't be read" in missing
        # whoever pastes the token itself isn't shown it
        token = bench.run_token()
        pasted = shell.run("trust", "explain", "sync", "--token", token, status=1)
        assert token[:40] not in pasted
        assert "name a file" in pasted
        # and one for somebody else still shows what to bind
        words = ("trust", "add", "sync", "--issuer", ACTIONS, "--from-token")
        told = shell.hinted(*words, bench.keep(bench.run_token(aud="https://github.com/acme")), "--yes")
        assert f"needs a token for {bench.url}" in told
        assert "audience=" in told

    await asyncio.to_thread(act)


async def test_a_tokens_trial_is_printed_check_by_check(bench: Beside) -> None:
    def act() -> None:
        shell = bench.shell
        shell.run("workload", "add", "sync", "--keyless")
        trust = shell.json("trust", "add", "sync", "--issuer", CLUSTER, *_CLAIMS, "--from", "203.0.113.0/24")
        good = bench.keep(bench.pod_token())
        told = shell.run("trust", "explain", "sync", "--token", good)
        for line in ("✓ workload", "✓ signature", f"✓ {trust['id']}", "  ✓ namespace", "  - network"):
            assert f"\n{line}" in f"\n{told}", told
        assert f"A sign-in takes this token, by {trust['id']}." in told
        assert "\x1b" not in told
        other = bench.pod_token(aud=["https://elsewhere.example"], sub="system:serviceaccount:batch:nightly")
        refused = shell.run("trust", "explain", "sync", "--token", "-", "--from", "198.51.100.1", given=other)
        for line in ("✗ audience", "expected http://127.0.0.1", "projected volume", "  ✗ network", "  ✗ kubernetes"):
            assert line in refused, refused
        assert refused.endswith("A sign-in refuses this token.\n")
        machine = shell.json("trust", "explain", "sync", "--token", good)
        assert (machine["accepted"], machine["trust"]) == (True, trust["id"])
        assert {"check", "passed", "presented", "expected", "code", "fix"} == set(machine["checks"][0])

    await asyncio.to_thread(act)


def test_a_trial_fits_a_terminal_of_80_columns(terminal: Callable[[int], Terminal]) -> None:
    seen = terminal(80)
    words = "The token is for another audience; ask your platform for one with a projected volume. " * 3
    check = {
        "check": "environment_protected",
        "presented": "x" * 30,
        "expected": "y z " * 40,
        "fix": words,
        "code": "c",
    }
    found = {
        "accepted": False,
        "trust": "",
        "checks": [{**check, "passed": passed} for passed in (True, False, None)],
        "trusts": [{"trust": "trs_" + "0" * 32, "takes": False, "checks": [{**check, "passed": False}]}],
    }
    text = [line for line, _ in lines(found)]
    assert max(map(cell_len, text)) <= 80
    assert len([line for line in text if line.strip().startswith("✗")]) == 3
    # what stands below a check begins where its own text does
    first = text.index(next(line for line in text if line.startswith("✗")))
    assert re.match(r" {27}expected y z", text[first + 1]), text[first + 1]
    assert seen.getvalue() == ""


async def test_issuers_are_listed_refreshed_suspended_and_resumed(bench: Beside) -> None:
    def act() -> None:
        shell = bench.shell
        listed = {one["id"]: one["state"] for one in shell.json("issuer", "list")}
        assert (listed[CLUSTER], "github-actions" in listed) == ("active", True)
        assert "environment or ref or workflow" in shell.run("issuer", "show", ACTIONS)
        assert shell.json("issuer", "refresh", CLUSTER)["answered_at"] is not None
        assert "environment or ref or workflow" in shell.run("issuer", "resume", ACTIONS)
        asked = shell.run("issuer", "suspend", CLUSTER, status=2)
        assert "Cutting off what tokens of" in asked
        assert "until `broker issuer resume`. Add --yes" in asked
        assert shell.json("issuer", "suspend", CLUSTER, "--reason", "stolen", "--yes")["state"] == "suspended"
        assert "suspended" in shell.run("issuer", "list")
        assert shell.json("issuer", "resume", CLUSTER, "--reason", "found")["state"] == "active"
        assert "broker issuer list" in shell.run("issuer", "show", "nobody", status=4)

    await asyncio.to_thread(act)


@pytest.fixture
def shell(tmp_path: Path) -> CliRunner:
    return shell_beside("http://127.0.0.1:1", tmp_path)


async def test_an_issuers_file_is_written_once_the_issuer_was_asked(shell: CliRunner) -> None:
    async with fake_issuer() as issuer:
        issuer.keys = [pair("k1"), pair("k2")]

        def act() -> None:
            words = ("issuer", "add", "kubernetes", "--id", "prod-cluster", "--issuer", issuer.url, "--private")
            printed = shell.run(*words)
            assert f'issuer = "{issuer.url}"' in printed
            hinted = shell.hinted(*words, "--out", "prod-cluster.toml")
            assert "its keys are there: k1, k2" in hinted
            assert "BROKER_ISSUERS_DIR" in hinted
            assert (shell.directory / "prod-cluster.toml").read_text() == printed
            assert "exists already" in shell.run(*words, "--out", "prod-cluster.toml", status=5)
            assert "is valid, and its keys are there: k1, k2" in shell.run("issuer", "check", "prod-cluster.toml")
            valid = shell.json("issuer", "check", "prod-cluster.toml")
            assert (valid["valid"], valid["id"], valid["keys"]) == (True, "prod-cluster", ["k1", "k2"])
            machine = shell.json(*words)
            assert (machine["toml"], machine["file"], machine["keys"]) == (printed, None, ["k1", "k2"])

        await asyncio.to_thread(act)
        issuer.metadata["issuer"] = f"{issuer.url}/"

        def wrong() -> None:
            said = shell.run("issuer", "check", "prod-cluster.toml", status=1)
            assert "keys: they can't be had from here: it calls itself something else" in said
            assert "--offline" in said
            assert "is valid." in shell.run("issuer", "check", "prod-cluster.toml", "--offline")

        await asyncio.to_thread(wrong)


def test_an_issuer_whom_nobody_can_ask_is_declared_by_a_file_of_its_keys(shell: CliRunner) -> None:
    keys = {"keys": [pair("k1").as_dict(private=False)]}
    (shell.directory / "exported").mkdir()
    (shell.directory / "exported/cluster.jwks").write_text(json.dumps(keys))
    words = ("issuer", "add", "kubernetes", "--id", "inner", "--issuer", "https://kubernetes.default.svc")
    told = shell.hinted(*words, "--jwks", "exported/cluster.jwks", "--out", "exported/inner.toml")
    assert "exported/cluster.jwks beside it" in told
    assert 'file = "cluster.jwks"' in (shell.directory / "exported/inner.toml").read_text()
    assert shell.json("issuer", "check", "exported/inner.toml")["keys"] == ["k1"]
    mesh = ("issuer", "add", "spiffe", "--id", "mesh", "--issuer", "spiffe://prod.vendor.example", "--offline")
    assert 'from = "url"' in shell.run(*mesh, "--keys-url", "https://bundle.vendor.example/keys")
    assert "name where the bundle is" in shell.run(*mesh, status=1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id = ", "is not TOML"),
        ('id = "A"\nversion = 1\npreset = "oidc"\nissuer = "https://x.example"', "one.toml: id: "),
        ('id = "a"\nversion = 1\npreset = "cloud"\nissuer = "https://x.example"', "preset: is none of kubernetes"),
        ('id = "a"\nversion = 1\npreset = "oidc"\nissuer = "http://x.example"', "must begin with https://"),
        ('id = "a"\nversion = 1\npreset = "oidc"\nissuer = "https://gitlab.com"', 'must be "gitlab" for this issuer'),
    ],
)
def test_a_file_that_declares_nothing_is_refused_with_field_and_fix(shell: CliRunner, text: str, says: str) -> None:
    (shell.directory / "one.toml").write_text(text)
    assert says in shell.run("issuer", "check", "one.toml", "--offline", status=1)
    refused = run(
        *("issuer", "check", "one.toml", "--offline", "--json"),
        environment=shell.environment,
        directory=shell.directory,
    )
    found = json.loads(refused.stdout)
    assert (refused.returncode, found["valid"]) == (1, False)
    assert any(says in fault for fault in found["faults"])


def test_a_file_that_is_not_there_is_named(shell: CliRunner) -> None:
    assert "nowhere.toml: No such file" in shell.run("issuer", "check", "nowhere.toml", status=1)
