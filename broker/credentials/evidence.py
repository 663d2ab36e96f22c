"""Does this key belong to the organization that it was sent for?  Judged by the ids that upstream returns for it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from broker.credentials.tables import EvidenceRow


class Evidence(StrEnum):
    """What the ids say."""

    FIRST = "first"  # nothing to compare with: the organization's first key
    SAME = "same_organization"
    UNPROVEN = "unproven"  # nothing speaks against it, but nothing overlaps with the key before
    OTHER = "other_organization"


def judge(organization: str, seen: Set[str], owners: Mapping[str, str], *, known_before: bool) -> Evidence:
    """Pure: what ``seen`` ids say about a key sent for ``organization``.

    Args:
        organization: the organization that the key was sent for.
        seen: the ids (keyed hashes) that upstream returned for the key.
        owners: the organization of each of those ids that is known.
        known_before: whether ids of this organization were known before.
    """
    if any(owners[found] != organization for found in seen if found in owners):
        return Evidence.OTHER
    if any(found in owners for found in seen):
        return Evidence.SAME
    return Evidence.UNPROVEN if known_before else Evidence.FIRST


@dataclass(frozen=True, slots=True)
class Weighed:
    """The judgement and its facts: how many ids upstream returned, were known of the organization, and are both."""

    evidence: Evidence
    seen: int
    known: int
    shared: int


async def weigh(session: AsyncSession, provider: str, organization: str, seen: Set[str]) -> Weighed:
    """Judge ``seen`` against everything known of this provider."""
    rows = await session.execute(
        select(EvidenceRow.id_hash, EvidenceRow.owner).where(
            EvidenceRow.provider == provider, EvidenceRow.id_hash.in_(sorted(seen))
        )
    )
    owners = {row.id_hash: row.owner for row in rows}
    known = await session.scalar(
        select(func.count())
        .select_from(EvidenceRow)
        .where(EvidenceRow.provider == provider, EvidenceRow.owner == organization)
    )
    found = judge(organization, seen, owners, known_before=bool(known))
    return Weighed(found, len(seen), known or 0, sum(owner == organization for owner in owners.values()))


async def remember(session: AsyncSession, provider: str, organization: str, seen: Set[str]) -> None:
    """Note that these ids belong to this organization; an id that is known already keeps its owner."""
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    rows = [{"provider": provider, "id_hash": found, "owner": organization} for found in sorted(seen)]
    if rows:
        await session.execute(insert(EvidenceRow).on_conflict_do_nothing(), rows)
