"""However a job proves who it is, its access token can be bound to a key."""

from __future__ import annotations

from pathlib import Path

from tests.support.platform import platform, token_form
from tests.support.proofs import KeyHolder
from tests.support.world import running_world, settings_for, upstream


async def test_a_platforms_token_is_exchanged_for_a_bound_one(tmp_path: Path, database_url: str) -> None:
    async with platform(tmp_path, database_url) as there:
        await there.world.key_for("acme")
        job = await there.world.job()
        await there.world.grant(job, "acme", bound=True)
        await there.trust(job.id)
        holder = KeyHolder(job)
        await holder.fetch_nonce()
        form = token_form(job.id, there.pod_token())
        headers = {"DPoP": holder.proof("POST", "/oauth/token")}
        answer = await there.world.http.post("/oauth/token", data=form, headers=headers)
        assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP"), answer.text
        token, path = answer.json()["access_token"], "/v1/leases"
        body = {"organization": "acme", "provider": "raptor-comply"}
        issued = await there.world.http.post(path, json=body, headers=holder.carrying(token, "POST", path))
        assert issued.status_code == 201, issued.text
        assert (await holder.proxied(issued.json(), "/facilities")).status_code == 200
        assert (await there.world.proxied(issued.json(), "/facilities")).status_code == 401


async def test_a_client_secret_gets_a_bound_token(tmp_path: Path, sqlite_url: str) -> None:
    async with (
        upstream() as (state, url),
        running_world(settings_for(tmp_path, sqlite_url, url, allow_client_secrets=True), state, url) as world,
    ):
        made = await world.call("POST", "/v1/workloads", status=201, json={"name": "dev", "client_secret": True})
        holder = KeyHolder(await world.job())
        await holder.fetch_nonce()
        answer = await world.http.post(
            "/oauth/token",
            data={"grant_type": "client_credentials"},
            auth=(made["id"], made["client_secret"]),
            headers={"DPoP": holder.proof("POST", "/oauth/token")},
        )
        assert (answer.status_code, answer.json()["token_type"]) == (200, "DPoP"), answer.text
        token = answer.json()["access_token"]
        listed = await world.http.get("/v1/leases", headers=holder.carrying(token, "GET", "/v1/leases"))
        assert listed.status_code == 200
        assert (await world.http.get("/v1/leases", headers={"Authorization": f"Bearer {token}"})).status_code == 401
