"""Receiving a key: every way it can go, over HTTP on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy import select

from broker.base.db import EVERY_TENANT
from broker.credentials.tables import FingerprintRow, VersionRow
from broker.formats import base64url, intake_seal, link_proof, link_secret
from broker.intake.submission import Submissions
from broker.intake.tables import IntakeRow
from broker.intake.throttle import LIMITS
from broker.organizations.tables import OrganizationRow
from broker.sandbox.state import Faults
from tests.support.world import World

NEVER_MINTED = "rc_live_" + "Z" * 64


async def row_of(world: World, intake: str) -> IntakeRow:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return await session.get_one(IntakeRow, intake)


def sealed_to(seal: dict[str, Any], key: str) -> str:
    """A submission, as the page seals it."""
    submission = intake_seal.Submission(key.encode(), bytes(32))
    return base64url.encode(
        intake_seal.seal(submission, base64url.decode(seal["public_key"]), intake_seal.SealContext(**seal["context"]))
    )


async def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


async def test_the_receipt_names_the_key_and_the_status_code_shows_it(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme", purpose="nightly sync")
    opened = (await world.open(intake, secret)).json()
    assert opened["organization"]["name"] == "Acme"
    assert opened["vendor"] == {"name": "Gridwise Compliance", "contact": "keys@gridwise.example"}
    assert opened["purpose"] == "nightly sync"
    assert opened["provider"]["where"]

    key = world.upstream_keys["acme"]
    done = (await world.submit(intake, secret, key)).json()
    receipt = done["receipt"]
    assert done["state"] == "accepted"
    assert receipt["last4"] == key[-4:]
    assert receipt["organization"] == "Acme"

    status = await world.say("status", intake, world.codes[intake], "open")
    assert status.json()["key"]["state"] == "active"
    assert status.json()["key"]["fingerprint"] == receipt["fingerprint"]

    credential = (await world.call("GET", "/v1/credentials"))["items"][0]
    assert credential["versions"][0]["state"] == "active"
    assert credential["versions"][0]["fingerprint"] == receipt["fingerprint"]


async def test_opening_and_fetching_spend_nothing(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    pages = [await world.http.get(f"/intake/{path}") for path in (intake, "int_" + "0" * 32, "nonsense")]
    assert len({page.text for page in pages}) == 1, "the page is the same for every id"
    for _ in range(5):
        assert (await world.open(intake, secret)).json()["state"] == "open"
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"


async def test_the_page_is_locked_down(world: World) -> None:
    page = await world.http.get("/intake/int_" + "0" * 32)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["cross-origin-opener-policy"] == "same-origin"
    assert page.headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_database_holds_neither_the_links_secret_nor_the_key(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    before = await row_of(world, intake)
    assert secret.encode() not in (before.link_key or b"")
    assert link_proof.key_of(secret) not in (before.link_key or b"")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    after = await row_of(world, intake)
    assert after.private_sealed is None, "the intake's private key is destroyed when it ends"
    assert link_proof.key_of(world.codes[intake]) not in (after.status_key or b"")


async def test_a_spent_link_shows_nothing_and_takes_nothing(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    opened = (await world.open(intake, secret)).json()["seal"]
    await world.submit(intake, secret, world.upstream_keys["acme"])
    # opened again
    again = (await world.open(intake, secret)).json()
    assert (again["state"], set(again)) == ("spent", {"state", "vendor"})
    # submitted to once more
    message = sealed_to(opened, NEVER_MINTED)
    assert await code(await world.say("intake", intake, secret, "submit", sealed=message)) == (409, "intake_spent")


async def test_of_two_submissions_at_once_one_is_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    both, opened = asyncio.Barrier(2), Submissions._open

    async def together(self: Submissions, intake: IntakeRow, sealed_key: bytes) -> intake_seal.Submission:
        await both.wait()  # the link is open still to either
        return await opened(self, intake, sealed_key)

    monkeypatch.setattr(Submissions, "_open", together)
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    organization = next(iter(world.upstream.organizations.values()))
    keys = [world.upstream_keys["acme"], world.upstream.add_key(organization)[1]]
    answers = await asyncio.gather(*(world.submit(intake, secret, key) for key in keys))
    taken, late = sorted(answers, key=lambda answer: answer.status_code)
    assert taken.json()["state"] == "accepted"
    assert await code(late) == (409, "intake_spent")
    assert len((await world.call("GET", "/v1/credentials"))["items"][0]["versions"]) == 1


async def test_a_key_that_upstream_refuses_can_be_replaced_over_the_same_link(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    refused = await world.submit(intake, secret, NEVER_MINTED)
    assert await code(refused) == (422, "key_refused_upstream")
    assert "this link still works" in refused.json()["detail"]
    assert (await world.open(intake, secret)).json()["last_refusal"]["code"] == "key_refused_upstream"
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
    # the refused key is gone, and is nobody's
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        rows = {row.number: row for row in await session.scalars(select(VersionRow))}
        assert (rows[1].state, rows[1].sealed) == ("destroyed", None)
        assert len(list(await session.scalars(select(FingerprintRow)))) == 1


async def test_while_upstream_is_down_the_key_waits_sealed_and_is_verified_later(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    world.upstream.faults = Faults(outage=True)
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "verifying"
    # still down: asked again, later each time
    world.clock.forward(seconds=61)
    await world.broker.worker.once()
    assert (await row_of(world, intake)).state == "verifying"
    # up again: nobody had to paste again
    world.upstream.faults = Faults()
    world.clock.forward(seconds=301)
    await world.broker.worker.once()
    assert (await row_of(world, intake)).state == "accepted"
    job = await world.job()
    await world.grant(job, "acme")
    assert (await world.proxied(await job.lease("acme"), "/facilities")).status_code == 200


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_no_other_answer_of_upstream_counts_as_a_bad_key(world: World, status: int) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    world.upstream.faults = Faults(outage=True, status=status)
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "verifying"


async def test_a_key_found_bad_later_opens_the_link_again(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    world.upstream.faults = Faults(outage=True)
    await world.submit(intake, secret, NEVER_MINTED)
    world.upstream.faults = Faults()
    world.clock.forward(seconds=61)
    await world.broker.worker.once()
    assert (await world.open(intake, secret)).json()["state"] == "open"
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"


async def test_a_key_held_for_another_organization_is_refused(world: World) -> None:
    await world.key_for("globex")
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    refused = await world.submit(intake, secret, world.upstream_keys["globex"])
    assert await code(refused) == (409, "key_other_organization")
    assert "globex" not in refused.text.lower(), "it doesn't say whose key it is"
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"


async def test_another_key_of_another_organization_is_recognised_by_what_it_can_see(world: World) -> None:
    # given globex's key here, and a second key that globex's admin made, pasted for acme
    await world.key_for("globex")
    await world.organization("acme")
    organization = next(org for org in world.upstream.organizations.values() if org.name == "globex")
    _, second = world.upstream.add_key(organization)
    intake, secret = await world.request_key("acme")
    # when it is verified, then the facilities it lists give it away
    assert await code(await world.submit(intake, secret, second)) == (409, "key_other_organization")
    assert [event["core"]["reason"] for event in await world.events(kind="credential.version.refused")] == [
        "other_organization"
    ]


async def test_a_second_key_of_the_same_organization_is_accepted_by_evidence(world: World) -> None:
    await world.key_for("acme")
    organization = next(iter(world.upstream.organizations.values()))
    _, second = world.upstream.add_key(organization)
    intake, secret = await world.request_key("acme", label="second")
    assert (await world.submit(intake, secret, second)).json()["state"] == "accepted"


async def test_a_second_key_without_overlap_waits_for_an_operator(world: World) -> None:
    await world.key_for("acme")
    other = world.upstream.add_organization("empty", facilities=0)
    _, second = world.upstream.add_key(other)
    intake, secret = await world.request_key("acme", label="second")
    assert (await world.submit(intake, secret, second)).json()["state"] == "held"
    held = next(item for item in (await world.call("GET", "/v1/credentials"))["items"] if item["label"] == "second")
    assert held["versions"][0]["state"] == "verified"
    # no job can use it until an operator decides
    job = await world.job()
    await world.grant(job, "acme")
    assert (await job.ask("acme", label="second")).json()["code"] == "no_active_key"
    await world.call("POST", f"/v1/credentials/{held['id']}/versions/1/activate")
    assert (await job.ask("acme", label="second")).status_code == 201


async def test_the_same_key_twice_is_refused(world: World) -> None:
    await world.key_for("acme")
    intake, secret = await world.request_key("acme", label="second")
    assert await code(await world.submit(intake, secret, world.upstream_keys["acme"])) == (409, "key_held")


@pytest.mark.parametrize("key", ["", "rc_live_short", "rc_test_" + "a" * 64, "rc_live_" + "a" * 63 + "\n", "é" * 72])
async def test_a_malformed_key_is_refused_and_the_link_stays_open(world: World, key: str) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    refused = await world.submit(intake, secret, key)
    assert await code(refused) == (422, "key_format")
    assert (await world.open(intake, secret)).json()["state"] == "open"


async def test_a_submission_sealed_for_another_intake_does_not_open(world: World) -> None:
    await world.organization("acme")
    first, first_secret = await world.request_key("acme", label="one")
    second, second_secret = await world.request_key("acme", label="two")
    seal = (await world.open(first, first_secret)).json()["seal"]
    answer = await world.say("intake", second, second_secret, "submit", sealed=sealed_to(seal, "x"))
    assert await code(answer) == (422, "seal_invalid")


async def test_expired_and_cancelled_links_say_so_to_their_holder_only(world: World) -> None:
    await world.organization("acme")
    cancelled, cancelled_secret = await world.request_key("acme", label="one")
    expired, expired_secret = await world.request_key("acme", label="two", hours=1)
    await world.call("POST", f"/v1/intakes/{cancelled}/cancel")
    world.clock.forward(hours=2)
    assert await code(await world.open(cancelled, cancelled_secret)) == (410, "intake_cancelled")
    assert await code(await world.open(expired, expired_secret)) == (410, "intake_expired")
    assert (await row_of(world, cancelled)).private_sealed is None
    for intake in (cancelled, expired, "int_" + "0" * 32):
        assert await code(await world.open(intake, link_secret.new())) == (404, "link_invalid")
    # the worker closes what is over and destroys its key
    await world.broker.worker.once()
    assert (await row_of(world, expired)).state == "expired"
    assert (await row_of(world, expired)).private_sealed is None
    assert await code(await world.open(expired, expired_secret)) == (410, "intake_expired")


async def test_a_cut_off_organization_takes_no_keys(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    await world.call("POST", "/v1/organizations/acme/revoke", json={})
    assert await code(await world.submit(intake, secret, world.upstream_keys["acme"])) == (410, "intake_cancelled")


async def test_wrong_secrets_are_limited_and_recorded(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    answers = [(await world.open(intake, link_secret.new())).status_code for _ in range(LIMITS["address"] + 3)]
    assert answers == [404] * LIMITS["address"] + [429] * 3
    limited = await world.open(intake, link_secret.new())
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "600")
    assert len(await world.events(kind="intake.proof_refused")) == LIMITS["address"]
    assert (await world.open(intake, secret)).status_code == 200, "its holder gets in all the while"
    world.clock.forward(seconds=601)
    assert (await world.open(intake, link_secret.new())).status_code == 404


async def test_a_request_for_a_credential_that_has_a_key_is_refused(world: World) -> None:
    credential = await world.key_for("acme")
    wanted = {"organization": "acme", "provider": "raptor-comply", "contact": "a@b.example"}
    refused = await world.call("POST", "/v1/intakes", status=409, json=wanted)
    assert refused["code"] == "active_key_exists"
    # until that key is revoked
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json={})
    await world.call("POST", "/v1/intakes", status=201, json=wanted)


async def test_a_crash_after_staging_leaves_the_key_with_the_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a process that dies between the commit of the submission and the verification
    await world.organization("acme")
    intake, secret = await world.request_key("acme")

    async def dies(*_: object, **__: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patch:
        patch.setattr(type(world.services.verification), "run", dies)
        with pytest.raises(asyncio.CancelledError):
            await world.submit(intake, secret, world.upstream_keys["acme"])
    assert (await row_of(world, intake)).state == "verifying"
    # when the worker of the next process comes by
    world.clock.forward(seconds=61)
    await world.broker.worker.once()
    # then the key is active
    assert (await row_of(world, intake)).state == "accepted"


async def test_a_pasted_key_goes_the_same_way(world: World) -> None:
    await world.organization("acme")
    body = {"organization": "acme", "provider": "raptor-comply", "key": NEVER_MINTED}
    refused = await world.call("POST", "/v1/credentials", status=422, json=body)
    assert refused["code"] == "key_refused_upstream"
    world.upstream.faults = Faults(outage=True)
    waiting = await world.call("POST", "/v1/credentials", status=201, json={**body, "key": world.upstream_keys["acme"]})
    assert (waiting["verdict"], waiting["version"]["state"]) == ("unreachable", "staged")
    world.upstream.faults = Faults()
    world.clock.forward(seconds=61)
    await world.broker.worker.once()
    assert (await world.call("GET", f"/v1/credentials/{waiting['credential']}"))["versions"][-1]["state"] == "active"


async def test_a_link_that_is_replaced_while_a_key_is_on_its_way_takes_it_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    real = Submissions._open

    async def meanwhile(self: Submissions, *given: Any) -> Any:
        opened = await real(self, *given)
        await world.call("POST", f"/v1/intakes/{intake}/link", json={})
        return opened

    monkeypatch.setattr(Submissions, "_open", meanwhile)
    assert await code(await world.submit(intake, secret, world.upstream_keys["acme"])) == (404, "link_invalid")
    assert (await world.call("GET", f"/v1/intakes/{intake}"))["state"] == "open"


async def test_names_show_nothing_that_turns_or_hides_text(world: World) -> None:
    """Names with such characters aren't taken; one that an earlier version took is shown without them."""
    made = await world.organization("acme")
    refused = {"slug": "beta", "name": "Beta\u202e"}
    assert (await world.call("POST", "/v1/organizations", status=422, json=refused))["code"] == "invalid"
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        (await session.get_one(OrganizationRow, made["id"])).name = "Acme\u202e\u200b\x9b31m"
    opened = (await world.open(*await world.request_key("acme"))).json()
    assert opened["organization"]["name"] == "Acme\ufffd\ufffd\ufffd31m"
