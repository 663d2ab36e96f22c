"""Take a received key: note whose it is, and keep it sealed as the next version, ``staged``."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import Millis
from broker.base.db import Database, Scope, upsert
from broker.base.errors import Conflict, Invalid, Unavailable
from broker.base.secret import Secret
from broker.base.validity import Validity
from broker.credentials import rotation
from broker.credentials.lifecycle import State
from broker.credentials.moves import UnlawfulMove
from broker.credentials.tables import CredentialRow, FingerprintRow, RotationRow, VersionRow
from broker.credentials.versions import (
    CredentialAddress,
    find_credential,
    get_credential,
    refuse_if_in_use,
    versions_of,
)
from broker.formats import ids
from broker.formats.envelope import Binding
from broker.formats.ids import CredentialId, IntakeId, OrganizationId, RotationId
from broker.keystore import orphans
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.organizations.tables import OrganizationRow
from broker.providers.definition import Definition

T = TypeVar("T")
_TRIES = 5

# How long the process that staged a version has to verify it itself before the worker takes over.
FIRST_PROBE_MS = 60_000


class KeyFormat(Invalid):
    """The key doesn't have the provider's form."""

    code = "key_format"
    title = "This is not a key of that provider"


class KeyAlreadyReceived(Conflict):
    """This organization's key was received before."""

    code = "key_held"
    title = "This key was received before"


class KeyOfAnotherOrganization(Conflict):
    """The key can't be this organization's."""

    code = "key_other_organization"
    title = "This key belongs to another organization"

    def __init__(self) -> None:
        super().__init__(
            "This key does not belong to the organization it was requested for. Check that you are signed in to the "
            "right organization, create a new key there and submit that one."
        )


@dataclass(frozen=True, slots=True)
class Received:
    """A key and what came along with it.

    ``variables`` are the provider's host parts.  ``intake`` and ``rotation`` name what the key answers, if anything.
    ``contact`` is the customer's address.  ``upstream_id`` is what the upstream calls the key.
    """

    key: Secret
    variables: dict[str, str]
    intake: IntakeId | None = None
    rotation: RotationId | None = None
    contact: str = ""
    upstream_id: str = ""


@dataclass(frozen=True, slots=True)
class Sealing:
    """A received key, sealed for the version that it will most likely become."""

    credential: CredentialId
    number: int
    sealed: bytes


async def with_sealed(
    db: Database,
    keystore: Keystore,
    keys: InternalKeys,
    address: CredentialAddress,
    received: Received,
    work: Callable[[Sealing], Awaitable[T]],
) -> T:
    """Seal a received key outside of any transaction, then run ``work``, which stages it.

    Sealing may have to ask a Vault, and nothing may wait for one while it holds locks of the database.  If another key
    took the version's number meanwhile, the key is sealed again and ``work`` is run again.

    Raises:
        KeyFormat, KeyAlreadyReceived, KeyOfAnotherOrganization: nothing was kept.
        KeystoreUnavailable; whatever ``work`` raises.
    """
    # submission (7) the key has the provider's form and is nobody else's; it is sealed while no lock is held
    _text(received.key, address.definition)
    address.definition.url(received.variables)
    about = {"provider": address.definition.title, "label": address.label}
    for _ in range(_TRIES):
        async with db.read(Scope.of(address.organization)) as session:
            if await _owner(session, keys.fingerprint(received.key)) not in {None, address.organization}:
                raise KeyOfAnotherOrganization
            credential = await find_credential(session, address)
            taken = select(func.max(VersionRow.number)).where(
                VersionRow.credential_id == (credential and credential.id)
            )
            number = (await session.scalar(taken) or 0) + 1
            organization = await session.get(OrganizationRow, address.organization)
        where = credential.id if credential else ids.new(ids.CredentialId)
        about["organization"] = organization.slug if organization else ""
        binding = Binding("credential", address.organization, where, number, address.definition.id)
        try:
            return await work(Sealing(where, number, await keystore.seal(received.key, binding, about)))
        except (_PlaceTaken, orphans.Swept):
            continue
    raise Unavailable("Other keys of this credential were stored all the time; try again.", retry_after=1)


class _PlaceTaken(Exception):
    """The key was sealed for a number that another one has."""


