"""Events are kept for as long as their class is, then pruned by policy: not lost, and every proof of the rest holds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pytest
from sqlalchemy import delete, func, select, text
from sqlalchemy.exc import DBAPIError

from broker.audit import heads, holds, integrating, pruned
from broker.audit.events import BROKER, KINDS, Event
from broker.audit.exporting import between, of_organization
from broker.audit.indexing import follow
from broker.audit.integrating import integrate
from broker.audit.organization_heads import head_now
from broker.audit.places import BLOCK
from broker.audit.record import record
from broker.audit.retention import FOR_GOOD, FUNCTIONS, PAGE, Class, Retention, class_of, duty, prune
from broker.audit.search import Filter, search
from broker.audit.subjects import SubjectKeys
from broker.audit.tables import CursorRow, EventRow, HeadRow, OrganizationHeadRow
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict
from broker.client import verify
from broker.formats.audit_event import entry_from
from broker.formats.head import Head
from broker.formats.ids import NoId, OrganizationId
from broker.formats.merkle import Tree
from tests.audit.test_months import user
from tests.support.ids import nth
from tests.support.past import moment, record_in, signers

__all__ = ["user"]

MONTH = 202506
ACME, GLOBEX = OrganizationId(nth("org", 1)), OrganizationId(nth("org", 2))
# In turn: of each class, one that stays for good, and of two customers.
TURN: tuple[tuple[str, OrganizationId | NoId], ...] = (
    ("use.authorized", ACME),
    ("use.denied", GLOBEX),
    ("grant.revoked", ACME),
    ("use.completed", GLOBEX),
    ("record.archived", ""),
    ("lease.issued", ACME),
    ("lease.ended", GLOBEX),
    ("organization.renamed", GLOBEX),
)
OVER = moment(MONTH, 3 * 86_400 + 40 * 86_400)


def nth_event(number: int) -> Event:
    kind, organization = TURN[number % len(TURN)]
    return Event(kind=kind, time=moment(MONTH, number), actor=BROKER, organization=organization, note=f"note {number}")


async def fill(db: Database, count: int = BLOCK + 100) -> None:
    """So many events of a month, in the log and the index."""
    await record_in(db, MONTH, *map(nth_event, range(count)))
    await integrate(db, signers)
    await follow(db)
    await followed_to(db, count)


async def followed_to(db: Database, index: int, name: str = "use_days") -> None:
    async with db.write(EVERY_TENANT) as session:
        await session.merge(CursorRow(name=name, next=index))


async def here(db: Database) -> set[int]:
    async with db.read(EVERY_TENANT) as session:
        return set(await session.scalars(select(EventRow.idx).where(EventRow.idx < BLOCK + 100)))


def of(kinds: Sequence[str], count: int = BLOCK) -> set[int]:
    return {number for number in range(count) if TURN[number % len(TURN)][0] in kinds}


async def gone(db: Database) -> set[int]:
    return set(range(BLOCK + 100)) - await here(db)


async def policies(db: Database) -> list[str]:
    async with db.read(EVERY_TENANT) as session:
        rows = await session.scalars(select(EventRow).where(EventRow.kind == "audit.pruned").order_by(EventRow.idx))
        return [row.core.decode() for row in rows]


def test_every_kind_of_events_has_a_class_or_stays_for_good() -> None:
    classes = {kind: class_of(kind) for kind in KINDS}
    assert {kind for kind, name in classes.items() if name is None} == FOR_GOOD
    assert {kind for kind, name in classes.items() if name == "uses"} == {
        "use.authorized",
        "use.completed",
        "use.outcome_unknown",
    }
    decisions = {kind for kind, name in classes.items() if name == "decisions"}
    assert {"lease.issued", "lease.denied", "use.denied", "auth.denied", "audit.read"} <= decisions
    assert {"grant.created", "credential.revoked", "organization.created"} <= {
        kind for kind, name in classes.items() if name == "changes"
    }
    assert set(classes.values()) == {None, "uses", "decisions", "changes"}
    # without these nobody could show of what is left that it is whole
    assert {"audit.head", "log.key_rotated", "log.key_retired"} <= FOR_GOOD


async def test_an_export_is_refused_for_what_was_pruned_and_is_whole_from_the_next_head_on(db: Database) -> None:
    async def head(at: int) -> OrganizationHeadRow:
        made = await head_now(db, ACME, Millis(at))
        assert made is not None
        await integrate(db, signers)
        return made

    # given events of which the uses are over, a head that has them, and later ones
    await fill(db)
    first = await head(OVER)
    await prune(db, "uses", 40, OVER)
    async with db.write(EVERY_TENANT) as session:
        await record(session, Event(kind="grant.revoked", time=Millis(OVER + 1), actor=BROKER, organization=ACME))
    await integrate(db, signers)
    last = await head(OVER + 600_000)
    # when both times are exported
    with pytest.raises(Conflict, match="pruned by policy"):
        await between(db, ACME, None, Millis(first.time - 60_000), OVER)
    wanted = await between(db, ACME, Millis(first.time + 60_000), Millis(last.time - 60_000), OVER)
    lines = [line.decode() async for line in of_organization(db, wanted, personal=False)]
    # then one is refused, and the other has its one event
    found = verify.export(lines, [verify.Key(signers(0).name, signers(0).verifier().public)])
    assert (found.organization, found.events) == (ACME, 1)


async def test_the_record_is_kept_for_ever_unless_somebody_says_otherwise(db: Database) -> None:
    await record_in(db, MONTH, *map(nth_event, range(10)))
    assert Retention().limited() == {}
    await duty(db, lambda: OVER, Retention()).run()
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(func.count()).select_from(EventRow)) == 10


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("uses", ("use.authorized", "use.completed")),
        ("decisions", ("use.denied", "lease.issued", "lease.ended")),
        ("changes", ("grant.revoked", "organization.renamed")),
    ],
)
async def test_a_class_that_is_over_goes_and_every_proof_of_the_rest_holds(
    db: Database, name: Class, kinds: Sequence[str]
) -> None:
    await fill(db)
    async with db.read(EVERY_TENANT) as session:
        before = [*await session.scalars(select(EventRow.entry).order_by(EventRow.idx))]
        note = await integrating.newest(session)
    assert note is not None
    # when
    await prune(db, name, 40, OVER)
    # then just these are gone, the block that isn't full stays, and what is gone is known
    assert await gone(db) == of(kinds)
    async with db.read(EVERY_TENANT) as session:
        assert await pruned.within(session, 0, BLOCK + 100) == of(kinds)
        assert await pruned.between(session) == pruned.Gone(0, BLOCK)
        assert await pruned.between(session, after=BLOCK) is None
        assert await pruned.between(session, since=moment(MONTH, BLOCK + 50)) is None
        assert await pruned.between(session, until=moment(MONTH, 5)) == pruned.Gone(0, BLOCK)
        # the log has all entries, and its root is as it was
        entries = await integrating.entries(session, 0, note.size)
        assert entries == before
        assert await integrating.entries(session, 300, 700) == before[300:700]
        tree = Tree()
        for entry in entries:
            tree.add(entry)
        assert tree.root() == note.root
        # what is left is what was committed to, at its place
        for row in await session.scalars(select(EventRow).where(EventRow.idx < BLOCK)):
            assert row.entry == before[row.idx] == entry_from(row.core, row.salt_core, row.personal_commitment)
    # it is on the record, a page at a time, and the log goes on
    told = await policies(db)
    assert len(told) == -(-len(of(kinds)) // PAGE)
    counts = [int(found) for one in told for found in re.findall(r"count=([0-9]+)", one)]
    assert sum(counts) == len(of(kinds))
    assert all(f"class={name},days=40,first=" in one for one in told)
    await integrate(db, signers)
    async with db.read(EVERY_TENANT) as session:
        assert await integrating.size(session) == await session.scalar(select(HeadRow.size))
    # and to do it again does nothing
    await prune(db, name, 40, OVER)
    assert await policies(db) == told


async def test_nothing_goes_before_its_time_or_before_the_log_and_all_who_follow_have_it(db: Database) -> None:
    await record_in(db, MONTH, *map(nth_event, range(BLOCK + 100)))

    async def nothing_goes() -> bool:
        await prune(db, "uses", 40, OVER)
        return await here(db) == set(range(BLOCK + 100))

    await follow(db)
    assert await nothing_goes(), "the log doesn't have it yet"
    await integrate(db, signers)
    await followed_to(db, BLOCK + 100)
    await followed_to(db, BLOCK - 1, "sink/files")
    assert await nothing_goes(), "somebody has not seen all of it"
    await followed_to(db, BLOCK, "sink/files")
    await prune(db, "uses", 44, OVER)
    assert await here(db) == set(range(BLOCK + 100)), "it isn't over"
    await prune(db, "uses", 40, OVER)
    assert await gone(db) == of(("use.authorized", "use.completed"))


async def test_a_legal_hold_keeps_events_until_it_is_lifted(db: Database) -> None:
    db.row_key = bytes(32)
    await fill(db)

    async def place(whose: OrganizationId | NoId) -> None:
        async with db.write(EVERY_TENANT) as session:
            await holds.place(session, BROKER, whose, OVER)

    async def lift(whose: OrganizationId | NoId) -> None:
        async with db.write(EVERY_TENANT) as session:
            assert await holds.lift(session, BROKER, whose, OVER)

    await place("")
    await place(ACME)
    await prune(db, "uses", 40, OVER)
    assert await gone(db) == set(), "everything is held"
    await lift("")
    await prune(db, "uses", 40, OVER)
    assert await gone(db) == of(("use.completed",)), "acme's are held"
    await lift(ACME)
    await prune(db, "uses", 40, OVER)
    assert await gone(db) == of(("use.authorized", "use.completed"))


async def test_a_search_and_a_kept_head_tell_pruned_events_from_lost_ones(db: Database) -> None:
    await fill(db)
    async with db.read(EVERY_TENANT) as session:
        entries = [*await session.scalars(select(EventRow.entry).order_by(EventRow.idx).limit(20))]
    await prune(db, "uses", 40, OVER)
    # whoever looks for what is gone finds nothing, and the rest as before
    assert await search(db, EVERY_TENANT, Filter(kind="use.completed", until=moment(MONTH, BLOCK)), 10) == []
    found = await search(db, EVERY_TENANT, Filter(organization=ACME), 10)
    assert [one.core["kind"] for one in found[:4]] == ["grant.revoked", "lease.issued"] * 2
    async with db.read(EVERY_TENANT) as session:
        present = await heads.head_of(session)
        # event 8 was pruned, event 9 was not
        assert await heads.continues(session, present, Head(0, 9, moment(MONTH, 8), entries[8]))
        assert not await heads.continues(session, present, Head(0, 9, moment(MONTH, 8), entries[7]))
        assert await heads.continues(session, present, Head(0, 10, moment(MONTH, 9), entries[9]))
    # one that vanished without a policy is no pruned one
    await lift_trigger(db)
    async with db.write(EVERY_TENANT) as session:
        await session.execute(delete(EventRow).where(EventRow.idx == 9))
    async with db.read(EVERY_TENANT) as session:
        assert not await heads.continues(session, present, Head(0, 10, moment(MONTH, 9), entries[9]))
        assert 9 not in await pruned.within(session, 0, BLOCK)


async def lift_trigger(db: Database) -> None:
    statement = (
        "DROP TRIGGER audit_events_no_delete"
        if db.dialect == "sqlite"
        else "ALTER TABLE audit_events DISABLE TRIGGER audit_events_only_grow"
    )
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text(statement))


async def test_nothing_else_deletes_after_a_pruning_as_before(db: Database) -> None:
    await fill(db)
    await prune(db, "uses", 40, OVER)
    for change in ("UPDATE audit_events SET kind = 'x'", "DELETE FROM audit_events"):
        with pytest.raises(Exception, match="the record only grows"):
            async with db.write(EVERY_TENANT) as session:
                await session.execute(text(change))


async def test_a_role_that_owns_nothing_prunes_by_the_function_alone(user: str, postgres_url: str) -> None:
    owner, db = Database(postgres_url), Database(user)
    owner.subjects = db.subjects = SubjectKeys(bytes(32))
    await fill(owner)
    async with owner.write(EVERY_TENANT) as session:
        await record(session, nth_event(0))
    # it can't delete by itself, whatever it says
    async with db.write(EVERY_TENANT) as session:
        await session.execute(text("SELECT set_config('broker.pruning', 'on', true)"))
        with pytest.raises(DBAPIError, match="the record only grows"):
            await session.execute(text("DELETE FROM audit_events WHERE idx = 1"))
        await session.rollback()
    # nor by the function what stays for good, or what isn't in the log
    async with db.write(EVERY_TENANT) as session:
        for index in (4, BLOCK + 100):
            assert await session.scalar(text(f"SELECT keybroker_prune(ARRAY[{index}])")) == 0
        with pytest.raises(DBAPIError, match="the record only grows"):
            await session.execute(text("DELETE FROM audit_events WHERE idx = 1"))
        await session.rollback()
    await prune(db, "uses", 40, OVER)
    assert await gone(owner) == of(("use.authorized", "use.completed"))
    await db.close()
    await owner.close()


def test_the_functions_are_those_that_their_migration_made() -> None:
    """Databases that are there keep them until another migration makes them anew."""
    digest = hashlib.sha256("".join(FUNCTIONS).encode()).hexdigest()
    assert digest == "6bc4ce57fe4e0b09e1c87d2ed617ede879b73df04c42d767a916d4dafafa875b", (
        "a change of them is a new migration"
    )
