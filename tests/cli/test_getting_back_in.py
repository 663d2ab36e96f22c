"""Commands of somebody who would be locked out: an account that ends, a folder that can't be written, a lost file."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from broker.client.client import Client
from broker.client.identity import Identity, generate, read
from tests.cli.test_commands import CliBench, CliRunner, bench
from tests.support.commands import MINIMAL

__all__ = ["bench"]


def beside_the_broker(test: Callable[[CliBench], None]) -> Callable[[CliBench], Awaitable[None]]:
    """Run a test in a thread: the broker serves in the tests' own loop."""

    @functools.wraps(test)
    async def run(bench: CliBench) -> None:
        await asyncio.to_thread(test, bench)

    return run


def begin(bench: CliBench, **environment: str) -> CliRunner:
    """A shell with what ``environment`` adds, whose admin is made with what the token gave."""
    return CliRunner({**bench.shell.environment, **environment}, bench.shell.directory)


def printed(said: str) -> str:
    """The token on a line of its own."""
    (token,) = [line for line in said.splitlines() if line.startswith(("kbo_", "kbs_"))]
    return token


@beside_the_broker
def test_a_one_time_token_is_not_spent_where_the_account_cannot_be_kept(bench: CliBench) -> None:
    closed = begin(bench, XDG_CONFIG_HOME="/proc/nowhere")
    refused = closed.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap, status=1)
    assert "Nothing was sent" in refused
    assert "--print" in refused
    # the same token works, and what it gave is printed
    said = closed.run("operator", "bootstrap", "--name", "ada", "--print", given=bench.bootstrap)
    used = begin(bench, BROKER_TOKEN=printed(said))
    assert used.json("operator", "list")[0]["name"] == "ada"


@beside_the_broker
def test_a_machine_renews_its_own_token(bench: CliBench) -> None:
    bench.shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    first = bench.shell.json("operator", "token", "night", "--role", "admin")["token"]
    account = bench.shell.directory / ".config/keybroker/account.json"
    assert "`broker login`" in bench.shell.run("operator", "renew", status=5), "a person has no token to renew"
    bench.shell.run("login", given=first)
    assert "You are night (admin), until 20" in bench.shell.run("operator", "renew")
    second = json.loads(account.read_text())["token"]
    assert second != first
    # one that came by the environment is printed, and the file is left alone
    given = begin(bench, BROKER_TOKEN=second)
    third = printed(given.run("operator", "renew"))
    assert json.loads(account.read_text())["token"] == second
    assert begin(bench, BROKER_TOKEN=third).json("operator", "list")[0]["state"] == "active"


@beside_the_broker
def test_login_says_why_the_account_is_not_kept(bench: CliBench) -> None:
    said = bench.shell.run("operator", "bootstrap", "--name", "ada", "--print", given=bench.bootstrap)
    closed = begin(bench, XDG_CONFIG_HOME="/proc/nowhere")
    assert "BROKER_TOKEN" in closed.run("login", given=printed(said), status=1)


def test_whoever_has_the_server_gives_out_a_token_at_any_time(tmp_path: Path) -> None:
    shell = CliRunner({**MINIMAL, "BROKER_STATE_DIR": str(tmp_path)}, tmp_path)
    shell.run("migrate")
    file = tmp_path / "first-admin-token"
    first = file.read_text()
    assert "broker operator bootstrap --name YOU" in shell.run("operator", "recover")
    assert file.read_text() != first
    (admins,) = [row for row in shell.json("doctor") if row["part"] == "admins"]
    assert admins["state"] == "missing"
    assert "`broker operator recover`" in admins["what"]


@beside_the_broker
def test_a_workload_is_registered_only_where_its_identity_can_be_kept(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    assert "can't be written" in shell.run("workload", "add", "ok", "--key-out", "/nonexistent/x.json", status=1)
    assert shell.json("workload", "list") == []
    # nor does a refused one leave a file
    refused = shell.run("workload", "add", "wkl_" + "0" * 32, "--key-out", "x.json", status=1)
    assert "form of an id" in refused
    assert not (shell.directory / "x.json").exists()


@beside_the_broker
def test_a_job_gets_a_new_key_pair_from_an_operator_or_by_its_own(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    made = shell.json("workload", "add", "nightly")
    file = shell.directory / "nightly.identity.json"

    def key() -> Any:
        return json.loads(file.read_text())["jwk"]["kid"]

    assert [key()] == made["key_ids"]
    by_operator = shell.json("workload", "rotate-key", "nightly")
    assert by_operator["key_ids"] == [*made["key_ids"], key()]
    by_itself = shell.json("workload", "rotate-key", "--identity", str(file), "--overlap-hours", "0")
    assert by_itself["key_ids"] == [key()]
    assert shell.json("lease", "list", "--identity", str(file)) == []
    assert not list(shell.directory.glob("*.next"))
    assert "Name the workload" in shell.run("workload", "rotate-key", status=1)


@beside_the_broker
def test_a_rotation_that_was_interrupted_goes_on_with_the_key_that_it_had_made(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    shell.run("workload", "add", "nightly")
    away = begin(bench, BROKER_URL="http://127.0.0.1:9", BROKER_TOKEN="kbo_x")
    file = shell.directory / "nightly.identity.json"
    document = json.loads(file.read_text())
    file.write_text(json.dumps({**document, "broker": "http://127.0.0.1:9"}))
    away.run("workload", "rotate-key", "--identity", str(file), status=3)
    made = json.loads((shell.directory / "nightly.identity.json.next").read_text())["jwk"]["kid"]
    file.write_text(json.dumps(document))
    assert shell.json("workload", "rotate-key", "nightly")["key_ids"][-1] == made


@beside_the_broker
def test_a_rotation_whose_answer_was_lost_goes_on_although_the_old_key_is_refused(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    shell.run("workload", "add", "nightly")
    file = shell.directory / "nightly.identity.json"
    old = read(file)
    fresh = Identity(old.broker, old.client_id, generate())
    fresh.write(file.with_name(file.name + ".next"))
    with Client(old) as job:
        job.rotate_key(fresh.public_jwk, overlap_seconds=0)
    again = ("workload", "rotate-key", "--identity", str(file), "--overlap-hours", "0")
    assert shell.json(*again)["key_ids"] == [fresh.public_jwk["kid"]]
    assert read(file) == fresh


@beside_the_broker
def test_another_jobs_file_is_not_replaced(bench: CliBench) -> None:
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap)
    for name in ("one", "two"):
        shell.run("workload", "add", name)
    other = shell.directory / "two.identity.json"
    before = other.read_bytes()
    refused = shell.run("workload", "rotate-key", "one", "--key-out", str(other), status=1)
    assert "another job's" in refused
    assert other.read_bytes() == before
