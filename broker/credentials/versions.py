"""Credentials and their versions: find them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.errors import Conflict, NotFound
from broker.base.validity import Validity
from broker.credentials.lifecycle import USABLE, Health, State
from broker.credentials.tables import CredentialRow, VersionRow
from broker.formats.ids import CredentialId, OrganizationId
from broker.providers.definition import Definition

# A key that has just come into use was verified a moment ago: its first scheduled check is later, this much at most.
FIRST_CHECK_MS = 3_600_000


def share_of(credential: CredentialId) -> float:
    """A number from 0 to 1 that is the credential's own: by it, what came together drifts apart."""
    return int.from_bytes(hashlib.sha256(credential.encode()).digest()[:4]) / 2**32


def first_check_ms(credential: CredentialId) -> int:
    """How long after a key came into use it is checked, in milliseconds.

    Keys that are imported together spread.
    """
    return int(FIRST_CHECK_MS * (0.25 + 0.75 * share_of(credential)))


_OVER = frozenset({State.REVOKED, State.DESTROYED})


class ActiveKeyExists(Conflict):
    """The credential has a key in use."""

    code = "active_key_exists"


@dataclass(frozen=True, slots=True)
class CredentialAddress:
    """Which credential a key is for: there is at most one in force at an address."""

    organization: OrganizationId
    definition: Definition
    label: str


async def find_credential(session: AsyncSession, address: CredentialAddress) -> CredentialRow | None:
    """The credential at that address, if there is one; those that were revoked are history."""
    return await session.scalar(
        select(CredentialRow).where(
            CredentialRow.organization_id == address.organization,
            CredentialRow.provider == address.definition.id,
            CredentialRow.label == address.label,
            CredentialRow.state == Validity.ACTIVE,
        )
    )


async def get_credential(session: AsyncSession, credential_id: CredentialId) -> CredentialRow:
    """The credential of that id.

    Raises:
        NotFound: none inside the session's scope.
    """
    row = await session.scalar(select(CredentialRow).where(CredentialRow.id == credential_id))
    if row is None:
        raise NotFound("There is no such credential for you; `broker key list` shows those that are.")
    return row


class Versions(dict[int, VersionRow]):
    """A credential's versions by number, with its own row; None if there is none."""

    def __init__(self, credential: CredentialRow | None, rows: Iterable[VersionRow]) -> None:
        super().__init__((row.number, row) for row in rows)
        self.credential = credential


async def versions_of(session: AsyncSession, credential_id: CredentialId) -> Versions:
    """Every version of a credential by number, as they are now, locked.

    Nobody else changes them until the transaction ends.

    Everybody locks in one order, so that nobody waits in a ring: the credential, its versions, their rotation, its
    intake.  The credential is read again with its versions.  So what was decided during the wait is seen, also a new
    version or the revocation of the whole.
    """
    credential = select(CredentialRow).where(CredentialRow.id == credential_id)
    own = await session.scalar(credential.with_for_update().execution_options(populate_existing=True))
    versions = select(VersionRow).where(VersionRow.credential_id == credential_id).order_by(VersionRow.number)
    rows = await session.scalars(versions.with_for_update().execution_options(populate_existing=True))
    return Versions(own, rows)


async def locked(session: AsyncSession, address: CredentialAddress) -> CredentialRow | None:
    """The credential at that address, if any, locked with its versions.

    As :func:`versions_of` does.
    """
    credential = await find_credential(session, address)
    if credential is not None:
        await versions_of(session, credential.id)
    return credential


async def refuse_if_in_use(session: AsyncSession, address: CredentialAddress) -> None:
    """Refuse a first key if the credential has one in use or under way.

    Raises:
        ActiveKeyExists: names the fix, for an operator.
    """
    credential = await find_credential(session, address)
    if credential is None:
        return
    versions = await versions_of(session, credential.id)
    if credential.state != Validity.ACTIVE:  # revoked while this waited for it
        return
    if any(row.state in USABLE for row in versions.values()):
        raise ActiveKeyExists(
            f"A key is in use here. `broker key rotate {credential.id}` asks for the next one, and this one stays in "
            "use until that has proved itself. A key beside it needs another label.",
            credential=credential.id,
        )
    given = next((row.number for row in versions.values() if row.state not in _OVER), None)
    if given is not None:
        raise ActiveKeyExists(
            "A key was given already: it is being checked, or waits for your decision. Use it (`broker key activate "
            f"{credential.id} --version {given}`) or revoke it (`broker key revoke {credential.id} --version {given}`) "
            "first.",
            credential=credential.id,
        )


async def holds_key(session: AsyncSession, *, organization: OrganizationId, provider: str, label: str) -> bool:
    """Whether a key is in use there, or on its way in."""
    query = (
        select(VersionRow.number)
        .join(CredentialRow, CredentialRow.id == VersionRow.credential_id)
        .where(
            CredentialRow.organization_id == organization,
            CredentialRow.provider == provider,
            CredentialRow.label == label,
            CredentialRow.state == Validity.ACTIVE,
            VersionRow.state.not_in(_OVER),
        )
    )
    return await session.scalar(query.limit(1)) is not None


def serves(versions: Iterable[VersionRow]) -> bool:
    """Whether jobs have one of these keys, and the upstream takes it."""
    return any(row.state in USABLE and row.health != Health.FAILING for row in versions)
