"""No page asks the database once for each row that it shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from broker.base.db import Database
from broker.formats.ids import CredentialId
from broker.leases import use_days
from tests.console.conftest import Reader
from tests.support.world import Job, World

FEW, MANY = 3, 12


@contextmanager
def counting(db: Database) -> Iterator[list[str]]:
    """The statements that are executed meanwhile."""
    said: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(db.engine.sync_engine, "before_cursor_execute", note)
    yield said
    event.remove(db.engine.sync_engine, "before_cursor_execute", note)


async def grown(world: World, job: Job, first: int, end: int) -> CredentialId:
    """More of everything that a page lists; one of the keys."""
    for number in range(first, end):
        key = await world.key_for(f"customer-{number}")
        grant = await world.grant(job, f"customer-{number}")
        await world.call("POST", "/v1/reviews", json={"subject": grant})
        await world.operator(f"person-{number}", "security", organizations=["customer-0", f"customer-{number}"])
        other = await world.job(f"job-{number}")
        await world.grant(other, "customer-0", label=f"label-{number}")
        await world.grant(other, f"customer-{number}", modes=("reveal",))
        await world.request_key("customer-0", label=f"label-{number}")
        await job.lease(f"customer-{number}")
        await job.lease("customer-0")
        if number:
            leaked = {"found_by": "x", "where": "y"}
            await world.call("POST", f"/v1/credentials/{key}/exposure", json=leaked)
    await use_days.duty(world.services.parts.db).do(1)
    return key


async def statements(reader: Reader, path: str) -> int:
    """How many statements a page takes."""
    with counting(reader.world.services.parts.db) as said:
        await reader.get(path)
    return len(said)


PAGES = (
    "",
    "/organizations",
    "/organizations/customer-0",
    "/keys",
    "/requests",
    "/jobs",
    "/jobs/sync",
    "/grants",
    "/grants?organization=customer-0",
    "/grants/dry-run?workload=sync&organization=customer-0&provider=raptor-comply&method=GET",
    "/leases?state=",
    "/incidents",
    "/reviews",
    "/accounts",
    "/audit?kind=lease.issued",
    "/settings",
    "/settings/work",
    "/audit/export",
)


async def test_a_page_takes_as_many_statements_with_many_rows_as_with_few(admin: Reader, world: World) -> None:
    job = await world.job()
    counts: list[dict[str, int]] = []
    for first, end in ((0, FEW), (FEW, MANY)):
        await grown(world, job, first, end)
        counts.append({})
        for path in PAGES:
            await admin.get(path)  # what is remembered, is
            # The lower of two: the database is probed now and then, by whoever comes.
            counts[-1][path] = min([await statements(admin, path) for _ in range(2)])
    few, many = counts
    # A list that no index narrows down looks a second time; that doesn't grow with rows.
    more = {path: (few[path], many[path]) for path in PAGES if many[path] - few[path] >= (MANY - FEW) // 2 + 1}
    assert not more
    assert max(many.values()) < 100
