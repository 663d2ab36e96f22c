"""Whether a key belongs to the organization that it was sent for, by the ids behind it.

The upstream returns these ids to a request with the key.

There are two memories.  The ids of all organizations say whose a key is not: one that shows another organization's id
is refused.  The ids of the previous key say whether a new one is of the same tenant: a customer may have several
tenants upstream, each with a credential of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.db import upsert
from broker.credentials.lifecycle import State
from broker.credentials.tables import EvidenceRow, KeyEvidenceRow, VersionRow
from broker.formats.ids import CredentialId, OrganizationId


class TenantEvidence(StrEnum):
    """What the ids say."""

    FIRST = "first"  # nothing to compare with: the organization's first key
    SAME = "same_organization"
    UNPROVEN = "unproven"  # nothing speaks against it, but nothing overlaps with the previous key
    OTHER = "other_organization"


def assess(
    organization: OrganizationId,
    seen: Set[str],
    owners: Mapping[str, OrganizationId],
    *,
    before: Set[str],
    known_before: bool,
    whole: bool = True,
) -> TenantEvidence:
    """Pure: what ``seen`` ids say about a key sent for ``organization``.

    Args:
        organization: the organization that the key was sent for.
        seen: the ids (keyed hashes) that the upstream returned for the key.
        owners: the organization of each of those ids that is known.
        before: the ids of the credential's previous key; if there are none, the organization's count.
        known_before: whether ids of this organization were known before.
        whole: whether ``seen`` is all that the upstream has to show; a part proves no absence.
    """
    if any(owners[found] != organization for found in seen if found in owners):
        return TenantEvidence.OTHER
    if seen & (before or owners.keys()):
        return TenantEvidence.SAME
    return TenantEvidence.UNPROVEN if known_before or before or not whole else TenantEvidence.FIRST


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the evidence says, and its facts.

    ``seen`` ids came from the upstream, ``known`` ones were shown by the previous key, ``shared`` ones are both.

    ``shared`` is None if the upstream has more ids than were read and none of these was shared: nobody knows then.
    """

    evidence: TenantEvidence
    seen: int
    known: int
    shared: int | None


async def assessment_of(session: AsyncSession, row: VersionRow, seen: Set[str], *, whole: bool) -> Assessment:
    """Assess the ids that a new key shows; ``whole`` if the upstream has no more of them."""
    # submission (13) whose ids are these?
    owners = await _owners(session, row, seen)
    before = await _shown_before(session, row)
    mine = select(EvidenceRow.id_hash).where(
        EvidenceRow.provider == row.provider, EvidenceRow.owner == row.organization_id
    )
    known_before = await session.scalar(mine.limit(1)) is not None
    found = assess(row.organization_id, seen, owners, before=before, known_before=known_before, whole=whole)
    return Assessment(found, len(seen), len(before), len(seen & before) or (0 if whole else None))


async def learn(session: AsyncSession, row: VersionRow, seen: Set[str]) -> None:
    """Note the ids that a key in use shows by now, unless one is another organization's."""
    owners = await _owners(session, row, seen)
    if any(owner != row.organization_id for owner in owners.values()):
        return
    if seen - await shown_by(session, row.credential_id, row.number):
        await remember(session, row, seen)


async def remember(session: AsyncSession, row: VersionRow, seen: Set[str]) -> None:
    """Note that this key showed these ids, and that its organization owns them.

    A known id keeps its owner.
    """
    place = {"organization_id": row.organization_id, "credential_id": row.credential_id, "version": row.number}
    for kind, facts in (
        (EvidenceRow, {"provider": row.provider, "owner": row.organization_id}),
        (KeyEvidenceRow, place),
    ):
        rows = [{"id_hash": found, **facts} for found in sorted(seen)]
        if rows:
            await session.execute(upsert(session, kind).on_conflict_do_nothing(), rows)


async def _owners(session: AsyncSession, row: VersionRow, seen: Set[str]) -> dict[str, OrganizationId]:
    found = await session.execute(
        select(EvidenceRow.id_hash, EvidenceRow.owner).where(
            EvidenceRow.provider == row.provider, EvidenceRow.id_hash.in_(sorted(seen))
        )
    )
    return {each.id_hash: each.owner for each in found}


async def _shown_before(session: AsyncSession, row: VersionRow) -> Set[str]:
    """The ids of the key in use; if there is none, of the last one that showed any."""
    others = VersionRow.credential_id == row.credential_id, VersionRow.number != row.number
    current = await session.scalar(select(VersionRow.number).where(*others, VersionRow.state == State.ACTIVE))
    if current is None:
        earlier = KeyEvidenceRow.credential_id == row.credential_id, KeyEvidenceRow.version != row.number
        current = await session.scalar(select(func.max(KeyEvidenceRow.version)).where(*earlier))
    return await shown_by(session, row.credential_id, current or 0)


async def shown_by(session: AsyncSession, credential_id: CredentialId, version: int) -> Set[str]:
    """The ids that a key is known to have shown."""
    found = await session.scalars(
        select(KeyEvidenceRow.id_hash).where(
            KeyEvidenceRow.credential_id == credential_id, KeyEvidenceRow.version == version
        )
    )
    return frozenset(found)
