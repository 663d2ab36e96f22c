"""A revision after the first schema does nothing to a table in use that its uses would wait for."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import schema
from tests.house.beside_uses import complaints
from tests.support.later import FIRST

INDEX = 'op.create_index("ix", "leases", ["a"], postgresql_concurrently=True, if_not_exists=True)'
BLOCK = f"with op.get_context().autocommit_block():\n        {INDEX}"
COLUMN = 'op.add_column("leases", sa.Column("a", sa.String(), {}))'


def revision(up: str, down: str = "pass") -> str:
    return f"def upgrade():\n    {up}\n\ndef downgrade():\n    {down}\n"


def after_the_first() -> list[str]:
    every = [*schema.revisions()]
    return every[every.index(FIRST) + 1 :]


def text_of(number: str) -> str:
    (file,) = (Path(__file__).parents[2] / "migrations" / "versions").glob(f"{number}_*.py")
    return file.read_text()


def test_each_revision_after_the_first_schema_is_safe_beside_uses() -> None:
    wrong = {each: complaints(text_of(each)) for each in after_the_first()}
    assert {each: said for each, said in wrong.items() if said} == {}


@pytest.mark.parametrize(
    ("up", "told"),
    [
        ('op.create_index("ix", "leases", ["a"])', "leases: an index is built within"),
        ('op.create_index("ix", "leases", ["a"], postgresql_concurrently=True)', "leases: an index is built within"),
        (BLOCK.replace(", if_not_exists=True", ""), "leases: an index is built within"),
        (f'{BLOCK}\n    op.create_table("new", sa.Column("id"))', "have a revision of their own"),
        (f'{BLOCK}\n    op.execute("SELECT 1")', "have a revision of their own"),
        (COLUMN.format("nullable=False"), "leases: a new column is nullable, or has"),
        (COLUMN.format("unique=True, nullable=True"), "leases: the new column's index is built concurrently"),
        (COLUMN.format("server_default=sa.func.now()"), "leases: a default that isn't constant"),
        (COLUMN.format('server_default=sa.text("gen_random_uuid()")'), "leases: a default that isn't constant"),
        ('op.add_column("leases", column)', "leases: write the column where it is added"),
        ('op.alter_column("leases", "a", nullable=False)', "leases: a changed column is read through"),
        ('op.create_unique_constraint("uq", "leases", ["a"])', "leases: make a unique index concurrently"),
        ('op.rename_table("leases", "loans")', "leases: brokers of the version before go by the old name"),
        ("op.execute(\"UPDATE leases SET a = 'b'\")", "leases: rows are written by a duty of the worker"),
        ('op.execute(f"DELETE FROM leases WHERE a < {now}")', "leases: rows are written by a duty of the worker"),
        ('op.execute("INSERT INTO new (a) " "SELECT a FROM leases")', "new: rows are written by a duty of the worker"),
        ('op.execute(sa.text("UPDATE leases SET a = 1"))', "leases: rows are written by a duty of the worker"),
        ("op.get_bind().execute(leases.update().values(a=1))", "rows are written by a duty of the worker"),
        ('op.execute("CREATE UNIQUE INDEX ix ON leases (a)")', "leases: build it by op.create_index"),
        ('op.execute("ALTER TABLE leases ALTER a SET NOT NULL")', "leases: it would be read through"),
        ('op.execute("ALTER TABLE leases ADD CONSTRAINT c CHECK (a > 0)")', "leases: add it NOT VALID"),
        (
            'for table in ("leases", "uses"):\n        op.add_column(table, sa.Column("a", nullable=True))',
            "leases, uses: each is altered in a revision of its own",
        ),
        (
            'with op.batch_alter_table("leases") as leases:\n        leases.alter_column("a", type_=sa.String())',
            "leases: a changed column is read through",
        ),
    ],
)
def test_what_uses_would_wait_for_or_cannot_be_done_twice_is_told(up: str, told: str) -> None:
    said = complaints(revision(up))
    assert [one for one in said if told in one], said


@pytest.mark.parametrize(
    "up",
    [
        BLOCK,
        f'{BLOCK}\n        op.create_index("iy", "uses", ["a"], postgresql_concurrently=True, if_not_exists=True)',
        COLUMN.format("nullable=True"),
        COLUMN.format("nullable=False, server_default=sa.false()"),
        f'{COLUMN.format("nullable=True")}\n    op.drop_column("leases", "b")',
        'op.create_table("new", sa.Column("id"))\n    op.create_index("ix", "new", ["id"])',
        'op.create_table("new")\n    for one in ("new",):\n        op.execute(f"ALTER TABLE {one} FORCE ROW LEVEL …")',
        'op.execute("CREATE INDEX ix ON ONLY audit_events (a)")',
        'op.execute("CREATE FUNCTION f() AS $$ UPDATE leases SET a = 1 $$")',
        'op.execute("ALTER TABLE leases ADD CONSTRAINT c CHECK (a > 0) NOT VALID")',
    ],
)
def test_what_no_use_waits_for_is_nothing_to_tell(up: str) -> None:
    assert complaints(revision(up)) == []


def test_going_down_does_nothing_concurrently() -> None:
    (said,) = complaints(revision("pass", BLOCK))
    assert said.startswith("downgrade: ")
