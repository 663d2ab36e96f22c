"""The names that stand beside ids in answers: what people type, and know things by.

They are looked up once for all that an answer shows.  A name that something else than the broker wrote may be another
one's, so it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Protocol

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.formats.ids import OrganizationId, WorkloadId
from broker.identity.tables import WorkloadRow
from broker.organizations.tables import OrganizationRow

Slug = Annotated[str, Field(description="The organization's slug; empty if there is none.")]
JobName = Annotated[str, Field(description="The job's name; empty if there is none.")]


class Owned(Protocol):
    """A row of one organization's; of none's if the id is empty."""

    @property
    def organization_id(self) -> OrganizationId: ...


class Names(dict[str, str]):
    """Names by id; empty for what is nobody's, is gone or can't be relied on."""

    def __missing__(self, _id: str) -> str:
        return ""


async def slugs_of(session: AsyncSession, rows: Iterable[Owned]) -> Names:
    """The slugs of the organizations of these rows, as far as the session may see them."""
    return await slugs(session, (row.organization_id for row in rows if row.organization_id))


async def slugs(session: AsyncSession, organizations: Iterable[str]) -> Names:
    """The slugs of these organizations, as far as the session may see them."""
    wanted = set(organizations)
    if not wanted:
        return Names()
    found = await session.scalars(select(OrganizationRow).where(OrganizationRow.id.in_(sorted(wanted))))
    return Names({row.id: row.slug for row in found if row.genuine})


async def job_names(session: AsyncSession, workloads: Iterable[WorkloadId]) -> Names:
    """The names of these jobs."""
    wanted = set(workloads)
    if not wanted:
        return Names()
    found = await session.scalars(select(WorkloadRow).where(WorkloadRow.id.in_(sorted(wanted))))
    return Names({row.id: row.name for row in found if row.genuine})
