"""Lists: one page, as every list of the API pages, and what narrows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Literal, TypeVar

from fastapi import Query
from sqlalchemy import or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.base.db import Table
from broker.base.paging import Column, Cut, Filter, Sheet, sheet
from broker.web.api.fields import Label, Line, Page, Reference, after, cursor_at

Row = TypeVar("Row", bound=Table)
Held = TypeVar("Held")
Shown = TypeVar("Shown")

OrganizationSought = Annotated[Reference | None, Query(description="Only of this organization: its id or slug.")]
WorkloadSought = Annotated[Reference | None, Query(description="Only of this job: its id or name.")]
ProviderSought = Annotated[Label | None, Query(description="Only of this provider.")]
LabelSought = Annotated[Label | None, Query(description="Only of this label.")]
NameSought = Annotated[
    Line | None, Query(description="Only those with this in their name, in small letters or capital.")
]
Order = Annotated[Literal["oldest", "newest"], Query(description="Which come first.")]


async def rows_of(
    session: AsyncSession,
    row: type[Row],
    filters: Iterable[Filter | None],
    limit: int,
    cursor: str,
    order: Literal["oldest", "newest"],
    *key: Column,
) -> Sheet[Row]:
    """The rows that the filters let through after ``cursor``, in the order of ``key``.

    The key ends with their id.

    The first filter that an index has leads.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    return await sheet(session, row, filters, Cut(limit, after(cursor), order == "newest"), *key)


def shown(found: Sheet[Held], show: Callable[[Held], Shown]) -> Page[Shown]:
    """The answer's page of these rows."""
    following = None if found.next is None else cursor_at(found.next)
    return Page(items=[show(row) for row in found.rows], next=following)


def named(text: str | None, *columns: InstrumentedAttribute[str]) -> Filter | None:
    """The filter of rows with ``text`` in one of these columns, whatever its case.

    No index has that.
    """
    if text is None:
        return None
    return Filter(or_(*(column.icontains(text, autoescape=True) for column in columns)))
