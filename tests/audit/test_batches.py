"""Both databases decide on a batch alike, and as one that decides on events one after the other."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import pytest
from sqlalchemy import insert, select

from broker.audit.batch import Batch, Decided, EventValues, Piece, values_of
from broker.audit.events import Event
from broker.audit.guards import raising
from broker.audit.log import AuditLog
from broker.audit.on_postgresql import FUNCTION
from broker.audit.quota import GIVE_BACK, Cooldown, Exhausted, Quota, Rate, Total, cooldown_statement
from broker.audit.tables import EventRow, GuardRow, HeadRow, QuotaRow
from broker.audit.unavailable import DatabaseBehind
from broker.base.clock import Millis
from broker.base.db import EVERY_TENANT, Database, table
from broker.base.statements import bound
from broker.formats.personal_part import PartKey
from broker.leases.tables import UseRow
from broker.proxy.use import COMPLETE_USE
from tests.audit.test_log import event, use_row
from tests.support.ids import nth

NOW = 1_790_000_000_000
KEY = PartKey(bytes(32), bytes(32), bytes(32), 0)
INSERT_USE = insert(table(UseRow))


def row_of(made: Event) -> EventValues:
    """The row of an event, under a key that is nobody's."""
    return values_of(made, made.committed(), KEY)


