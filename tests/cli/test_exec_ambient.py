"""``broker exec`` beside what a platform and a network put into a job's environment."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cli.test_exec import CALL, ENVIRONMENT, JobsShell, python
from tests.client.between import Proxy, page, proxying
from tests.client.served import client_bench, open_
from tests.support.commands import run


@dataclass
class CI(JobsShell):
    """A shell in a platform's job."""

    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.more}


@pytest.fixture
async def shell(tmp_path: Path, sqlite_url: str) -> AsyncIterator[CI]:
    async with client_bench(tmp_path, sqlite_url) as bench, open_(bench):
        await bench.grant(modes=["use", "reveal"])
        made = CI(bench, tmp_path)
        bench.identity.write(made.identity)
        yield made


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxying() as made:
        yield made


@pytest.mark.parametrize("reveal", [[], ["--reveal", "RAPTOR_API_KEY"]])
async def test_a_command_cannot_prove_that_it_is_the_job(shell: CI, reveal: list[str]) -> None:
    ours = shell.bench.identity.assertion()  # as good as any token that a platform makes for the broker
    shell.more = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.example",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
        "DEPLOY_ID_TOKEN": ours,
        "CIRCLE_OIDC_TOKEN": "kept on demand",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token",
    }
    seen = json.loads((await shell.run(*reveal, *python(ENVIRONMENT)))[0])
    assert seen["AWS_WEB_IDENTITY_TOKEN_FILE"] == "/var/run/token"
    assert not set(seen) & (set(shell.more) - {"AWS_WEB_IDENTITY_TOKEN_FILE"})
    assert ours not in seen.values()
    seen = json.loads((await shell.run(*reveal, "--keep-env", "CIRCLE_OIDC_TOKEN", *python(ENVIRONMENT)))[0])
    assert seen["CIRCLE_OIDC_TOKEN"] == "kept on demand"
    assert "ACTIONS_ID_TOKEN_REQUEST_TOKEN" not in seen


async def test_the_environments_proxies_are_for_the_command_and_not_for_us(shell: CI, proxy: Proxy) -> None:
    shell.more = dict.fromkeys(("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"), proxy.url)
    shell.more["no_proxy"] = ""
    seen = json.loads((await shell.run(*python(ENVIRONMENT)))[0])
    assert (seen["http_proxy"], proxy.asked) == (proxy.url, [])


@pytest.mark.parametrize("by_name", [True, False])
async def test_a_proxy_that_is_named_leads_to_the_broker(shell: CI, proxy: Proxy, by_name: bool) -> None:
    if not by_name:
        shell.more = {"BROKER_CLIENT_PROXY": proxy.url}
    assert await shell.run(*(["--proxy", proxy.url] if by_name else []), *python(CALL)) == ("200\n", "")
    assert [line.split()[1].rpartition("/")[2] for line in proxy.asked] == ["token", "leases", "end"]


async def test_a_proxy_that_answers_in_the_brokers_place_is_named(shell: CI, proxy: Proxy) -> None:
    proxy.says = page("403 Forbidden", "Server: squid/5.7")
    _, errors = await shell.run("--proxy", proxy.url, "--", "true", status=1)
    assert "The answer (403, text/html, server: squid/5.7) is not the broker's" in errors
    _, errors = await shell.run("--proxy", "proxy.example:3128", "--", "true", status=1)
    assert "error: A proxy is given by its URL: http://HOST:PORT" in errors


async def test_an_operators_commands_go_by_no_proxy_but_the_named_one(shell: CI, proxy: Proxy) -> None:
    shell.more = {
        "http_proxy": proxy.url,
        "all_proxy": proxy.url,
        "BROKER_URL": shell.bench.url,
        "BROKER_TOKEN": shell.bench.world.admin["Authorization"].removeprefix("Bearer "),
    }

    async def output() -> str:
        done = await asyncio.to_thread(run, "org", "list", environment=shell.environment, directory=shell.directory)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    assert "acme" in await output()
    assert proxy.asked == []
    shell.more["BROKER_CLIENT_PROXY"] = proxy.url
    assert "acme" in await output()
    assert len(proxy.asked) == 1
