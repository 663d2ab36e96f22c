"""The answer to who asks for a lease: what the API's document says, byte for byte."""

from __future__ import annotations

import pytest

from broker.web.api.leases import LeaseIssued
from tests.support.world import World

PURPOSES = ("", "nightly", 'says "yes" \\ no', "für Zürich 🗝 and more", "</script> a/b&c")


@pytest.mark.parametrize("mode", ["use", "reveal"])
async def test_it_is_the_documents_model_in_json_whatever_the_purpose(world: World, mode: str) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    for purpose in PURPOSES:
        answer = await job.ask("acme", mode=mode, purpose=purpose)
        assert answer.status_code == 201, answer.text
        told = LeaseIssued.model_validate_json(answer.content)
        assert answer.content == told.model_dump_json().encode()
        assert (told.lease.purpose, told.lease.mode, told.lease.state) == (purpose, mode, "active")
        assert told.key == (world.upstream_keys["acme"] if mode == "reveal" else None)
