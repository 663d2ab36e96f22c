"""Webhooks are added, tested and ended on pages; what is secret of them is shown once or never."""

from __future__ import annotations

import html
import json
import re

import pytest
from standardwebhooks import Webhook

from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.console.test_acts import mark_of
from tests.notifications.conftest import Notifying
from tests.notifications.conftest import mailbox as mailbox  # noqa: PLC0414 - the same mail server
from tests.notifications.conftest import notifying as notifying  # noqa: PLC0414 - the same receivers
from tests.support.world import World

PATH = "/settings/webhooks"


def secret_of(page: str) -> str:
    return str(re.findall(r'id="secret"[^>]* value="([^"]+)"', page)[0])


async def test_a_webhook_is_added_with_a_secret_that_verifies_what_a_test_posts(notifying: Notifying) -> None:
    # given a webhook whose form was sent twice
    admin, receiver = Reader(notifying.world, notifying.world.admin), notifying.receiver
    url = f"{receiver.url}/hook?token=very-secret-part"
    fields = {"url": url, "once": mark_of(await admin.get(f"{PATH}/new"))}
    first, again = [(await admin.post(f"{PATH}/new", 200, **fields, kinds="key_exposed")).text for _ in range(2)]
    assert secret_of(first) == secret_of(again)
    (made,) = await notifying.world.items("/v1/webhooks")
    assert made["kinds"] == ["key_exposed"]
    # when it is tested
    path = f"{PATH}/{made['id']}"
    assert "The receiver took it." in (await admin.post(f"{path}/test", 200)).text
    # then what came is signed with it, and no page has it or the address again
    headers, body = receiver.came[-1]
    assert json.loads(body)["type"] == "test"
    Webhook(secret_of(first)).verify(body, headers)
    for page in (await admin.get(path), await admin.get("/settings")):
        assert secret_of(first) not in page
        assert "very-secret" not in page
    # and a receiver that refuses is told of
    receiver.status = 500
    refused = (await admin.post(f"{path}/test", 200)).text
    assert "The receiver took nothing." in refused
    assert "It answered 500." in refused


async def test_a_new_secret_is_made_once_and_signs_beside_the_previous_one(notifying: Notifying) -> None:
    admin = Reader(notifying.world, notifying.world.admin)
    made = await notifying.webhook()
    path = f"{PATH}/{made['webhook']['id']}"
    asked = await admin.get(f"{path}/rotate-secret")
    assert "for a day" in asked
    both = [(await admin.post(f"{path}/rotate-secret", 200, once=mark_of(asked))).text for _ in range(2)]
    assert secret_of(both[0]) == secret_of(both[1]) != made["secret"]
    await admin.post(f"{path}/test", 200)
    headers, body = notifying.receiver.came[-1]
    for secret in (made["secret"], secret_of(both[0])):
        Webhook(secret).verify(body, headers)


async def test_a_webhook_is_revoked_once_it_was_told_what_stops(admin: Reader, filled: Filled) -> None:
    path = f"{PATH}/{filled.webhook}"
    asked = await admin.get(f"{path}/revoke")
    assert "No notice about every customer is posted to siem.gridwise.example/…oker any more." in asked
    await admin.post(f"{path}/revoke")
    page = await admin.get(path)
    assert ">revoked<" in page
    assert "Test it" not in page


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"url": "http://x.example/secret-part"}, 422, "url: "),
        ({"url": "https://x.example/secret-part", "organization": "nobody"}, 404, "There is no such organization"),
        ({"url": "https://x.example/secret-part", "kinds": "no_such"}, 422, "kinds"),
    ],
)
async def test_a_webhook_that_is_refused_says_why_and_doesn_t_show_the_address_again(
    admin: Reader, filled: Filled, wrong: dict[str, str], status: int, says: str
) -> None:
    page = (await admin.post(f"{PATH}/new", status, **{"format": "slack", "organization": "acme-power", **wrong})).text
    assert says in html.unescape(page)
    assert 'value="slack" selected' in page
    assert "secret-part" not in page


async def test_everybody_looks_and_a_limited_account_has_its_own_customers_alone(world: World, filled: Filled) -> None:
    few = Reader(world, await world.operator("eve", "operator", organizations=["birch-grid"]))
    wanted = {"url": "https://x.example/keybroker"}
    refused = (await few.post(f"{PATH}/new", 403, **wanted)).text
    assert "your account is limited to some organizations" in refused
    await few.get(f"{PATH}/{filled.webhook}", 404)
    for act in ("test", "rotate-secret", "revoke"):
        await few.post(f"{PATH}/{filled.webhook}/{act}", 404)
    await few.post(f"{PATH}/new", 200, **wanted, organization="birch-grid")
    assert "x.example" in await few.get("/settings")
