"""A key that is out of use here is stated dead once its upstream says so in the declared words, and never before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select, update

from broker.audit.tables import ArchiveRow
from broker.base.clock import later
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import NotFound, Unavailable
from broker.base.outbound import Outbound
from broker.client import verify
from broker.credentials import certificates
from broker.credentials.tables import CertificateRow, VersionRow
from broker.credentials.traces import traces_of
from broker.credentials.verification import Verification
from broker.formats.certificate import Certificate, Ended, Moment, commits_to
from broker.formats.certificate_file import CertificateFile
from broker.formats.ids import AuditEventId
from broker.formats.signed_note import Verifier
from broker.rotations.minting import Minting
from broker.rotations.revocation_check import RevocationCheck
from broker.sandbox.state import Faults
from tests.support.crash import Crash
from tests.support.integrated import integrate
from tests.support.world import World

REASON = {"reason": "over"}
EXPOSURE = {"found_by": "Sven", "where": "a public repository"}


@pytest.fixture
async def acme(world: World) -> str:
    """A customer whose key is in use, over a link; the credential's id."""
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
    credential: str = (await world.call("GET", f"/v1/intakes/{intake}"))["credential"]
    return credential


async def cut(world: World, credential: str) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/versions/1/revoke", json=REASON)


async def dead(world: World, credential: str) -> None:
    """Cut the key off, have the customer revoke it, and let that be confirmed."""
    await cut(world, credential)
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()


def path_of(credential: str, number: int = 1) -> str:
    return f"/v1/credentials/{credential}/versions/{number}/certificate"


async def certificate(world: World, credential: str, number: int = 1, **wanted: Any) -> Certificate:
    """The newest one, verified with the key that the broker tells everybody."""
    await integrate(world)
    answer = await world.call("GET", path_of(credential, number), params=wanted)
    verifier = Verifier.read((await world.http.get("/v1/certificates/key")).text.removesuffix("\n"))
    return CertificateFile.decode(json.dumps(answer).encode()).certificate(verifier)


async def issued(world: World) -> int:
    """How many there are, each with its event."""
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        rows = (await session.scalars(select(CertificateRow))).all()
    assert len(await world.events(kind="credential.version.certified")) == len(rows)
    return len(rows)


async def event(world: World, event_id: str) -> dict[str, Any]:
    """What is on the record under this id."""
    found = [one for one in await world.events() if one["core"]["id"] == event_id]
    assert len(found) == 1
    core: dict[str, Any] = found[0]["core"]
    return core


async def told(world: World, kind: str) -> list[dict[str, Any]]:
    return [item for item in await world.items("/v1/notices", limit=500) if item["kind"] == kind]


async def row_of(world: World, credential: str, number: int = 1) -> VersionRow:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return await session.get_one(VersionRow, (credential, number))


def checking(world: World, **more: Any) -> RevocationCheck:
    """What the worker checks with, apart from it; ``more`` are other parts of it."""
    parts = replace(world.services.parts, **more)
    verification = Verification(parts)
    return RevocationCheck(parts, verification, Minting(parts, verification))


async def rotated(world: World, credential: str) -> None:
    rotation, intake, secret = await world.rotate(credential)
    await world.submit(intake, secret, world.new_key("acme"))
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")


async def rolled_back(world: World, credential: str) -> None:
    rotation, intake, secret = await world.rotate(credential)
    world.upstream_keys["acme"] = world.new_key("acme")
    await world.submit(intake, secret, world.upstream_keys["acme"])
    await world.call("POST", f"/v1/rotations/{rotation['id']}/rollback", json=REASON)


async def exposed(world: World, credential: str) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/exposure", json=EXPOSURE)


async def credential_revoked(world: World, credential: str) -> None:
    await world.call("POST", f"/v1/credentials/{credential}/revoke", json=REASON)


async def organization_revoked(world: World, _credential: str) -> None:
    await world.call("POST", "/v1/organizations/acme/revoke", json=REASON)


async def withdrawn(world: World, _credential: str) -> None:
    ((intake, code),) = world.codes.items()
    assert (await world.say("status", intake, code, "withdraw")).status_code == 200


