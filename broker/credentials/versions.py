"""Stage, activate, revoke and destroy versions; each in the transaction of its own event."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import raise_epoch, record
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.secret import Secret
from broker.credentials.lifecycle import Move, State, Unlawful, move
from broker.credentials.tables import CredentialRow, FingerprintRow, VersionRow
from broker.formats import ids
from broker.keystore.internal import InternalKeys
from broker.keystore.keystore import Keystore
from broker.providers.definition import Definition

# How long the process that staged a version has to verify it itself before the worker takes over.
FIRST_PROBE_MS = 60_000


class KeyFormat(Invalid):
    """The key doesn't have the provider's form."""

    code = "key_format"
    title = "This is not a key of that provider"


class KeyHeld(Conflict):
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


class ActiveKeyExists(Conflict):
    """The credential has a key in use."""

    code = "active_key_exists"


class UnlawfulMove(Conflict):
    """The lifecycle refuses the move; ``move`` names it."""

    code = "unlawful_move"


@dataclass(frozen=True, slots=True)
class Place:
    """Which credential a key is for."""

    organization: str
    definition: Definition
    label: str


async def find_credential(session: AsyncSession, place: Place) -> CredentialRow | None:
    """The credential at that place, if there is one."""
    return await session.scalar(
        select(CredentialRow).where(
            CredentialRow.organization_id == place.organization,
            CredentialRow.provider == place.definition.id,
            CredentialRow.label == place.label,
        )
    )


async def get_credential(session: AsyncSession, credential_id: str) -> CredentialRow:
    """The credential of that id.

    Raises:
        NotFound: none inside the session's scope.
    """
    row = await session.scalar(select(CredentialRow).where(CredentialRow.id == credential_id))
    if row is None:
        raise NotFound("There is no such credential for you; `broker key list` shows those that are.")
    return row


async def versions_of(session: AsyncSession, credential_id: str) -> dict[int, VersionRow]:
    """Every version of a credential by number, locked until the transaction ends where the database can."""
    rows = await session.scalars(
        select(VersionRow)
        .where(VersionRow.credential_id == credential_id)
        .order_by(VersionRow.number)
        .with_for_update()
    )
    return {row.number: row for row in rows}


async def refuse_if_in_use(session: AsyncSession, place: Place) -> None:
    """A first key only: a credential whose key is in use, or under way, takes no other one.

    Raises:
        ActiveKeyExists: names the mend.
    """
    credential = await find_credential(session, place)
    if credential is None:
        return
    if credential.state != "active":
        raise ActiveKeyExists("This credential was revoked for good; use another label for a new key.")
    versions = await versions_of(session, credential.id)
    busy = [str(row.number) for row in versions.values() if row.state not in {State.REVOKED, State.DESTROYED}]
    if busy:
        raise ActiveKeyExists(
            f"This credential holds version {', '.join(busy)} already. Revoke it first, or use another label.",
            credential=credential.id,
        )


async def stage(
    session: AsyncSession,
    keystore: Keystore,
    keys: InternalKeys,
    actor: Actor,
    place: Place,
    key: Secret,
    variables: dict[str, str],
    *,
    intake_id: str | None,
    now: int,
) -> VersionRow:
    """Seal a received key as the next version, ``staged``, and put that on the record.

    Raises:
        KeyFormat, KeyHeld, KeyOfAnotherOrganization, ActiveKeyExists: nothing was kept.
    """
    text = _text(key, place.definition)
    place.definition.url(variables)
    await refuse_if_in_use(session, place)
    fingerprint = keys.fingerprint(key)
    await _claim(session, fingerprint, place.organization)
    credential = await find_credential(session, place) or _new_credential(session, place, now)
    # Fixed with the key: a later caller can't choose the host that the key is sent to.
    credential.variables = variables
    await session.flush()
    row = VersionRow(
        organization_id=place.organization,
        credential_id=credential.id,
        number=max(await versions_of(session, credential.id), default=0) + 1,
        provider=place.definition.id,
        state=State.STAGED,
        fingerprint=fingerprint,
        last4=text[-4:],
        intake_id=intake_id,
        verdict="",
        probes=0,
        next_probe_at=now + FIRST_PROBE_MS,
        staged_at=now,
    )
    row.sealed = await keystore.seal(key, row.binding)
    session.add(row)
    await record(session, event(row, "credential.version.staged", actor, now))
    return row


def _text(key: Secret, definition: Definition) -> str:
    try:
        text = key.reveal_text()
    except ValueError:
        text = ""
    if not definition.matches(text):
        raise KeyFormat(
            f"This does not look like a {definition.title} {definition.key.label}; one looks like "
            f"{definition.key.example}. Copy the whole key and paste it again."
        )
    return text


def _new_credential(session: AsyncSession, place: Place, now: int) -> CredentialRow:
    row = CredentialRow(
        id=ids.new("crd"),
        organization_id=place.organization,
        provider=place.definition.id,
        label=place.label,
        state="active",
        variables={},
        created_at=now,
        revoked_at=None,
    )
    session.add(row)
    return row


async def _claim(session: AsyncSession, fingerprint: str, organization: str) -> None:
    """Note whose key this is; the first to claim it decides, also among concurrent claims."""
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert
    claimed = await session.execute(
        insert(FingerprintRow)
        .values(fingerprint=fingerprint, owner=organization)
        .on_conflict_do_nothing()
        .returning(FingerprintRow.owner)
    )
    if claimed.first() is not None:
        return
    owner = await session.scalar(select(FingerprintRow.owner).where(FingerprintRow.fingerprint == fingerprint))
    if owner != organization:
        raise KeyOfAnotherOrganization
    raise KeyHeld("This key was received before. Create a new key for this request and submit that one.")


async def release_claim(session: AsyncSession, row: VersionRow) -> None:
    """Forget whose key this is: it turned out not to be a key of that organization."""
    await session.execute(
        delete(FingerprintRow).where(
            FingerprintRow.fingerprint == row.fingerprint, FingerprintRow.owner == row.organization_id
        )
    )


def event(row: VersionRow, kind: str, actor: Actor, now: int, *, reason: str = "", note: str = "") -> Event:
    """An event about this version."""
    return Event(
        kind=kind,
        time=now,
        actor=actor,
        organization=row.organization_id,
        credential=row.credential_id,
        version=row.number,
        provider=row.provider,
        fingerprint=row.fingerprint,
        intake=row.intake_id or "",
        reason=reason,
        note=note,
    )


def apply_move(versions: dict[int, VersionRow], number: int, step: Move, now: int) -> None:
    """Carry a lawful move out on the rows.

    Raises:
        UnlawfulMove: the lifecycle refuses it. NotFound: no such version.
    """
    changes = move({n: State(row.state) for n, row in versions.items()}, number, step)
    if isinstance(changes, Unlawful):
        if changes.name == "unknown_version":
            raise NotFound("This credential has no such version; `broker key list` shows those it has.")
        raise UnlawfulMove(f"A version that is {versions[number].state} can't be moved by {step!r}.", move=changes.name)
    for changed, state in changes.items():
        row = versions[changed]
        row.state = state
        if state is State.VERIFIED:
            row.verified_at = now
        elif state is State.ACTIVE:
            row.activated_at = now
        elif state is State.REVOKED:
            row.revoked_at = now
        elif state is State.DESTROYED:
            row.destroyed_at, row.sealed, row.next_probe_at = now, None, None


async def activate(session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int) -> VersionRow:
    """An operator's decision to use a verified version whose evidence left it open."""
    credential = await get_credential(session, credential_id)
    if credential.state != "active":
        raise UnlawfulMove("The credential was revoked.", move="activate_in_revoked_credential")
    versions = await versions_of(session, credential_id)
    apply_move(versions, number, Move.ACTIVATE, now)
    await raise_epoch(session, credential_id)
    await record(session, event(versions[number], "credential.version.activated", actor, now))
    return versions[number]


