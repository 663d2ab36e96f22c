"""Lists: one page by id, as every list of the API pages, and what narrows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Query
from sqlalchemy import ColumnElement, Select, or_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from broker.web.api.fields import Label, Line, Reference, after

Row = TypeVar("Row")

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
    query: Select[Row],
    key: InstrumentedAttribute[str],
    limit: int,
    cursor: str,
    order: Literal["oldest", "newest"] = "oldest",
) -> Sequence[Row]:
    """The rows of ``query`` after ``cursor``, in the order of ``key``.

    That is the order of their making.  There is one more than ``limit`` if there is a next page.

    Raises:
        Invalid: the cursor is not one of ours.
    """
    newest, position = order == "newest", after(cursor)
    if position:
        query = query.where(key < position if newest else key > position)
    return (await session.scalars(query.order_by(key.desc() if newest else key).limit(limit + 1))).all()


def narrowed(query: Select[Row], *wanted: tuple[InstrumentedAttribute[Any], object]) -> Select[Row]:
    """Only the rows whose columns have the values that are wanted.

    None stands for any.
    """
    return query.where(*(column == value for column, value in wanted if value is not None))


def named(text: str, *columns: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """The condition that ``text`` stands in one of these columns, in small letters or capital."""
    return or_(*(column.icontains(text, autoescape=True) for column in columns))