WAYS: list[tuple[Callable[[World, str], Any], int, str, str]] = [
    (rotated, 1, "credential.version.retired", "promoted"),
    (rolled_back, 2, "credential.version.revoked", "rolled_back"),
    (cut, 1, "credential.version.revoked", ""),
    (exposed, 1, "credential.version.revoked", "exposed"),
    (credential_revoked, 1, "credential.revoked", ""),
    (organization_revoked, 1, "credential.revoked", "organization_revoked"),
    (withdrawn, 1, "credential.revoked", "withdrawn"),
]


@pytest.mark.parametrize(("way", "number", "kind", "reason"), WAYS, ids=[way[0].__name__ for way in WAYS])
async def test_however_a_key_ended_here_it_is_stated_dead_once_upstream_refuses_it(
    world: World, acme: str, way: Callable[[World, str], Any], number: int, kind: str, reason: str
) -> None:
    # given a key that is out of use here and works upstream
    await way(world, acme)
    await world.work()
    assert await issued(world) == 0

    # when its customer revokes it there
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work(hours=1)

    # then a certificate says so, and every event that it names says the same
    assert await issued(world) == 1
    found = await certificate(world, acme, number)
    (version,) = [one for one in await world.versions(acme) if one["number"] == number]
    assert (found.statement, found.serial, found.version) == ("dead", 1, number)
    assert (found.credential, found.provider, found.fingerprint) == (acme, "raptor-comply", version["fingerprint"])
    assert (found.ended.kind, found.ended.reason) == (kind, reason)
    assert found.ended.event is not None
    ended = await event(world, found.ended.event)
    assert (ended["kind"], ended["time"], ended.get("reason", "")) == (kind, found.ended.time, reason)
    probe = await event(world, found.answered.event)
    assert (probe["kind"], probe["reason"], probe["version"]) == ("credential.probe.completed", "bad_key", number)
    assert (probe["outcome"]["status"], probe["time"]) == (found.answered.status, found.answered.time)
    assert found.answered.status == 401
    certified = await event(world, found.issued.event)
    assert (certified["subject"], certified["reason"]) == (found.digest(), "dead")
    assert len(await told(world, "revocation_confirmed")) == 1


async def test_who_holds_the_key_knows_it_again_in_its_certificate(world: World, acme: str) -> None:
    await dead(world, acme)
    found = await certificate(world, acme)
    assert commits_to(found.commitment, world.upstream_keys["acme"].encode())
    assert not commits_to(found.commitment, world.new_key("acme").encode())
    answer = await world.http.get(path_of(acme), headers=world.admin)
    assert world.upstream_keys["acme"] not in answer.text


async def test_it_tells_the_last_use_and_who_was_shown_the_key_or_that_there_was_none(world: World, acme: str) -> None:
    # given a job that calls, and later is shown the key; its own next key is used afterwards
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    for _ in range(2):
        lease = await job.lease("acme")
        assert (await world.proxied(lease, "/facilities")).status_code == 200
    await job.lease("acme", mode="reveal")
    rotation, intake, secret = await world.rotate(acme)
    new = world.new_key("acme")
    await world.submit(intake, secret, new)
    lease = await job.lease("acme")
    await world.proxied(lease, "/facilities")
    await world.call("POST", f"/v1/rotations/{rotation['id']}/promote")

    # when both keys are dead, of which the second was shown to nobody
    world.revoke_upstream(world.upstream_keys["acme"])
    await credential_revoked(world, acme)
    world.revoke_upstream(new)
    await world.work()

    # then
    uses = {one["core"]["version"]: one for one in await world.events(kind="use.authorized")}
    (shown,) = [one for one in await world.events(kind="lease.issued") if one["core"].get("mode") == "reveal"]
    first, second = await certificate(world, acme, 1), await certificate(world, acme, 2)
    assert first.last_use == Moment(uses[1]["core"]["time"], AuditEventId(uses[1]["core"]["id"]))
    assert first.last_shown == Moment(shown["core"]["time"], AuditEventId(shown["core"]["id"]))
    assert second.last_use == Moment(uses[2]["core"]["time"], AuditEventId(uses[2]["core"]["id"]))
    assert second.last_shown == "never"


