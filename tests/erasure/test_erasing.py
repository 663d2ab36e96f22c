"""Who is erased can't be read any more, and everything that was proven of the record stays so."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import MetaData, select, text

from broker.audit.subjects import of_process
from broker.audit.tables import EventRow, SubjectRow
from broker.base.db import EVERY_TENANT, Database
from broker.formats.audit_event import entry_from
from broker.formats.checkpoint import Checkpoint
from broker.formats.merkle import Tree
from broker.formats.signed_note import opened
from tests.support.waiting import eventually
from tests.support.world import World, running_world, settings_for, upstream

AGENT = "bea's very own browser"
PATH = "/facilities/secret-place"


async def lived(world: World) -> tuple[str, dict[str, str]]:
    """acme's key, which a job used; bea's account, who did something for it.  Her id and headers."""
    credential = await world.key_for("acme")
    await world.key_for("globex")
    job = await world.job()
    await world.grant(job, "acme", "globex")
    for slug in ("acme", "globex"):
        await world.proxied(await job.lease(slug, purpose=f"for {slug}"), PATH)
    bea = {**await world.operator("bea-the-person", "operator", "security", "admin"), "User-Agent": AGENT}
    await world.call(
        "POST", f"/v1/credentials/{credential}/rotate", status=201, as_=bea, json={"contact": "x@acme.example"}
    )
    await world.call("POST", "/v1/organizations/globex/name", as_=bea, json={"name": "Globex of bea"})
    return (await world.call("GET", "/v1/operators/me", as_=bea))["id"], bea


async def cut_off(world: World, slug: str = "acme") -> str:
    """Revoke an organization; its id."""
    made = await world.call("POST", f"/v1/organizations/{slug}/revoke", json={"reason": f"{slug} wants to go"})
    return str(made["id"])


async def prove(world: World) -> Tree:
    """Every entry follows from what is stored of its event, and the log's newest checkpoint from all entries."""
    await world.work()
    db = world.services.parts.db
    tree, note = Tree(), (await world.http.get("/v1/audit/log/checkpoint")).content
    signed = Checkpoint.read(opened(note, world.services.parts.keys.log(0).verifier()))
    async with db.read(EVERY_TENANT) as session:
        rows = (await session.scalars(select(EventRow).order_by(EventRow.idx))).all()
    assert [row.idx for row in rows] == list(range(len(rows)))
    for row in rows:
        assert row.entry == entry_from(row.core, row.salt_core, row.personal_commitment)
        if tree.size < signed.size:
            tree.add(row.entry)
    assert (tree.size, tree.root()) == (signed.size, signed.root)
    return tree


