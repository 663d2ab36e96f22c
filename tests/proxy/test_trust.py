"""Upstreams whose certificate comes from a private authority, or from nobody who is trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from broker.providers.authority import read
from broker.providers.host import Host
from tests.proxy.conftest import Bench, problem
from tests.support.certificates import certify, serving_tls


@asynccontextmanager
async def over_tls(bench: Bench, directory: Path) -> AsyncIterator[str]:
    """The lab behind a certificate that ``ca.pem`` vouches for; its address."""
    certify(directory)
    server = await asyncio.start_server(bench.lab.serve, "127.0.0.1", 0, ssl=serving_tls(directory))
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/base"
    finally:
        server.close()


async def test_a_private_authority_vouches_for_its_upstream(bench: Bench, tmp_path: Path) -> None:
    async with over_tls(bench, tmp_path) as url:
        bench.declare(host=Host(base_url=url, private=True).model_copy(update={"ca_file": read(tmp_path / "ca.pem")}))
        assert (await bench.call(await bench.lease(), "/x")).status_code == 200
        before = len(bench.lab.requests)
        await bench.world.work(hours=25)
        assert len(bench.lab.requests) > before, "verifications trust it too"
    assert (await bench.world.versions(bench.credential))[0]["health"] == "healthy"


@pytest.mark.parametrize("named", ["none", "another authority"])
async def test_a_certificate_that_is_not_trusted_is_named_as_the_cause(
    bench: Bench, tmp_path: Path, named: str
) -> None:
    async with over_tls(bench, tmp_path) as url:
        host = Host(base_url=url, private=True)
        if named == "another authority":
            (tmp_path / "other").mkdir()
            certify(tmp_path / "other")
            host = host.model_copy(update={"ca_file": read(tmp_path / "other" / "ca.pem")})
        bench.declare(host=host)
        refused = await bench.call(await bench.lease(), "/x")
        await bench.world.work(hours=25)
    probed = (await bench.world.events(kind="credential.probe.completed"))[-1]
    assert "certificate not trusted: " in str(probed["personal"] | probed["core"])
    assert problem(refused) == (502, "upstream_unreachable")
    assert refused.json()["cause"] == "certificate"
    assert "certificate" in refused.json()["detail"]
    assert "host.ca_file" in refused.json()["detail"]
    assert "try again" not in refused.json()["detail"]
    assert refused.headers["x-broker-tries"] == "1", "it will be no other certificate in a second"
    assert bench.lab.calls == []
    await bench.uses()
    (completed,) = await bench.world.events(kind="use.completed")
    assert completed["core"]["reason"] == "untrusted"


async def test_a_certificate_of_another_host_is_not_trusted(bench: Bench, tmp_path: Path) -> None:
    async with over_tls(bench, tmp_path) as url:
        host = Host(base_url=url.replace("127.0.0.1", "localhost"), private=True)
        bench.declare(host=host.model_copy(update={"ca_file": read(tmp_path / "ca.pem")}))
        refused = await bench.call(await bench.lease(), "/x")
    assert "localhost" in refused.json()["detail"]
    assert bench.lab.calls == []