@pytest.mark.parametrize("status", [302, 307, 400, 403, 404, 408, 418, 429, 500, 503])
async def test_an_answer_that_is_not_the_declared_one_states_nothing(world: World, acme: str, status: int) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    world.upstream.faults = Faults(outage=True, status=status)
    for _ in range(5):
        await world.work(hours=24)
    assert await issued(world) == 0
    assert (await world.versions(acme))[0]["revocation_confirmed_at"] is None
    missing = await world.call("GET", path_of(acme), status=404)
    assert "no certificate yet" in missing["detail"]
    asked = await world.events(kind="credential.probe.authorized")
    assert len(asked) == len(world.upstream.requests) == 6, "each is on the record; the first verified the key"


async def test_an_answer_that_comes_too_late_states_nothing(world: World, acme: str) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    world.upstream.faults = Faults(latency_ms=1_500)
    outbound = Outbound(total_timeout=0.3)
    try:
        assert not await checking(world, outbound=outbound).probe(await row_of(world, acme))
    finally:
        await outbound.close()
    assert await issued(world) == 0


async def test_a_key_that_is_used_up_for_this_minute_is_not_dead(world: World, acme: str) -> None:
    await cut(world, acme)
    world.upstream.faults = Faults(rate_limit_per_minute=0)
    await world.work(hours=1)
    assert await issued(world) == 0


async def test_an_outage_is_waited_out_and_then_it_is_stated(world: World, acme: str) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    world.upstream.faults = Faults(outage=True)
    await world.work()
    world.upstream.faults = Faults()
    await world.work(hours=1)
    assert await issued(world) == 1


async def test_a_dead_key_is_asked_about_again_after_a_day_a_week_and_a_month_and_then_destroyed(
    world: World, acme: str
) -> None:
    await dead(world, acme)
    first = await certificate(world, acme)
    world.upstream.requests.clear()
    asked = []
    for day in range(1, 40):
        await world.work(hours=24)
        if world.upstream.requests:
            asked.append(day)
            world.upstream.requests.clear()
    assert asked == [1, 7, 30]

    # each has its statement, which supersedes the one before and tells the same of the key
    assert await issued(world) == 4
    before = first
    for serial in (2, 3, 4):
        found = await certificate(world, acme, serial=serial)
        assert (found.serial, found.supersedes, found.statement) == (serial, before.digest(), "dead")
        assert (found.refused, found.commitment, found.ended) == (first.refused, first.commitment, first.ended)
        assert found.answered.time > before.answered.time
        before = found
    assert before == await certificate(world, acme)

    # and the last one says that nothing is left to ask with
    assert before.destroyed is not None
    assert (await event(world, before.destroyed.event))["kind"] == "credential.version.destroyed"
    row = await row_of(world, acme)
    assert (row.sealed, row.destroyed_at) == (None, before.destroyed.time)
    assert len(await told(world, "revocation_confirmed")) == 1, "people are told once"
    assert (await certificate(world, acme, serial=1)) == first, "as it was"


async def test_a_worker_that_rested_for_weeks_asks_once_before_anything_is_destroyed(world: World, acme: str) -> None:
    await dead(world, acme)
    world.upstream.requests.clear()
    await world.work(hours=50 * 24)
    assert len(world.upstream.requests) == 1
    assert (await certificate(world, acme)).destroyed is not None


async def test_a_dead_key_is_no_bodys_to_use(world: World, acme: str) -> None:
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    lease = await job.lease("acme")
    await dead(world, acme)
    assert (await row_of(world, acme)).sealed is not None, "kept to ask again"
    for mode in ("use", "reveal"):
        assert (await job.ask("acme", mode=mode)).status_code in {403, 409}
    assert (await world.proxied(lease, "/facilities")).status_code in {403, 409}
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/activate", status=409)
    listed = await world.items("/v1/credentials", only="awaiting_revocation")
    assert listed == []


