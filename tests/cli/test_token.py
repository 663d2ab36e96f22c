"""``broker token``: a job in any language is shown what opens the broker to it."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.client.served import RAPTOR, ClientBench, client_bench, open_
from tests.support.commands import MINIMAL, run
from tests.support.processes import free_port

BY_JOB = {"organization": "acme", "provider": RAPTOR}


@pytest.fixture
async def bench(tmp_path: Path, sqlite_url: str) -> AsyncIterator[ClientBench]:
    async with client_bench(tmp_path, sqlite_url) as made, open_(made):
        made.identity.write(tmp_path / "sync.identity.json")
        await made.grant()
        yield made


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return tmp_path / "sync.identity.json"


async def told(*words: str, status: int = 0, **environment: str) -> str:
    """What the command prints; what it says on standard error where it fails."""
    done: subprocess.CompletedProcess[bytes] = await asyncio.to_thread(
        run, "token", *words, environment={**MINIMAL, **environment}
    )
    assert done.returncode == status, done.stderr
    assert b"Traceback" not in done.stderr
    return (done.stderr if status else done.stdout).decode()


async def leased(bench: ClientBench, token: str) -> int:
    """The status of a lease request with an access token."""
    async with httpx2.AsyncClient(base_url=bench.url) as http:
        answer = await http.post("/v1/leases", json=BY_JOB, headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


async def test_an_access_token_stands_alone_on_its_line_and_leases(bench: ClientBench, identity: Path) -> None:
    token, end = (await told("--identity", str(identity))).split("\n")
    assert end == ""
    assert await leased(bench, token) == 201


async def test_json_says_when_it_ends(bench: ClientBench, identity: Path) -> None:
    said = json.loads(await told("--identity", str(identity), "--json"))
    assert said.keys() == {"access_token", "token_type", "expires_in"}
    assert 0 < said["expires_in"] <= 600
    assert await leased(bench, said["access_token"]) == 201


async def test_an_assertion_is_taken_for_a_token_once(bench: ClientBench, identity: Path) -> None:
    said = json.loads(await told("--assertion", "--json", BROKER_IDENTITY=str(identity)))
    form = {"grant_type": "client_credentials", **{name: said[name] for name in said if name.startswith("client_")}}
    async with httpx2.AsyncClient() as http:
        first, second = [await http.post(said["token_endpoint"], data=form) for _ in range(2)]
    assert (first.status_code, second.status_code) == (200, 401)
    assert await leased(bench, first.json()["access_token"]) == 201
    # without --json it is all that is printed
    assert (await told("--assertion", "--identity", str(identity))).count(".") == 2


async def test_an_assertion_is_signed_without_a_call(bench: ClientBench, identity: Path) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    said = json.loads(await told("--assertion", "--json", "--identity", str(identity), BROKER_URL=nowhere))
    assert said["token_endpoint"] == f"{nowhere}/oauth/token"
    refused = await told("--identity", str(identity), BROKER_URL=nowhere, status=3)
    assert "[unreachable]" in refused
    assert f"The address is BROKER_URL's; the identity file names {bench.url}." in refused


@pytest.mark.parametrize(
    ("content", "why"),
    [("", "not JSON"), ('{"broker": "http://127.0.0.1", "client_id": "wkl_1", "jwk": {}}', "`jwk` has no `alg`")],
)
@pytest.mark.parametrize("words", [(), ("--assertion",)])
async def test_a_file_that_is_none_is_told_in_a_sentence(
    tmp_path: Path, content: str, why: str, words: tuple[str, ...]
) -> None:
    bad = tmp_path / "bad.json"
    bad.touch(mode=0o600)
    bad.write_text(content)
    assert why in await told(*words, "--identity", str(bad), status=1)
    assert "No such file" in await told(*words, "--identity", str(tmp_path / "absent"), status=1)
