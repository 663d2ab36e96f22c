"""``broker exec`` and ``broker lease issue`` of a job without a key, at a real broker."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from tests.cli.test_exec import CALL, ENVIRONMENT, python
from tests.client.federated import RAPTOR, Federated, federated
from tests.support.commands import MINIMAL, run

AT = ("--org", "acme", "--provider", RAPTOR)
SEEN = """
import json, os
def read(path):
    with open(path, "rb") as file:
        return file.read().decode("latin-1")
parent = os.getppid()
print(json.dumps({"environment": dict(os.environ), "parent": read(f"/proc/{parent}/cmdline")}))
"""


@pytest.fixture
async def there(tmp_path: Path, sqlite_url: str) -> AsyncIterator[Federated]:
    async with federated(tmp_path, sqlite_url) as made:
        yield made


async def output(*words: str, environment: Mapping[str, str], status: int = 0) -> str:
    done = await asyncio.to_thread(run, *words, environment={**MINIMAL, **environment})
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    return (done.stderr if status else done.stdout).decode()


async def test_a_ci_run_leases_and_runs_with_no_stored_key(there: Federated) -> None:
    issued = json.loads(await output("lease", "issue", "--ambient", *AT, "--json", environment=there.runner))
    assert issued["lease"]["workload"] == there.workload
    assert await output("exec", "--ambient", *AT, *python(CALL), environment=there.runner) == "200\n"
    ended = ("lease", "end", issued["lease"]["id"], "--ambient")
    assert "ended" in await output(*ended, environment=there.runner)
    names = await there.tokens_issued()
    assert len(set(names)) == len(names) == 3, "each is asked for anew, and good once"


async def test_a_command_of_a_ci_run_cannot_ask_for_the_runs_tokens(there: Federated) -> None:
    environment = {**there.runner, "MINE": "kept"}
    seen = json.loads(await output("exec", "--ambient", *AT, *python(ENVIRONMENT), environment=environment))
    assert seen["MINE"] == "kept"
    assert not [name for name in seen if name.startswith(("ACTIONS_ID_TOKEN_", "BROKER_"))]


@pytest.mark.parametrize("named", ["identity", "line"])
async def test_a_command_gets_neither_the_variable_of_the_token_nor_a_look_at_it(there: Federated, named: str) -> None:
    # given a job whose pipeline puts its token into a variable, and where else it might lie
    token = there.platform.pod_token(aud=[there.url])
    environment = {"DEPLOY": token, "COPY": token, "TFC_WORKLOAD_IDENTITY_TOKEN": "for anybody", "MINE": "kept"}
    if named == "identity":
        file = there.directory / "env.json"
        file.write_text(json.dumps({"broker": there.url, "client_id": there.workload, "token": {"env": "DEPLOY"}}))
        proof = ["--identity", str(file)]
    else:
        environment |= {"BROKER_URL": there.url}
        proof = ["--token-from", "env:DEPLOY", "--workload", there.workload]
    # when it runs a command
    words = [sys.executable, "-m", "broker", "exec", *proof, *AT, *python(SEEN)]
    done = await asyncio.to_thread(
        subprocess.run, words, env={**MINIMAL, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # then the token is nowhere in what that is given, nor in the list of processes
    told = json.loads(done.stdout)
    assert "exec" in told["parent"]
    assert token.split(".")[2] not in done.stdout + done.stderr
    told = told["environment"]
    assert told["MINE"] == "kept"
    assert not {"DEPLOY", "COPY", "TFC_WORKLOAD_IDENTITY_TOKEN"} & set(told)


async def test_a_projected_token_runs_a_command_and_one_for_somebody_else_runs_none(there: Federated) -> None:
    there.project()
    words = ("exec", "--identity", str(there.identity), *AT)
    assert await output(*words, *python(CALL), environment={}) == "200\n"
    # when the file has the token that every pod has by default
    there.file.write_text(there.platform.pod_token(aud=["https://kubernetes.default.svc"]))
    started = there.directory / "started"
    refused = await output(*words, "--", "touch", str(started), environment={}, status=1)
    # then nothing is sent, and nothing is run
    assert f"is for https://kubernetes.default.svc, and this job's is to be for {there.url}" in refused
    assert len(await there.tokens_issued()) == 1
    assert not started.exists()


async def test_what_no_trust_takes_is_told_by_its_code(there: Federated) -> None:
    token = there.platform.pod_token(aud=[there.url], sub="system:serviceaccount:sync:other", **OTHER)
    there.file.write_text(token)
    words = ("lease", "issue", "--identity", str(there.identity), *AT)
    refused = await output(*words, environment={}, status=1)
    assert "[claim_differs]" in refused
    assert token.split(".")[2] not in refused


async def test_a_machine_without_a_token_reads_a_line_for_each_platform(there: Federated) -> None:
    environment = {"BROKER_URL": there.url, "BROKER_WORKLOAD": there.workload}
    for words in (("lease", "issue", "--ambient", *AT), ("exec", "--ambient", *AT, "--", "true")):
        refused = await output(*words, environment=environment, status=1)
        assert "\nGitLab: Give the job" in refused
        assert "\ufffd" not in refused


async def test_a_jobs_name_or_a_bare_path_is_told_how_it_is_written(there: Federated) -> None:
    environment = {"BROKER_URL": there.url, "BROKER_WORKLOAD": "nightly-sync"}
    refused = await output("lease", "issue", "--ambient", *AT, environment=environment, status=1)
    assert "no job's id, which a name isn't: --workload wkl_…" in refused
    environment["BROKER_WORKLOAD"] = there.workload
    refused = await output("lease", "issue", "--token-from", "token.jwt", *AT, environment=environment, status=1)
    assert "Write file:PATH, env:NAME" in refused


OTHER = {"kubernetes.io": {"namespace": "sync", "serviceaccount": {"name": "other"}, "pod": {"name": "p", "uid": "u"}}}