async def revoke_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, reason: str, now: int
) -> VersionRow:
    """Cut one version off: nothing uses it from the commit on.  A version that is over already stays as it is."""
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state in {State.REVOKED, State.DESTROYED}:
        return row
    # A key that was never verified has nothing to keep for: it goes at once.
    step = Move.DESTROY if row is not None and row.state == State.STAGED else Move.REVOKE
    apply_move(versions, number, step, now)
    await raise_epoch(session, credential_id)
    await record(
        session, event(versions[number], f"credential.version.{versions[number].state}", actor, now, note=reason)
    )
    return versions[number]


async def destroy_version(
    session: AsyncSession, actor: Actor, credential_id: str, number: int, *, now: int
) -> VersionRow:
    """Erase the key material of a version that is not in use.  Again: no change."""
    await get_credential(session, credential_id)
    versions = await versions_of(session, credential_id)
    row = versions.get(number)
    if row is not None and row.state == State.DESTROYED:
        return row
    apply_move(versions, number, Move.DESTROY, now)
    await record(session, event(versions[number], "credential.version.destroyed", actor, now))
    return versions[number]


async def revoke_credential(
    session: AsyncSession, actor: Actor, credential_id: str, *, reason: str, now: int
) -> CredentialRow:
    """Cut a credential and all its versions off, for good.  Again: no change."""
    credential = await get_credential(session, credential_id)
    if credential.state == "revoked":
        return credential
    versions = await versions_of(session, credential_id)
    credential.state, credential.revoked_at = "revoked", now
    for number, row in versions.items():
        if row.state == State.STAGED:
            apply_move(versions, number, Move.DESTROY, now)
        elif row.state not in {State.REVOKED, State.DESTROYED}:
            apply_move(versions, number, Move.REVOKE, now)
    await raise_epoch(session, credential_id)
    await record(
        session,
        Event(
            kind="credential.revoked",
            time=now,
            actor=actor,
            organization=credential.organization_id,
            credential=credential.id,
            provider=credential.provider,
            note=reason,
        ),
    )
    return credential
