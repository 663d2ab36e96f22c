"""Who lacks a nonce alone doesn't wait among strangers: every job with a key meets that, when it starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.proofs import KeyHolder, key_holder
from tests.support.world import running_world, settings_for, upstream

PATH = "/proxy/acme/raptor-comply/facilities"


async def test_a_nonce_is_told_however_many_strangers_wait(tmp_path: Path, sqlite_url: str) -> None:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, sqlite_url, url, http_refusals=0.01), state, url) as world,
    ):
        job = await key_holder(world, implicit=True)
        lease, token, stale = await job.lease("acme"), await job.token(), "A" * 22
        for _ in range(19):
            await world.http.get("/v1/leases")
        strangers = [asyncio.create_task(world.http.get("/v1/leases")) for _ in range(5)]
        fresh = KeyHolder(job.job, job.key)
        async with asyncio.timeout(10):
            assert (await fresh.ask_for_token()).json()["error"] == "use_dpop_nonce"
            for method, path in (("GET", "/v1/leases"), ("GET", PATH)):
                answer = await world.http.get(path, headers=job.carrying(token, method, path, nonce=stale))
                assert answer.json()["code"] == "use_dpop_nonce"
            headers = {"DPoP": job.proof("GET", job.path(lease, "/facilities"), lease["token"], nonce=stale)}
            answer = await world.proxied(lease, "/facilities", headers=headers)
            assert answer.json()["code"] == "use_dpop_nonce"
        assert not any(one.done() for one in strangers), "they wait"
        for one in strangers:
            one.cancel()
        await asyncio.gather(*strangers, return_exceptions=True)
