"""Customers' keys in Vault that no row refers to: what a restored backup doesn't know of.

Each is destroyed, or taken like a key that an operator gives.  Then it is verified with the upstream; if another key is
in use, it becomes the new key of a rotation.  Its place in Vault tells whose it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from sqlalchemy import select

from broker.app import Broker
from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import BrokerError, Invalid
from broker.base.secret import Secret
from broker.credentials import rotation
from broker.credentials.lifecycle import USABLE
from broker.credentials.manual_entry import add
from broker.credentials.staging import Received
from broker.credentials.tables import VersionRow
from broker.credentials.verification import Verdict
from broker.credentials.versions import CredentialAddress, find_credential, versions_of
from broker.formats.ids import CredentialId, OrganizationId
from broker.formats.kv_reference import Reference, is_reference
from broker.keystore.orphans import OrphanRow
from broker.keystore.vault.values import Values
from broker.organizations.tables import OrganizationRow
from broker.rotations import commands
from broker.rotations.requests import Asking

_WHY = "found in Vault after a restore"


class Orphan(NamedTuple):
    """A value that no row refers to, by its path and KV's number.

    Its path tells whose it is.  ``label`` and ``customer`` are what is said of it in Vault.
    """

    path: str
    number: int
    organization: OrganizationId
    provider: str
    credential: CredentialId
    label: str
    customer: str


async def orphans(db: Database, values: Values, listing: Values) -> AsyncIterator[Orphan]:
    """Every such value.  ``listing`` is a view of ``values`` with the right to list.

    Raises:
        KeystoreUnavailable: Vault is away, or the token of ``listing`` has no right to list.
    """
    there = {path: await values.numbers(path) for path in await listing.below(values.path("organizations"))}
    # After that: whatever was put there earlier has its row, or a note, by now.
    referred = await _referred(db)
    for path, numbers in there.items():
        organization, provider, credential = path.split("/")[-3:]
        left = sorted(number for number in numbers.known - numbers.destroyed if (path, number) not in referred)
        if not left or path == values.path("organizations", "probe", "probe", "probe"):
            continue
        about = await values.described(path)
        for number in left:
            yield Orphan(
                path,
                number,
                OrganizationId(organization),
                provider,
                CredentialId(credential),
                label=about.get("label", ""),
                customer=about.get("organization", ""),
            )


async def destroy(broker: Broker, values: Values, orphan: Orphan) -> None:
    """Put it on the record that the value is destroyed, then destroy it."""
    await _note(broker, "keystore.orphan_destroyed", orphan)
    await values.destroy(orphan.path, orphan.number)


async def attach(broker: Broker, values: Values, orphan: Orphan) -> Verdict:
    """Take the value as a key that an operator gives, then destroy the old value.

    Returns:
        What verification came to.

    Raises:
        Invalid: its customer is unknown, or nothing is there that can be read.
        BrokerError: as :func:`~broker.credentials.manual_entry.add`; the value stays as it is.
    """
    services = broker.services
    found = await values.get(orphan.path, orphan.number)
    if found is None or "key" not in found:
        raise Invalid("It was deleted in Vault, or is no key; destroy it.")
    async with services.parts.db.read(Scope.of(orphan.organization)) as session:
        if await session.get(OrganizationRow, orphan.organization) is None:
            raise Invalid("Its customer is unknown here; add the customer and ask them for the key, then destroy it.")
    address = CredentialAddress(orphan.organization, services.parts.catalog.get(orphan.provider), orphan.label)
    await _note(broker, "keystore.orphan_attached", orphan)
    received = await _received(broker, address, Secret(found["key"].encode()))
    try:
        _, verdict = await add(services.parts, services.verification, BROKER, address, received)
    except BrokerError:
        if received.rotation is not None:
            async with services.parts.db.write(Scope.of(address.organization)) as session:
                await commands.cancel(session, BROKER, received.rotation, reason=_WHY, now=services.parts.clock())
        raise
    await values.destroy(orphan.path, orphan.number)
    return verdict


async def _received(broker: Broker, address: CredentialAddress, key: Secret) -> Received:
    """What is staged: a first key, or the answer to a rotation.

    The rotation is opened for it if another key is in use.
    """
    services = broker.services
    async with services.parts.db.write(Scope.of(address.organization)) as session:
        credential = await find_credential(session, address)
        if credential is None:
            return Received(key, {})
        versions = await versions_of(session, credential.id)
        if not any(version.state in USABLE for version in versions.values()):
            return Received(key, credential.host_parts)
        plan = rotation.Plan("routine" if credential.contact else "urgent", _WHY)
        row, _, _ = await services.rotating.ask(
            session, BROKER, credential, plan, Asking(), now=services.parts.clock(), notified=False
        )
        return Received(key, credential.host_parts, intake=row.intake_id, rotation=row.id)


async def _note(broker: Broker, kind: str, orphan: Orphan) -> None:
    services = broker.services
    async with services.parts.db.write(EVERY_TENANT) as session:
        event = Event(
            kind=kind,
            time=services.parts.clock(),
            actor=BROKER,
            organization=orphan.organization,
            credential=orphan.credential,
            provider=orphan.provider,
            subject=f"{orphan.path}:{orphan.number}",
        )
        await record(session, event)


async def _referred(db: Database) -> set[tuple[str, int]]:
    """Every path and number that a row or a note refers to."""
    async with db.read(EVERY_TENANT) as session:
        sealed = [*await session.scalars(select(VersionRow.sealed).where(VersionRow.sealed.is_not(None)))]
        sealed += await session.scalars(select(OrphanRow.reference))
    references = (Reference.decode(one) for one in sealed if one is not None and is_reference(one))
    return {(reference.path, reference.number) for reference in references}
