"""The overview shows what needs a person first, and counts what there is."""

from __future__ import annotations

from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.support.world import World


async def test_a_broker_that_has_nothing_tells_the_next_step(admin: Reader) -> None:
    page = await admin.get("")
    assert "Nothing waits for anybody." in page
    assert "Add a customer, then ask them for a key" in page


async def test_what_needs_a_person_is_on_top_with_its_own_page(admin: Reader, filled: Filled) -> None:
    page = await admin.get("")
    todo = page[page.index('id="todo"') : page.index('id="use"')]
    for path in (
        f"/console/keys/{filled.failing}",
        f"/console/incidents/{filled.exposure}",
        f"/console/grants/{filled.waiting}",
        "/console/requests/int_",
    ):
        assert path in todo


async def test_uses_and_refusals_of_each_day_are_a_picture_and_a_table(admin: Reader, filled: Filled) -> None:
    page = await admin.get("")
    assert '<rect class="use"' in page
    assert '<rect class="refusal"' in page
    uses = len(await filled.world.events(kind="use.authorized"))
    refusals = len(await filled.world.events(kind="use.denied")) + len(await filled.world.events(kind="lease.denied"))
    assert f"{uses} uses and {refusals} refusals in 30 days" in page


async def test_a_limited_account_sees_its_own_customers_numbers_alone(world: World, filled: Filled) -> None:
    few = Reader(world, await world.operator("eve", "operator", organizations=["dune-solar"]))
    page = await few.get("")
    assert filled.failing not in page
    assert "acme-power" not in page
    assert "No job has used a key in this time." in page
    assert "There is no key yet." in page
