"""Closed requests for keys, rotations that have ended, and what destroyed keys showed."""

from __future__ import annotations

from broker.base.id_column import IdText
from broker.credentials.tables import KeyEvidenceRow, RotationRow
from broker.formats.ids import CredentialId
from broker.intake.tables import IntakeRow
from tests.pruning.conftest import Rows, ago
from tests.support.world import World


async def test_a_closed_request_goes_with_what_is_sealed_in_it(kept: Rows) -> None:
    gone = [await kept.intake(state, ago(401)) for state in ("cancelled", "expired", "accepted")]
    lately = await kept.intake("cancelled", ago(399))
    going_on = [await kept.intake(state, None) for state in ("open", "verifying", "held")]
    await kept.prune("intakes")
    assert await kept.left(IntakeRow.id) == {lately, *going_on}
    await kept.prune("intakes")
    assert not await kept.left(IntakeRow.id) & {*gone}


async def test_a_request_whose_code_opens_a_status_page_stays_while_that_is_of_use(kept: Rows) -> None:
    used, lately, over = await kept.credential(), await kept.credential(revoked_at=ago(10)), None
    over = await kept.credential(revoked_at=ago(401))
    came = {
        each: await kept.intake("accepted", ago(800), credential_id=each, version=1, submitted_at=ago(800))
        for each in (used, lately, over)
    }
    nothing_came = await kept.intake("expired", ago(800), credential_id=used)
    await kept.prune("intakes")
    assert await kept.left(IntakeRow.id) == {came[used], came[lately]}
    assert nothing_came not in await kept.left(IntakeRow.id)


async def test_a_request_of_a_rotation_that_goes_on_stays_and_the_rotation_with_it(kept: Rows) -> None:
    credential, other = await kept.credential(), await kept.credential()
    open_one, ended = await kept.rotation(credential, None), await kept.rotation(other, ago(500))
    stays = await kept.intake("expired", ago(450), rotation_id=open_one)
    goes = await kept.intake("expired", ago(450), rotation_id=ended)
    await kept.prune("rotations")
    assert await kept.left(RotationRow.id) == {open_one, ended}, "a link of it could be opened again, it seems"
    await kept.prune("intakes")
    assert await kept.left(IntakeRow.id) == {stays}
    await kept.prune("rotations")
    assert await kept.left(RotationRow.id) == {open_one}
    assert goes != stays


async def test_a_rotation_that_ended_goes_unless_an_incident_may_name_it(kept: Rows) -> None:
    exposed, other = await kept.credential(), await kept.credential()
    await kept.exposure(exposed, ago(700))
    named, gone, lately = [
        await kept.rotation(credential, ended_at)
        for credential, ended_at in ((exposed, ago(600)), (other, ago(600)), (other, ago(399)))
    ]
    await kept.prune("rotations")
    assert await kept.left(RotationRow.id) == {named, lately}
    assert gone not in await kept.left(RotationRow.id)


async def test_ids_that_a_destroyed_key_showed_go_if_a_later_key_showed_some(kept: Rows) -> None:
    replaced, alone, lately = [await kept.credential() for _ in range(3)]
    for credential, destroyed_at in ((replaced, ago(401)), (alone, ago(401)), (lately, ago(10))):
        await kept.version(credential, 1, state="revoked", destroyed_at=destroyed_at)
        await showed(kept, credential, 1)
    for credential in (replaced, lately):
        await kept.version(credential, 2)
        await showed(kept, credential, 2)
    await kept.prune("evidence")
    left = await kept.left(IdText(KeyEvidenceRow.credential_id) + ":" + KeyEvidenceRow.id_hash)
    assert left == {f"{replaced}:2", f"{alone}:1", f"{lately}:1", f"{lately}:2"}


async def showed(kept: Rows, credential: CredentialId, number: int) -> None:
    row = KeyEvidenceRow(
        organization_id=kept.organization, credential_id=credential, version=number, id_hash=str(number)
    )
    await kept.add(row)


async def test_a_customer_opens_their_status_page_years_after_they_sent_the_key(world: World) -> None:
    await world.organization("acme")
    intake, secret = await world.request_key("acme")
    assert (await world.submit(intake, secret, world.upstream_keys["acme"])).json()["state"] == "accepted"
    await world.work(hours=24 * 900)
    opened = await world.say("status", intake, world.codes[intake], "open")
    assert opened.status_code == 200, opened.text
