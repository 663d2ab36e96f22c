"""A process that dies between two steps of a rotation leaves it to the next, which ends it the same way."""

from __future__ import annotations

from typing import Any

import pytest

from broker.credentials.verification import Verification
from broker.intake.submission import Submissions
from broker.rotations import commands
from broker.rotations.revocation_check import RevocationCheck
from tests.support.crash import Crash
from tests.support.world import World


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize(
    ("owner", "step"),
    [
        (Submissions, "_stage"),
        (Submissions, "_verify"),
        (Verification, "probe"),
        (Verification, "_settle"),
        (commands, "retire"),
        (RevocationCheck, "_settle"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_the_next_process_ends_it_the_same_way(
    world: World, owner: Any, step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    _, intake, secret = await world.rotate(credential)
    new = world.new_key("acme")
    real = getattr(owner, step)

    async def dying(*arguments: Any, **more: Any) -> Any:
        if moment == "after":
            await real(*arguments, **more)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, dying)
        await world.submit(intake, secret, new)
        for _ in range(3):
            assert (await job.ask("acme")).status_code == 201, "a usable key is there all the while"
            await world.work(hours=1)
    if (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "open":
        # nothing was acknowledged: the customer submits once more
        assert (await world.submit(intake, secret, new)).json()["state"] == "accepted"
    world.revoke_upstream(world.upstream_keys["acme"])
    for _ in range(4):
        await world.work(hours=24)
    versions = await world.versions(credential)
    assert [version["state"] for version in versions] == ["revoked", "active"]
    assert versions[0]["revocation_confirmed_at"] is not None
    assert versions[1]["last4"] == new[-4:]
    for kind in ("credential.version.activated", "credential.version.retired", "rotation.completed"):
        about = [event for event in await world.events(kind=kind) if event["core"].get("version") != 1 or "ret" in kind]
        assert len(about) == 1, kind