@pytest.mark.parametrize("faults", [Faults(outage=True), Faults(outage=True, status=403)], ids=["down", "403"])
async def test_a_dead_key_about_which_upstream_says_nothing_is_destroyed_some_days_later(
    world: World, acme: str, faults: Faults
) -> None:
    await dead(world, acme)
    first = await certificate(world, acme)
    world.upstream.faults = faults
    for _ in range(36):
        await world.work(hours=24)
    assert (await row_of(world, acme)).sealed is not None
    assert await certificate(world, acme) == first, "no answer states nothing"
    for _ in range(2):
        await world.work(hours=24)
    found = await certificate(world, acme)
    assert (found.statement, found.answered, found.serial) == ("dead", first.answered, 2)
    assert found.destroyed is not None
    gone = await event(world, found.destroyed.event)
    assert (gone["kind"], gone["reason"]) == ("credential.version.destroyed", "unanswered")


async def test_a_key_that_an_operator_destroyed_can_be_asked_about_no_more_and_its_certificate_says_so(
    world: World, acme: str
) -> None:
    await dead(world, acme)
    first = await certificate(world, acme)
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/destroy")
    found = await certificate(world, acme)
    assert found.destroyed is not None
    assert (found.supersedes, found.answered) == (first.digest(), first.answered)
    assert (await event(world, found.destroyed.event))["actor"]["type"] == "operator"
    world.upstream.requests.clear()
    await world.work(hours=24 * 8)
    assert list(world.upstream.requests) == []
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/destroy")
    assert await issued(world) == 2, "again: nothing new"


async def test_a_key_that_was_destroyed_before_it_was_refused_has_none(world: World, acme: str) -> None:
    await cut(world, acme)
    await world.call("POST", f"/v1/credentials/{acme}/versions/1/destroy")
    assert "nobody can ask" in (await world.call("GET", path_of(acme), status=404))["detail"]


