"""A database that rows are put into as rooms write them, and a clock that stands."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from sqlalchemy import select

from broker.base.clock import DAY_MS, Millis, now_ms
from broker.base.db import EVERY_TENANT, Database, Table
from broker.base.pruning import Page, Walk
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.formats import ids
from broker.formats.ids import CredentialId, IntakeId, LeaseId, OrganizationId, RotationId
from broker.incidents.tables import ExposureRow
from broker.intake.tables import IntakeRow
from broker.leases.tables import LeaseRow
from broker.pruning.duties import duties
from broker.pruning.keeping import Keeping

Row = TypeVar("Row", bound=Table)
Kind = TypeVar("Kind", bound=str)
KEEPING = Keeping(leases=400, notices=90, requests=400)
NOW = now_ms()


def ago(days: float) -> Millis:
    return Millis(int(NOW - days * DAY_MS))


@dataclass
class Rows:
    """The database, and what is put into it."""

    db: Database
    organization: OrganizationId = field(default_factory=lambda: ids.new(OrganizationId))
    _number: itertools.count[int] = field(default_factory=itertools.count)

    async def add(self, row: Row) -> Row:
        async with self.db.write(EVERY_TENANT) as session:
            session.add(row)
        return row

    def id_at(self, kind: Callable[[str], Kind], time: Millis) -> Kind:
        """An id as it was made at that time."""
        return ids.of(kind, time.to_bytes(6) + b"\x70" + next(self._number).to_bytes(9))

    async def credential(self, *, revoked_at: Millis | None = None) -> CredentialId:
        row = CredentialRow(
            id=ids.new(CredentialId),
            organization_id=self.organization,
            provider="stripe",
            label=str(next(self._number)),
            state="active" if revoked_at is None else "revoked",
            variables={},
            created_at=ago(900),
            revoked_at=revoked_at,
        )
        return (await self.add(row)).id

    async def version(
        self, credential: CredentialId, number: int = 1, *, state: str = "active", destroyed_at: Millis | None = None
    ) -> VersionRow:
        row = VersionRow(
            organization_id=self.organization,
            credential_id=credential,
            number=number,
            provider="stripe",
            state=state,
            fingerprint="",
            last4="",
            verdict="",
            probes=0,
            staged_at=ago(900),
            destroyed_at=destroyed_at,
        )
        return await self.add(row)

    async def lease(self, credential: CredentialId, until: Millis, *, mode: str = "use", version: int = 1) -> LeaseId:
        row = LeaseRow(
            id=ids.new(LeaseId),
            organization_id=self.organization,
            workload_id=ids.new(ids.WorkloadId),
            grant_id=ids.new(ids.GrantId),
            credential_id=credential,
            version=version,
            provider="stripe",
            label="default",
            mode=mode,
            purpose="",
            issued_at=until - 1000,
            expires_at=until,
            until=until,
            end_reason="",
        )
        return (await self.add(row)).id

    async def exposure(self, credential: CredentialId, reported_at: Millis) -> None:
        row = ExposureRow(
            id=ids.new(ids.ExposureId),
            organization_id=self.organization,
            credential_id=credential,
            version=1,
            provider="stripe",
            found_by="",
            found_where="",
            note="",
            since=reported_at,
            reported_by="",
            reported_at=reported_at,
        )
        await self.add(row)

    async def intake(self, state: str, settled_at: Millis | None, **more: Any) -> IntakeId:
        row = IntakeRow(
            id=ids.new(IntakeId),
            organization_id=self.organization,
            provider="stripe",
            label="default",
            contact="",
            purpose="",
            requested_by="",
            state=state,
            proof_hash=b"",
            link_key=b"sealed",
            public_key=b"",
            refusal="",
            created_at=ago(900),
            expires_at=ago(899),
            settled_at=settled_at,
            **more,
        )
        return (await self.add(row)).id

    async def rotation(self, credential: CredentialId, ended_at: Millis | None) -> RotationId:
        row = RotationRow(
            id=ids.new(RotationId),
            organization_id=self.organization,
            credential_id=credential,
            provider="stripe",
            kind="routine",
            state="retired" if ended_at is not None else "requested",
            reason="",
            requested_by="",
            grace_minutes=0,
            deadline_hours=0,
            opened_at=ago(900),
            ended_at=ended_at,
        )
        return (await self.add(row)).id

    async def left(self, column: Any) -> set[Any]:
        """What a table still holds."""
        async with self.db.read(EVERY_TENANT) as session:
            return set(await session.scalars(select(column)))

    async def prune(self, name: str, keeping: Keeping = KEEPING) -> None:
        """One turn of a duty."""
        (duty,) = (one for one in duties(self.db, lambda: NOW, keeping) if one.name == f"prune_{name}")
        await duty.run()

    async def walk(self, page: Page) -> None:
        await Walk(self.db, lambda: NOW, page).go_on()


@pytest.fixture
async def kept(db: Database) -> Rows:
    db.row_key = bytes(32)
    return Rows(db)