async def everything(db: Database) -> str:
    """All that the database holds, as a text."""
    found = []
    async with db.engine.connect() as connection:
        if db.dialect == "postgresql":
            await connection.execute(text("SELECT set_config('broker.tenants', '*', false)"))
        tables = MetaData()
        await connection.run_sync(tables.reflect)
        for table in tables.sorted_tables:
            for row in await connection.execute(select(table)):
                found += [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
    return "\n".join(found)


def on_disk(file: Path) -> bytes:
    """What SQLite's file and its log hold after a vacuum."""
    with sqlite3.connect(file) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return b"".join(path.read_bytes() for path in file.parent.glob(file.name + "*"))


def personal(events: list[dict[str, Any]], **core: Any) -> list[Any]:
    """The personal parts of the events whose cores say this."""
    return [one["personal"] for one in events if core.items() <= one["core"].items()]


async def test_an_organization_is_erased_and_every_proof_stays(world: World) -> None:
    await lived(world)
    org = await cut_off(world)
    before = await world.events()
    proven = await prove(world)
    assert all(personal(before, organization=org))
    # when it is erased
    erased = await world.call("POST", "/v1/organizations/acme/erase")
    assert (erased["id"], erased["state"]) == (org, "revoked")
    assert re.fullmatch(r"erased-[0-9a-f]{12}", erased["slug"])
    assert erased["name"] == erased["slug"]
    # then all of its events are there, and say no more than their cores
    after = {one["index"]: one for one in await world.events()}
    for one in before:
        theirs = one["core"].get("organization") == org
        now = after[one["index"]]
        assert (now["core"], now["commitment"]) == (one["core"], one["commitment"])
        assert (now["personal"], now["erased"]) == ((None, True) if theirs else (one["personal"], False))
    # that it happened is on the record, with ids only
    (told,) = await world.events(kind="audit.erased")
    assert (told["core"]["organization"], told["personal"], told["erased"]) == (org, None, True)
    # and the log goes on from where it was
    assert (await prove(world)).size > proven.size
    # nothing names it or its people any more, in whatever table
    held = await everything(world.services.parts.db)
    assert "Globex" in held
    for gone in ("\nacme\n", "acme.example", "Acme", "acme wants to go"):
        assert gone not in held, gone


async def test_a_person_is_erased_and_every_proof_stays(world: World) -> None:
    operator, bea = await lived(world)
    await world.call("POST", f"/v1/operators/{operator}/erase", status=409)
    await world.call("POST", f"/v1/operators/{operator}/revoke")
    before = await world.events()
    assert "bea-the-person" in str(before)
    assert AGENT in str(before)
    proven = await prove(world)
    # when she is erased
    erased = await world.call("POST", f"/v1/operators/{operator}/erase")
    assert (erased["id"], erased["state"]) == (operator, "revoked")
    # then neither what she did nor what was done about her account tells who she was
    after = await world.events()
    hers = [one for one in after if operator in (one["core"]["actor"]["id"], one["core"].get("subject"))]
    assert len(hers) >= 5
    assert all(one["personal"] is None and one["erased"] for one in hers)
    assert [one["commitment"] for one in after[: len(before)]] == [one["commitment"] for one in before]
    assert "bea-the-person" not in str(after)
    (told,) = await world.events(kind="audit.erased")
    assert (told["core"]["subject"], told["personal"]) == (operator, None)
    # and the others' events say what they said
    others = [one for one in before if one["index"] not in {one["index"] for one in hers}]
    assert [after[one["index"]]["personal"] for one in others] == [one["personal"] for one in others]
    assert (await prove(world)).size > proven.size
    held = await everything(world.services.parts.db)
    assert "bea-the-person" not in held
    assert AGENT not in held
    assert (await world.http.get("/v1/operators/me", headers=bea)).status_code == 401


async def test_nothing_that_was_erased_is_left_in_the_files(tmp_path: Path, sqlite_url: str) -> None:
    settings = settings_for(tmp_path, sqlite_url, "http://127.0.0.1:1")
    async with upstream() as (state, _), running_world(settings, state, "") as world:
        made = await world.call("POST", "/v1/operators", status=201, json={"name": "bea-person", "roles": ["admin"]})
        operator = made["operator"]["id"]
        bea = {**await world.signed_in(made["link"]), "User-Agent": AGENT}
        await world.call("POST", "/v1/organizations", as_=bea, status=201, json={"slug": "acme", "name": "Acme Ltd"})
        await world.call("POST", "/v1/organizations/acme/revoke", as_=bea, json={"reason": "a long story"})
        file = world.services.parts.db.file
        assert file is not None
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            keys = [row.wrapped for row in await session.scalars(select(SubjectRow).where(SubjectRow.id == operator))]
        await world.call("POST", "/v1/organizations/acme/erase")
        await world.call("POST", f"/v1/operators/{operator}/revoke")
        await world.call("POST", f"/v1/operators/{operator}/erase")
    held = await asyncio.to_thread(on_disk, file)
    for gone in (b"bea-person", b"Acme Ltd", b"a long story", AGENT.encode(), *filter(None, keys)):
        assert gone not in held, gone


async def test_an_organization_is_revoked_first_and_a_legal_hold_keeps_it(world: World) -> None:
    operator, _ = await lived(world)
    refused = await world.call("POST", "/v1/organizations/acme/erase", status=409)
    assert "broker org revoke acme" in refused["detail"]
    org = await cut_off(world)
    await world.call("POST", f"/v1/operators/{operator}/revoke")
    # given a hold on it: neither it nor a person, whose events may be its, is erased
    held = await world.call("POST", "/v1/audit/holds", json={"organization": "acme"})
    assert held["organization"] == org
    assert await world.call("POST", "/v1/audit/holds", json={"organization": "acme"}) == held
    for path in ("organizations/acme", f"operators/{operator}"):
        assert (await world.call("POST", f"/v1/{path}/erase", status=409))["code"] == "legal_hold"
    assert (await world.call("GET", "/v1/audit/holds"))["items"] == [held]
    # but for another one's
    await cut_off(world, "globex")
    await world.call("POST", "/v1/organizations/globex/erase")
    # and given one on everything, nothing is
    await world.call("POST", "/v1/audit/holds", json={})
    first, second = (await world.call("GET", "/v1/audit/holds"))["items"]
    assert (first["organization"], second) == (None, held)
    page = await world.call("GET", "/v1/audit/holds", params={"limit": 1})
    assert (await world.call("GET", "/v1/audit/holds", params={"cursor": page["next"]}))["items"] == [held]
    lifted = await world.call("POST", "/v1/audit/holds/lift", json={"organization": "acme"})
    assert lifted == {"organization": org, "lifted": True}
    assert (await world.call("POST", "/v1/organizations/acme/erase", status=409))["code"] == "legal_hold"
    # when all are lifted, then it is erased
    assert (await world.call("POST", "/v1/audit/holds/lift", json={}))["lifted"]
    assert not (await world.call("POST", "/v1/audit/holds/lift", json={}))["lifted"]
    await world.call("POST", "/v1/organizations/acme/erase")
    kinds = [one["kind"] for one in await world.events(kind="audit.*")]
    assert [kind for kind in kinds if kind != "audit.read"] == [
        "audit.hold_placed",
        "audit.erased",
        "audit.hold_placed",
        "audit.hold_lifted",
        "audit.hold_lifted",
        "audit.erased",
    ]


async def test_only_admins_erase_and_lift_holds(world: World) -> None:
    await world.organization("acme")
    org = await cut_off(world)
    security = await world.operator("sam", "security")
    await world.call("POST", f"/v1/organizations/{org}/erase", as_=security, status=403)
    await world.call("POST", "/v1/audit/holds", as_=security, json={})
    await world.call("POST", "/v1/audit/holds/lift", as_=security, json={}, status=403)
    limited = await world.operator("lim", "admin", organizations=["acme"])
    await world.call("POST", "/v1/audit/holds/lift", as_=limited, json={}, status=403)
    await world.call("POST", "/v1/audit/holds", as_=limited, json={}, status=403)
    # who is limited to some sees the hold on everything, too: it keeps theirs
    (seen,) = (await world.call("GET", "/v1/audit/holds", as_=limited))["items"]
    assert seen["organization"] is None
    assert (await world.call("POST", f"/v1/organizations/{org}/erase", as_=limited, status=409))["code"] == "legal_hold"


async def test_what_comes_after_the_erasure_is_read_by_nobody(world: World) -> None:
    """It doesn't bring a key back, whoever records it; to erase again deletes what came since."""
    await lived(world)
    org = await cut_off(world)
    await world.call("POST", f"/v1/organizations/{org}/erase")
    await world.call("POST", f"/v1/organizations/{org}/name", json={"name": "Acme again"})
    (renamed,) = await world.events(kind="organization.renamed", organization=org)
    assert (renamed["personal"], renamed["erased"]) == (None, True)
    await world.call("POST", f"/v1/organizations/{org}/erase")
    assert "Acme again" not in await everything(world.services.parts.db)
    assert len(await world.events(kind="audit.erased")) == 1


async def test_another_replica_forgets_the_key(world: World) -> None:
    if world.services.parts.db.dialect == "sqlite":
        pytest.skip("which has no messages: another process believes its memory for ten minutes")
    await lived(world)
    org = await cut_off(world)
    async with running_world(world.settings, world.upstream, world.upstream_url, bootstrap=False) as other:
        other.admin = world.admin
        keys = of_process(other.services.parts.db)
        await other.call("GET", "/v1/audit/events", params={"organization": org})
        had = keys.in_memory
        assert had >= 1
        await world.call("POST", f"/v1/organizations/{org}/erase")
        await eventually(lambda: keys.in_memory == had - 1)