async def test_a_key_that_works_again_takes_the_statement_back_and_everybody_is_told(world: World, acme: str) -> None:
    # given a dead key of an incident that is over
    await exposed(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    await world.work()
    first = await certificate(world, acme)
    key = world.upstream.key_of(world.upstream_keys["acme"])
    assert key is not None

    # when upstream takes it a week later
    key.state = "active"
    await world.work(hours=24 * 7)

    # then what was stated is taken back
    found = await certificate(world, acme)
    assert (found.statement, found.serial, found.supersedes) == ("accepted-again", 2, first.digest())
    assert (found.answered.status, found.refused) == (200, first.refused)
    (again,) = await world.events(kind="credential.version.accepted_again")
    assert again["core"]["version"] == 1
    probe = await event(world, found.answered.event)
    assert (probe["reason"], probe["outcome"]["status"]) == ("good", 200)

    # operators and the customer are told, the key awaits its revocation, and the incident is open
    (notice,) = await told(world, "key_accepted_again")
    assert notice["severity"] == "urgent"
    (version,) = await world.versions(acme)
    assert version["status"] == "awaiting upstream revocation"
    assert [one["id"] for one in await world.items("/v1/credentials", only="awaiting_revocation")] == [acme]
    assert [one["state"] for one in await world.items("/v1/exposures")] == ["open"]

    # and once it is refused, that is stated anew, and asked about again
    key.state = "revoked"
    await world.work(hours=1)
    anew = await certificate(world, acme)
    assert (anew.statement, anew.serial, anew.supersedes) == ("dead", 3, found.digest())
    assert anew.refused == anew.answered
    assert len(await told(world, "revocation_confirmed")) == 2
    await world.work(hours=25)
    assert (await certificate(world, acme)).serial == 4


async def test_a_key_that_works_again_alarms_each_time(world: World, acme: str) -> None:
    await dead(world, acme)
    key = world.upstream.key_of(world.upstream_keys["acme"])
    assert key is not None
    for _ in range(2):
        key.state = "active"
        await world.work(hours=24)
        key.state = "revoked"
        await world.work(hours=24)
    assert len(await told(world, "key_accepted_again")) == 2
    assert (await certificate(world, acme)).serial == 5


async def test_two_workers_at_once_make_one_certificate(world: World, acme: str) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    row = await row_of(world, acme)
    world.upstream.faults = Faults(latency_ms=200)
    await asyncio.gather(checking(world).probe(row), checking(world).probe(row))
    assert await issued(world) == 1
    assert len(await told(world, "revocation_confirmed")) == 1
    completed = [one for one in await world.events(kind="credential.probe.completed") if "outcome" in one["core"]]
    assert [one["core"]["reason"] for one in completed][-2:] == ["bad_key", "bad_key"], "both are on the record"


async def test_two_workers_at_once_ask_again_once(world: World, acme: str) -> None:
    await dead(world, acme)
    world.clock.forward(hours=25)
    row = await row_of(world, acme)
    await asyncio.gather(checking(world).probe(row), checking(world).probe(row))
    assert await issued(world) == 2


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_process_that_dies_over_a_certificate_loses_nothing(
    world: World, acme: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    real = certificates.issue

    def dying(*arguments: Any) -> Any:
        if moment == "after":
            real(*arguments)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(certificates, "issue", dying)
        with pytest.raises(Crash):
            await checking(world).probe(await row_of(world, acme))
    assert (await row_of(world, acme)).confirmed_at is None, "neither the confirmation nor its statement"
    assert await issued(world) == 0
    await world.work()
    assert await issued(world) == 1


async def test_a_process_that_dies_while_it_asks_loses_nothing(world: World, acme: str) -> None:
    await cut(world, acme)
    world.revoke_upstream(world.upstream_keys["acme"])
    world.upstream.faults = Faults(latency_ms=60_000)
    world.upstream.requests.clear()
    asking = asyncio.create_task(checking(world).probe(await row_of(world, acme)))
    async with asyncio.timeout(30):
        while not world.upstream.requests:
            await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    world.upstream.faults = Faults()
    await world.work()
    assert await issued(world) == 1


async def test_a_certificate_that_was_altered_is_not_given_out(world: World, acme: str) -> None:
    await dead(world, acme)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        row = (await session.scalars(select(CertificateRow))).one()
        note = row.note.replace(b"statement: dead", b"statement: deaf")
        await session.execute(update(CertificateRow).values(note=note))
    refused = await world.call("GET", path_of(acme), status=409)
    assert refused["code"] == "certificate_altered"


async def test_who_may_read_the_key_may_read_its_certificate_and_nobody_else(world: World, acme: str) -> None:
    await dead(world, acme)
    await world.organization("globex")
    for role in ("operator", "security"):
        own = await world.operator(f"acme-{role}", role, organizations=["acme"])
        other = await world.operator(f"globex-{role}", role, organizations=["globex"])
        await world.call("GET", path_of(acme), as_=own)
        refused = await world.call("GET", path_of(acme), as_=other, status=404)
        unknown = await world.call("GET", path_of("crd_" + "0" * 32), as_=other, status=404)
        assert refused["detail"] == unknown["detail"]
    await world.call("GET", path_of(acme), as_={}, status=401)
    job = await world.job()
    await world.call("GET", path_of(acme), as_=await job.headers(), status=401)


async def test_what_there_is_none_of_is_said_in_plain_words(world: World, acme: str) -> None:
    assert "not out of use here" in (await world.call("GET", path_of(acme), status=404))["detail"]
    assert "no such version" in (await world.call("GET", path_of(acme, 2), status=404))["detail"]
    await dead(world, acme)
    missing = await world.call("GET", path_of(acme), params={"serial": 2}, status=404)
    assert "leave the serial out" in missing["detail"]
    answer = await world.http.get(path_of(acme), headers=world.admin)
    assert answer.headers["content-disposition"] == f'attachment; filename="{acme}-1.certificate.json"'


async def test_its_file_has_the_receipts_of_the_events_that_it_names(world: World, acme: str) -> None:
    parts = world.services.parts
    job = await world.job()
    await world.grant(job, "acme")
    await world.proxied(await job.lease("acme"), "/facilities")
    await dead(world, acme)
    await world.work(seconds=5)

    answer = await world.http.get(path_of(acme), headers=world.admin)
    file = CertificateFile.decode(answer.content)
    assert file.encode() == answer.content
    found = file.certificate(parts.keys.certifying.verifier())
    assert tuple(file.receipts) == found.events()
    assert isinstance(found.last_use, Moment)
    assert {found.last_use.event, found.ended.event, found.answered.event, found.issued.event} == set(found.events())
    # and whoever has the keys verifies all of it, without the broker
    trusted = [
        key
        for path in ("/v1/audit/log/key", "/v1/certificates/key")
        for key in verify.keys((await world.http.get(path)).text)
    ]
    said, proven = verify.certificate(answer.text, trusted)
    assert (said["statement"], said["credential"], said["version"]) == ("dead", acme, "1")
    assert {event.core["id"] for event in proven} == set(found.events())
    for changed in (
        answer.text.replace("dead", "daed", 1),
        answer.text.replace(found.answered.event, found.issued.event, 1),
        answer.text.replace("index ", "index 1", 1),
    ):
        with pytest.raises(verify.Refused):
            verify.certificate(changed, trusted)
    with pytest.raises(verify.Refused, match="no key that you trust"):
        verify.certificate(answer.text, trusted[:1])


async def test_an_event_that_is_archived_has_no_receipt_and_one_that_is_too_new_is_waited_for(
    world: World, acme: str
) -> None:
    await dead(world, acme)
    newest = (await certificate(world, acme)).issued.event

    async def archived(_db: Database, _scope: Scope, event_id: AuditEventId, *, personal: bool) -> bytes:
        assert not personal
        if event_id != newest:
            raise NotFound("It is in an archive.")
        return b"c2sp.org/tlog-proof@v1\n"

    async def late(_db: Database, _scope: Scope, _event_id: AuditEventId, *, personal: bool) -> bytes:
        assert not personal
        raise Unavailable("No checkpoint covers this event yet; try again in a second.")

    def giving(receipt: certificates.Receipt) -> None:
        made = certificates.Certificates(world.services.parts, receipt)
        world.app.state.services = replace(world.services, certificates=made)

    giving(archived)
    answer = await world.http.get(path_of(acme), headers=world.admin)
    assert list(CertificateFile.decode(answer.content).receipts) == [newest]
    giving(late)
    await world.call("GET", path_of(acme), status=503)


async def test_what_is_in_archives_is_not_said_to_have_never_been(world: World, acme: str) -> None:
    # given a key whose first month is archived, and with it its end
    await cut(world, acme)
    row = await row_of(world, acme)
    assert row.revoked_at is not None
    db = world.services.parts.db
    assert (await traces_of(db, row))[1:] == ("never", "never")
    async with db.write(EVERY_TENANT) as session:
        at = {"earliest": row.staged_at, "latest": row.revoked_at, "archived_at": row.revoked_at}
        session.add(ArchiveRow(month=202001, first=0, count=0, root=bytes(32), **at))
    row.revoked_at = later(row.revoked_at, 60_000)  # no event is of that moment

    # then nothing is said of either
    assert await traces_of(db, row) == (Ended(row.revoked_at, None), "not-kept", "not-kept")


async def test_a_last_use_is_found_behind_many_of_the_next_key(world: World, acme: str) -> None:
    job = await world.job()
    await world.grant(job, "acme")
    lease = await job.lease("acme")
    await world.proxied(lease, "/facilities")
    _, intake, secret = await world.rotate(acme)
    await world.submit(intake, secret, world.new_key("acme"))
    await asyncio.gather(*(world.proxied(lease, "/facilities") for _ in range(20)))
    await world.proxied(await job.lease("acme"), "/facilities")
    await credential_revoked(world, acme)
    (first, *_, last) = await world.events(kind="use.authorized")
    assert last["core"]["version"] == 2
    found = (await traces_of(world.services.parts.db, await row_of(world, acme), page=3)).last_use
    assert found == Moment(first["core"]["time"], AuditEventId(first["core"]["id"]))
