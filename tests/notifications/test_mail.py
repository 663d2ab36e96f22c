"""Mail goes to the one address that it is meant for."""

from __future__ import annotations

from typing import Literal

import pytest
from sqlalchemy import update

from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT
from broker.credentials.tables import CredentialRow
from broker.intake.tables import IntakeRow
from broker.notifications.mail import Deferred, Mail
from broker.notifications.notices import notify
from broker.notifications.tables import NoticeRow
from tests.notifications.conftest import Mailbox, Notifying

NONE = ["a,b@acme.example", "a;b@acme.example", "<a@acme.example>", "admin@acme.example.", "adm\u200bin@acme.example"]


@pytest.mark.parametrize("contact", NONE)
async def test_a_contact_that_is_not_one_address_is_refused_wherever_it_is_given(
    notifying: Notifying, contact: str
) -> None:
    world = notifying.world
    credential = await world.key_for("acme")
    where = {"organization": "acme", "provider": "raptor-comply", "label": "second", "contact": contact}
    for path, body in (
        ("/v1/intakes", where),
        ("/v1/credentials", {**where, "key": world.new_key("acme")}),
        (f"/v1/credentials/{credential}/rotate", {"contact": contact}),
    ):
        refused = await world.call("POST", path, status=422, json=body)
        assert "contact" in refused["detail"]
        assert "write one e-mail address" in refused["detail"]


@pytest.mark.parametrize("security", ["tls", "starttls"])
async def test_where_tls_is_asked_for_nothing_is_sent_to_a_server_that_speaks_none(
    mailbox: Mailbox, security: Literal["tls", "starttls"]
) -> None:
    sender = "keys@gridwise.example"
    notice = NoticeRow(
        id="ntc_1", organization_id="org_1", kind="key_exposed", credential_id="crd_1", version=1, provider="lab",
        contact="", dedup="", facts={"last4": "9gH6", "exposure": "exp_1", "revoke_steps": ""}, created_at=0,
    )  # fmt: skip

    def mail(security: Literal["tls", "starttls", "none"]) -> Mail:
        return Mail("127.0.0.1", mailbox.port, security, "", None, sender, "Gridwise", "", (), {})

    with pytest.raises(Deferred):
        await mail(security).send(notice, "sven@gridwise.example", "operator")
    assert mailbox.came == []
    await mail("none").send(notice, "sven@gridwise.example", "operator")
    assert len(mailbox.came) == 1


async def test_a_contact_in_another_script_is_mailed_by_a_server_without_smtputf8(notifying: Notifying) -> None:
    world = notifying.world
    credential = await world.key_for("acme")
    asked = await world.call(
        "POST", f"/v1/credentials/{credential}/rotate", status=201, json={"contact": "admin@bücher.example"}
    )
    await world.work()
    (mail,) = notifying.mailbox.to("admin@xn--bcher-kva.example")
    assert mail["To"] == "admin@xn--bcher-kva.example"
    request = await world.call("GET", f"/v1/intakes/{asked['rotation']['intake']}")
    assert request["contact"] == "admin@xn--bcher-kva.example"


async def test_contacts_from_before_they_were_checked_are_mailed_to_nobody_else_and_stop_nothing(
    notifying: Notifying,
) -> None:
    world = notifying.world
    credential = await world.key_for("acme")
    rotation, _, _ = await world.rotate(credential)
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await session.execute(update(CredentialRow).values(contact=NONE[0]))
        await session.execute(update(IntakeRow).values(contact=NONE[0]))
        for number, contact in enumerate([*NONE, "admin@bücher.example", "next@acme.example"]):
            await notify(
                session,
                "key_exposed",
                organization=rotation["organization"],
                provider="raptor-comply",
                contact=contact,
                now=Millis(0),
                dedup=f"n{number}",
            )
    assert (await world.call("GET", f"/v1/credentials/{credential}"))["contact"] == NONE[0]
    await world.call("POST", f"/v1/rotations/{rotation['id']}/cancel", json={})
    await world.work()
    customers = {to[0] for to, _ in notifying.mailbox.came} - {"security@gridwise.example"}
    assert customers == {"admin@acme.example", "admin@xn--bcher-kva.example", "next@acme.example"}
    assert all(len(to) == 1 for to, _ in notifying.mailbox.came)
    dead = await notifying.deliveries(state="dead")
    assert {one["last_error"] for one in dead} == {"not_a_mailbox"}
    assert {one["destination"] for one in dead} == set(NONE)
    assert {one["tries"] for one in dead} == {1}
