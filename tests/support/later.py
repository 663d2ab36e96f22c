"""Revisions of the schema that come after those there are, as the next version's will."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic.config import Config

from broker import schema

# The newest revision that is part of the first schema: no database in use was ever below it.
FIRST = "0001"

_TEXT = '''"""{brings}"""

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    """Go up."""
{up}


def downgrade() -> None:
    """Go down."""
{down}
'''


def write_revision(folder: Path, revision: str, before: str, up: str, down: str = "pass") -> None:
    """Write a revision's file, whose bodies are lines without indents."""
    bodies = {"up": _indented(up), "down": _indented(down)}
    text = _TEXT.format(brings="What is new.", revision=revision, before=before, **bodies)
    (folder / f"{revision}_later.py").write_text(text)


def _indented(body: str) -> str:
    return "\n".join(f"    {line}" for line in body.splitlines())


@contextmanager
def knowing(folder: Path) -> Iterator[None]:
    """Have this process know the revisions in ``folder``, too."""
    shipped = schema.configuration

    def more() -> Config:
        both = shipped()
        versions = Path(both.get_main_option("script_location") or "") / "versions"
        both.set_main_option("path_separator", "os")
        both.set_main_option("version_locations", os.pathsep.join([str(versions), str(folder)]))
        return both

    schema.configuration = more
    schema.revisions.cache_clear()
    try:
        yield
    finally:
        schema.configuration = shipped
        schema.revisions.cache_clear()