async def stage(
    session: AsyncSession,
    keys: InternalKeys,
    actor: Actor,
    address: CredentialAddress,
    received: Received,
    sealing: Sealing,
    *,
    now: Millis,
) -> VersionRow:
    """Keep a received key as the next version, ``staged``, and record it.

    It runs within :func:`with_sealed`.

    Raises:
        KeyAlreadyReceived, KeyOfAnotherOrganization, ActiveKeyExists, UnlawfulMove: nothing was kept.
    """
    # submission (9) the key is the next version, and its organization's for life
    credential, replaced = await _where(session, address, received, sealing, now)
    fingerprint = keys.fingerprint(received.key)
    await _claim(session, fingerprint, address.organization)
    credential.contact = received.contact or credential.contact
    await session.flush()
    number = max(await versions_of(session, credential.id), default=0) + 1
    if (credential.id, number) != (sealing.credential, sealing.number):
        raise _PlaceTaken
    text = received.key.reveal_text()
    row = VersionRow(
        organization_id=address.organization,
        credential_id=credential.id,
        number=number,
        provider=address.definition.id,
        state=State.STAGED,
        fingerprint=fingerprint,
        last4=text[-4:],
        intake_id=received.intake,
        verdict="",
        probes=0,
        next_probe_at=now + FIRST_PROBE_MS,
        staged_at=now,
        upstream_id=received.upstream_id,
        leak_fingerprint=keys.leak_fingerprint(hashlib.sha256(text.encode()).hexdigest()),
    )
    row.sealed = sealing.sealed
    await session.run_sync(lambda sync: orphans.keep(sync, sealing.sealed))
    session.add(row)
    if replaced is not None:
        # rotation (6) its new key is kept and is being verified
        rotation.submitted(replaced, row.number)
    await record(session, Event.about(row, "credential.version.staged", actor, now))
    return row


async def _where(
    session: AsyncSession, address: CredentialAddress, received: Received, sealing: Sealing, now: Millis
) -> tuple[CredentialRow, RotationRow | None]:
    """The credential that the key is for, and the rotation that it answers."""
    if received.rotation is None:
        await refuse_if_in_use(session, address)
        credential = await find_credential(session, address)
        credential = credential or await _new_credential(session, address, sealing.credential, now)
        # Fixed with the key: a later caller can't choose the host that a key is sent to, nor that of an earlier key,
        # which the upstream may still take.
        if credential.variables != received.variables:
            if await session.scalar(_sealed_of(credential.id)) is not None:
                raise Conflict(
                    "Earlier keys of this credential are for other host parts. Give the same ones, or revoke the "
                    "credential (`broker key revoke`): its label is free for a new one then."
                )
            credential.variables = received.variables
        return credential, None
    replaced = await rotation.awaiting_a_key(session, received.rotation)
    credential = await get_credential(session, replaced.credential_id)
    if credential.state != Validity.ACTIVE:
        raise UnlawfulMove("The credential was revoked for good.", move="submit_to_revoked_credential")
    kept = (credential.organization_id, credential.provider, credential.label, credential.host_parts)
    if kept != (address.organization, address.definition.id, address.label, received.variables):
        raise Conflict(
            "A rotation keeps the key's organization, provider, label and host parts; leave them as they are."
        )
    return credential, replaced


def _sealed_of(credential: CredentialId) -> Select[int]:
    return (
        select(VersionRow.number).where(VersionRow.credential_id == credential, VersionRow.sealed.is_not(None)).limit(1)
    )


def _text(key: Secret, definition: Definition) -> str:
    try:
        text = key.reveal_text()
    except ValueError:
        text = ""
    if not definition.matches(text):
        raise KeyFormat(
            f"This does not look like your {definition.title} {definition.key.label}; one looks like "
            f"{definition.key.example}. Copy the whole key and paste it again."
        )
    return text


async def _new_credential(
    session: AsyncSession, address: CredentialAddress, credential_id: CredentialId, now: Millis
) -> CredentialRow:
    # Locked, so that a policy that is set meanwhile meets this row, or is met by it.
    own = select(OrganizationRow.rotation_days).where(OrganizationRow.id == address.organization)
    named = address.definition.rotation
    row = CredentialRow(
        id=credential_id,
        organization_id=address.organization,
        provider=address.definition.id,
        label=address.label,
        state=Validity.ACTIVE,
        variables={},
        contact="",
        on_max_age="warn",
        organization_days=await session.scalar(own.with_for_update(read=True)),
        provider_days=0 if named is None else named.interval_days,
        created_at=now,
        revoked_at=None,
    )
    session.add(row)
    return row


async def _claim(session: AsyncSession, fingerprint: str, organization: OrganizationId) -> None:
    """Note whose key this is.  The first to claim it decides, also among concurrent claims."""
    claimed = await session.execute(
        upsert(session, FingerprintRow)
        .values(fingerprint=fingerprint, owner=organization)
        .on_conflict_do_nothing()
        .returning(FingerprintRow.owner)
    )
    if claimed.first() is not None:
        return
    if await _owner(session, fingerprint) != organization:
        raise KeyOfAnotherOrganization
    raise KeyAlreadyReceived("This key was received before. Create a new key for this request and submit that one.")


async def _owner(session: AsyncSession, fingerprint: str) -> OrganizationId | None:
    return await session.scalar(select(FingerprintRow.owner).where(FingerprintRow.fingerprint == fingerprint))
