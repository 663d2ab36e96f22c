"""Acts that can't be undone ask first, and say what stops and for whom."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.cli.test_commands import CliBench, bench
from tests.support.commands import run

__all__ = ["bench"]


def answered(bench: CliBench, answer: str, *words: str) -> tuple[int, str]:
    """What a command ends with and says to somebody at a terminal who answers so."""
    shell = bench.shell
    done = run(
        *words,
        environment=shell.environment,
        directory=shell.directory,
        given=answer.encode() + b"\n",
        typed=True,
    )
    return done.returncode, done.stderr.decode()


def prepared(bench: CliBench) -> dict[str, Any]:
    """acme, whose key a job leased."""
    shell = bench.shell
    shell.run("operator", "bootstrap", "--name", "ada", given=bench.bootstrap + "\n")
    shell.run("org", "add", "acme")
    key = bench.upstream.add_key(bench.upstream.add_organization("acme"))[1]
    place = ("--org", "acme", "--provider", "raptor-comply")
    added = shell.json("key", "add", *place, given=key)
    shell.run("workload", "add", "nightly")
    grant = shell.json("grant", "add", "--workload", "nightly", *place)[0]
    identity = str(shell.directory / "nightly.identity.json")
    shell.run("lease", "issue", "--identity", identity, *place)
    return {"credential": added["credential"], "grant": grant["id"]}


async def test_revoking_asks_and_names_what_stops_and_for_whom(bench: CliBench) -> None:
    def ask() -> None:
        made = prepared(bench)
        for words in (
            ("org", "revoke", "acme"),
            ("key", "revoke", made["credential"]),
            ("key", "revoke", "--org", "acme", "--provider", "raptor-comply"),
            ("workload", "revoke", "nightly"),
            ("grant", "revoke", "--all", "--org", "acme"),
        ):
            status, said = answered(bench, "n", *words)
            assert (status, "nightly" in said, "can't be undone" in said) == (1, True, True), said
            assert "Nothing was changed." in said
            # nobody can be asked
            refused = bench.shell.run(*words, status=2)
            assert "--yes" in refused
            assert "nightly" in refused
        assert "1 open lease" in answered(bench, "", "key", "revoke", made["credential"])[1]
        assert bench.shell.json("grant", "show", made["grant"])["state"] == "active"
        assert bench.shell.json("org", "show", "acme")["state"] == "active"

    await asyncio.to_thread(ask)


async def test_a_yes_does_it_and_an_exposed_key_asks_nothing(bench: CliBench) -> None:
    def act() -> None:
        made = prepared(bench)
        assert answered(bench, "y", "grant", "revoke", "--all", "--workload", "nightly")[0] == 0
        assert bench.shell.json("grant", "show", made["grant"])["state"] == "revoked"
        said = bench.shell.run("key", "exposed", made["credential"], "--found-by", "me", "--where", "a log")
        assert "is cut off" in said
        assert "asks nothing" in bench.shell.run("key", "exposed", "--help")
        assert bench.shell.json("org", "revoke", "acme", "--yes")["state"] == "revoked"

    await asyncio.to_thread(act)


async def test_erasing_asks_and_says_what_is_gone_then(bench: CliBench) -> None:
    def erase() -> None:
        prepared(bench)
        shell = bench.shell
        zoe = shell.json("operator", "add", "zoe", "--role", "security")["id"]
        for words in (("org", "erase", "acme"), ("operator", "erase", zoe)):
            assert "can't be undone" in answered(bench, "n", *words)[1]
            assert "--yes" in shell.run(*words, status=2)
            assert "revoke" in shell.run(*words, "--yes", status=5), "which comes first"
        shell.run("org", "revoke", "acme", "--yes")
        shell.run("operator", "revoke", zoe)
        # a hold keeps both, until it is lifted
        assert shell.json("audit", "hold", "place", "--org", "acme")["organization"]
        assert "placed_at" in shell.run("audit", "hold", "list")
        for words in (("org", "erase", "acme"), ("operator", "erase", zoe)):
            assert "legal hold" in shell.run(*words, "--yes", status=5)
        shell.run("audit", "hold", "lift", "--org", "acme")
        assert shell.json("org", "erase", "acme", "--yes")["slug"].startswith("erased-")
        assert answered(bench, "y", "operator", "erase", zoe)[0] == 0
        assert "zoe" not in shell.run("operator", "list")

    await asyncio.to_thread(erase)


async def test_a_refusal_in_json_is_a_problem(bench: CliBench) -> None:
    def refuse() -> None:
        prepared(bench)
        for words, status, code in (
            (("org", "revoke", "acme"), 2, "confirm"),
            (("org", "show", "nosuch"), 4, "unknown_organization"),
            (("org", "add", "acme"), 5, "conflict"),
            (("org", "add", "Not A Slug"), 1, "invalid"),
        ):
            problem = json.loads(bench.shell.run(*words, "--json", status=status))
            assert (problem["exit_status"], problem["code"]) == (status, code)
            assert problem["type"].startswith("urn:keybroker:problem:")
            assert problem["detail"]
        away = {**bench.shell.environment, "BROKER_URL": "http://127.0.0.1:9", "BROKER_TOKEN": "kbo_x"}
        done = run("org", "list", "--json", environment=away, directory=bench.shell.directory)
        assert (done.returncode, json.loads(done.stderr)["code"], done.stdout) == (3, "unreachable", b"")

    await asyncio.to_thread(refuse)