class Model:
    """The record as it should be, in memory."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.latest = 0
        self.epochs: dict[str, int] = {}
        self.numbers: dict[str, int] = {}
        self.uses: set[str] = set()

    def decides(self, piece: Piece) -> tuple[str, int | None] | bool:
        """What one piece comes to: accepted, refused for a guard (False) or for a quota."""
        if any(self.epochs.get(guard, 0) != epoch for guard, epoch in piece.guards.items()):
            return False
        taken = dict(self.numbers)
        for quota in piece.quotas:
            try:
                taken[quota.id] = quota.take(taken.get(quota.id, 0), piece.values.time)
            except Exhausted as exhausted:
                return exhausted.quota, exhausted.wait
        self.numbers = taken
        self.ids.append(piece.values.id)
        self.latest = max(self.latest, piece.values.time)
        return True


class Writer:
    """Makes pieces, and does to the model what they do to the database."""

    def __init__(self, db: Database, seed: int) -> None:
        self.dice = random.Random(seed)
        self.model = Model()
        self._db = db
        self._uses = 0
        self._now = NOW

    def piece(self) -> tuple[Piece, list[tuple[str, Any]]]:
        """With what is written if it is accepted."""
        dice, self._now = self.dice, self._now + self.dice.choice([0, 1, 400, 20_000])
        guards = {
            guard: self.model.epochs.get(guard, 0) if dice.random() < 0.93 else 12345
            for guard in dice.sample(["org_1", "org_2", "crd_1", "grt_1", "lse_1", "wkl_1"], dice.randrange(5))
        }
        quotas: list[Quota] = dice.sample(
            [Total("a/uses", 25), Rate("a/rate", 3, 60_000), Rate("b/rate", 100, 1_000), Cooldown("c/pause", 60_000)],
            dice.randrange(4),
        )
        self._uses += 1
        use = nth("use", self._uses)
        does: list[tuple[str, Any]] = dice.choice(
            [
                [("use", use)],
                [("use", use), ("complete", use)],
                [("complete", nth("use", dice.randrange(1, self._uses + 1)))],
                [("back", "a/uses")],
                [("pause", ("c/pause", self._now + dice.choice([5, 30_000])))],
                [],
            ]
        )
        writes = [self._statement(what, given) for what, given in does]
        made = row_of(event("use.authorized", use=use))._replace(time=Millis(self._now))
        return Piece(made, guards, tuple(quotas), tuple(writes)), does

    def _statement(self, what: str, given: Any) -> tuple[str, tuple[Any, ...]]:
        dialect = self._db.engine.dialect
        if what == "use":
            return bound(dialect, INSERT_USE, use_row(given))
        if what == "complete":
            return bound(dialect, COMPLETE_USE, {"use": given})
        if what == "back":
            return bound(dialect, GIVE_BACK, {"taken": given})
        return bound(dialect, cooldown_statement(self._db.dialect), {"quota": given[0], "number": given[1]})

    def raising(self) -> Piece:
        """A piece that gives something a new epoch."""
        ((statement, row),) = raising(self._db.dialect, [self.dice.choice(["org_1", "crd_1", "lse_1"])])
        self.model.epochs[row["guard_id"]] = row["to_epoch"]
        return Piece(row_of(event("grant.revoked")), {}, (), (bound(self._db.engine.dialect, statement, row),))

    def wrote(self, batch: list[tuple[list[tuple[str, Any]], bool]]) -> None:
        """What the accepted pieces of a batch bring, kind by kind, in the order in which kinds come in the batch."""
        for kind in dict.fromkeys(what for does, _ in batch for what, _ in does):
            for what, given in (one for does, accepted in batch if accepted for one in does):
                if what == kind:
                    self._wrote(what, given)

    def _wrote(self, what: str, given: Any) -> None:
        numbers, uses = self.model.numbers, self.model.uses
        if what == "use":
            uses.add(given)
        elif what == "complete":
            uses.discard(given)
        elif what == "back" and numbers.get(given, 0) > 0:
            numbers[given] -= 1
        elif what == "pause":
            numbers[given[0]] = max(numbers.get(given[0], 0), given[1])


async def stored(db: Database) -> Model:
    found = Model()
    async with db.read(EVERY_TENANT) as session:
        found.ids = list(await session.scalars(select(EventRow.id).order_by(EventRow.idx)))
        found.latest = await session.scalar(select(HeadRow.latest)) or 0
        found.epochs = {row.id: row.epoch for row in await session.scalars(select(GuardRow))}
        found.numbers = {row.id: row.value for row in await session.scalars(select(QuotaRow))}
        found.uses = set(await session.scalars(select(UseRow.id)))
        assert await session.scalar(select(HeadRow.size)) == len(found.ids)
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_comes_in_batches_is_decided_as_if_it_came_one_by_one(
    db: Database, log: AuditLog, seed: int
) -> None:
    writer = Writer(db, seed)
    model = writer.model
    for number in range(40):
        made = [writer.piece() for _ in range(writer.dice.choice([1, 2, 30]))]
        before, expected = len(model.ids), [model.decides(piece) for piece, _ in made]
        writer.wrote([(does, outcome is True) for (_, does), outcome in zip(made, expected, strict=True)])
        pieces = [piece for piece, _ in made]
        if number % 3 == 0:
            pieces.append(writer.raising())
            expected.append(model.decides(pieces[-1]))
        batch = Batch(before, False, tuple(pieces))
        decided = await log.commits.commit(batch)
        assert decided.size == before
        assert list(decided.accepted) == [outcome is True for outcome in expected]
        refused = {place: outcome for place, outcome in enumerate(expected) if isinstance(outcome, tuple)}
        assert decided.exhausted == refused
        # and if its answer was lost, it is asked for again
        batch.repeated = True
        if any(decided.accepted):
            assert await log.commits.commit(batch) == Decided(before, decided.accepted)
    found = await stored(db)
    assert found.ids == model.ids
    assert found.latest == model.latest
    assert found.epochs == model.epochs
    assert found.uses == model.uses
    assert found.numbers == {id_: value for id_, value in model.numbers.items() if value or id_ in found.numbers}


def batch_of(*pieces: Piece, floor: int = 0) -> Batch:
    return Batch(floor, False, pieces)


def plain() -> Piece:
    return Piece(row_of(event()), {}, (), ())


async def test_a_database_that_holds_less_than_was_recorded_takes_nothing(db: Database, log: AuditLog) -> None:
    with pytest.raises(DatabaseBehind):
        await log.commits.commit(batch_of(plain(), floor=1))
    assert (await stored(db)).ids == []


async def test_a_batch_of_which_nothing_is_accepted_leaves_no_trace(db: Database, log: AuditLog) -> None:
    refused = Piece(row_of(event()), {"grt_1": 7}, (), ())
    exhausted = Piece(row_of(event()), {}, (Rate("r", 5, 1_000), Total("t", 0)), ())
    decided = await log.commits.commit(batch_of(refused, exhausted))
    assert decided == Decided(0, (False, False), {1: ("t", None)})
    async with db.read(EVERY_TENANT) as session:
        assert await session.scalar(select(QuotaRow.id)) is None


async def test_the_row_of_an_event_has_its_columns_in_the_order_of_the_table() -> None:
    assert ["idx", "month", *plain().values._fields] == [column.name for column in table(EventRow).columns]


def test_the_function_is_the_one_that_its_migration_made() -> None:
    """Databases that are there keep it until another migration makes it anew."""
    digest = hashlib.sha256(FUNCTION.encode()).hexdigest()
    assert digest == "bcff69570df5c64c67d459f17f9bc46f29992340a21d0ab0116a1b5b468f28fb", (
        "a change of it is a new migration"
    )
