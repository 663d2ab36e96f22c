"""Replace keys without people, if the provider's own API makes and deletes them.

One try of a rotation deletes what an earlier try may have left, which is found by the rotation's name.  It makes a key,
seals it and verifies it; from there it goes like every rotation.  A try is claimed first, and keeps what it made only
while its claim stands.  The next try deletes whatever else was made under the name.  So however often a process dies,
one rotation leaves one new key.  The old one is deleted upstream once it has retired.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Event
from broker.base.clock import Millis, later
from broker.base.db import Scope
from broker.base.errors import BrokerError
from broker.base.following import found_in
from broker.base.secret import Secret
from broker.base.spellings import Spellings, masked
from broker.base.validity import Validity
from broker.credentials import due, rotation
from broker.credentials.cooldown import cool_down, not_before
from broker.credentials.lifecycle import State
from broker.credentials.probe import Exchange, Request, exchange, target
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.staging import Received, Sealing, stage, with_sealed
from broker.credentials.tables import CredentialRow, RotationRow, VersionRow
from broker.credentials.verification import Also, Verdict, Verification, retry_ms
from broker.credentials.versions import CredentialAddress
from broker.notifications.altered import insist
from broker.organizations.tables import OrganizationRow
from broker.parts import Parts
from broker.providers.key_api import Made, Rotate

_log = structlog.get_logger()

# Longer than all requests of one try may take.
_CLAIM_MS = 300_000
# Pages of a list, in one try.
_PAGES_MAX = 50
# They wait for a key to be made, or may have left one upstream.
_WORKED_ON = frozenset({RotationState.REQUESTED, RotationState.CANCELLED})


class _Failed(Exception):
    """A try came to nothing.

    ``status`` is the upstream's, None if it gave no answer.  ``cooldown`` is for how many seconds it wants no more
    calls.  ``too_fast`` says that it refused for its rate, which fixes itself.
    """

    def __init__(self, step: str, status: int | None, cooldown: float = 0.0, *, too_fast: bool = False) -> None:
        super().__init__(step)
        self.step = step
        self.status = status
        self.cooldown = cooldown
        self.too_fast = too_fast

    @classmethod
    def at(cls, step: str, done: Exchange) -> _Failed:
        """Because of what the upstream answered."""
        return cls(step, done.status, done.cooldown, too_fast=done.too_fast)


@dataclass(frozen=True, slots=True)
class _Try:
    """One claimed try of a rotation, with the key in force."""

    rotation: RotationRow
    credential: CredentialRow
    active: VersionRow
    api: Rotate

    @property
    def name(self) -> str:
        """What the new key is called upstream."""
        return f"keybroker-{self.rotation.id}"


@dataclass(frozen=True, slots=True)
class Minting:
    """Carries minted rotations on; safe to run on several processes at once."""

    parts: Parts
    verification: Verification

    def waiting(self) -> list[due.Span[RotationRow]]:
        """Rotations that wait for a key to be made, and cancelled ones that may have left one."""
        now = self.parts.clock()
        return [span for state in sorted(_WORKED_ON) for span in due.spans(RotationRow, state, now, due.HOUR_MS)]

    async def carry_on(self, row: RotationRow, also: Also) -> None:
        """One try.  Whatever fails, the key in force stays, and there is another try."""
        claimed = await self._claim(row)
        if claimed is None:
            return
        try:
            await self._identify(claimed)
            await self._clear(claimed)
            if claimed.rotation.state == RotationState.CANCELLED:
                await self._cleared(claimed)
                return
            made = await self._make(claimed)
            number = await self._keep(claimed, made)
            verdict = await self.verification.run(
                organization=row.organization_id, credential_id=row.credential_id, number=number, also=also
            )
            if verdict in {Verdict.BAD_KEY, Verdict.OTHER_ORGANIZATION}:
                raise _Failed(str(verdict), None)
        except _Failed as failed:
            await self._failed(claimed, failed)

    async def _claim(self, row: RotationRow) -> _Try | None:
        parts = self.parts
        async with parts.db.write(Scope.of(row.organization_id)) as session:
            now = parts.clock()
            present = await rotation.find(session, row.id)
            if present.state not in _WORKED_ON:
                return None
            if not due.is_due(present.next_try_at, now, due.HOUR_MS):
                return None
            credential = await session.get_one(CredentialRow, row.credential_id)
            api = parts.catalog.get(row.provider).rotate
            if credential.state != Validity.ACTIVE or api is None:
                await _leave_to_people(session, present, now)
                return None
            active = await self._key_in_force(session, credential)
            until = await not_before(session, credential, parts.catalog, now)
            if active is None or until is not None:  # nothing to make or delete keys with, for now
                present.next_try_at = until or later(now, due.HOUR_MS)
                return None
            present.tries, present.next_try_at = present.tries + 1, later(now, _CLAIM_MS)
            await session.flush()
            session.expunge_all()
        return _Try(present, credential, active, api)

    async def _key_in_force(self, session: AsyncSession, credential: CredentialRow) -> VersionRow | None:
        """The version in use, of an organization that was not cut off."""
        organization = await session.get_one(OrganizationRow, credential.organization_id)
        if organization.state != Validity.ACTIVE:
            return None
        in_force = (VersionRow.credential_id == credential.id, VersionRow.state == State.ACTIVE)
        return await session.scalar(select(VersionRow).where(*in_force, VersionRow.sealed.is_not(None)))

    async def _identify(self, claimed: _Try) -> None:
        """Learn what the upstream calls the key in force: it is needed to delete the key one day."""
        own = claimed.api.own
        if claimed.active.upstream_id or own is None:
            return
        done = await self._call(claimed.credential, claimed.active, "own", Request("GET", own.path))
        if done.status not in own.good:
            raise _Failed.at("own", done)
        async with self.parts.db.write(Scope.of(claimed.credential.organization_id)) as session:
            row = await session.get_one(VersionRow, (claimed.active.credential_id, claimed.active.number))
            row.upstream_id = own.read(done.body)

    async def _clear(self, claimed: _Try) -> None:
        """Delete keys that earlier tries made and did not keep."""
        found = await self._left(claimed)
        if not all(found):  # one can't be deleted, and the next try must not leave another one
            raise _Failed("list", None)
        for left in found:
            await self.delete(claimed.credential, claimed.active, left)

    async def _left(self, claimed: _Try) -> list[str]:
        """The ids of keys that bear the rotation's name.

        The whole list is read: a key on its last page works as well.
        """
        listing, path, found = claimed.api.list, claimed.api.list.path, []
        for _ in range(_PAGES_MAX):
            done = await self._call(claimed.credential, claimed.active, "list", Request("GET", path))
            if done.status not in listing.good:
                raise _Failed.at("list", done)
            page = listing.read(done.body, claimed.name) if done.whole else None
            if page is None:
                raise _Failed("list_unreadable", None)
            found += page.ids
            if not page.following:
                return found
            path = page.following
        raise _Failed("list_too_long", None)

    async def _make(self, claimed: _Try) -> Made:
        create = claimed.api.create
        request = Request(create.method, create.path, create.filled(claimed.name))
        done = await self._call(claimed.credential, claimed.active, "create", request)
        made = create.read(done.body) if done.status in create.good else None
        if made is None:
            raise _Failed.at("create", done)
        # What the upstream calls it is kept in clear, and stands in the address at which it is deleted.
        return made._replace(id="") if found_in(made.id.encode(), Spellings(made.key.encode())) else made

    async def _keep(self, claimed: _Try, made: Made) -> int:
        """Seal the new key and stage it, if this try's claim still stands; its number."""
        parts = self.parts
        address = CredentialAddress(
            claimed.credential.organization_id, parts.catalog.get(claimed.credential.provider), claimed.credential.label
        )
        received = Received(
            Secret(made.key.encode()),
            claimed.credential.host_parts,
            rotation=claimed.rotation.id,
            upstream_id=made.id,
        )

        async def keep(sealing: Sealing) -> int:
            async with parts.db.write(Scope.of(address.organization)) as session:
                present = await rotation.find(session, claimed.rotation.id)
                if present.tries != claimed.rotation.tries:
                    raise _Failed("claim_lost", None)
                row = await stage(session, parts.keys, BROKER, address, received, sealing, now=parts.clock())
                return row.number

        try:
            return await with_sealed(parts.db, parts.keystore, parts.keys, address, received, keep)
        except BrokerError as refused:
            raise _Failed(refused.code, None) from None

    async def delete(self, credential: CredentialRow, active: VersionRow, upstream_id: str) -> None:
        """Delete a key upstream with the one in force.  Idempotent.

        Raises:
            _Failed: the upstream did not.
        """
        api = self.parts.catalog.get(credential.provider).rotate
        assert api is not None
        request = Request(api.delete.method, api.delete.filled(upstream_id))
        done = await self._call(credential, active, "delete", request)
        if done.status not in api.delete.good:
            raise _Failed.at("delete", done)

    async def delete_retired(self, credential: CredentialRow, row: VersionRow) -> None:
        """Delete an old key upstream if it was made there and another one is in force.

        Otherwise people have to.
        """
        if not row.upstream_id or self.parts.catalog.get(row.provider).rotate is None:
            return
        parts = self.parts
        async with parts.db.read(Scope.of(row.organization_id)) as session:
            active = await self._key_in_force(session, credential)
            waiting = await not_before(session, credential, parts.catalog, parts.clock()) is not None
        if active is None or waiting:
            return
        try:
            await self.delete(credential, active, row.upstream_id)
        except _Failed as failed:  # asked again with the next probe
            _log.warning("rotation.not_deleted", credential=credential.id, version=row.number, status=failed.status)

    async def _call(self, credential: CredentialRow, active: VersionRow, step: str, request: Request) -> Exchange:
        """One request with the key in force, on the record before and after.

        The key is masked in the answer.
        """
        parts = self.parts
        await insist(parts.db, credential, parts.clock())
        definition = parts.catalog.get(credential.provider)
        asked = target(definition, credential.host_parts, request)
        await parts.audit.append(
            Event.about(active, "rotation.call.authorized", BROKER, parts.clock(), reason=step, target=asked)
        )
        assert active.sealed is not None
        key = await parts.keystore.open(active.sealed, active.binding)
        done = await exchange(parts.outbound, definition, credential.host_parts, key, request, now=parts.clock())
        await parts.audit.append(
            Event.about(active, "rotation.call.completed", BROKER, parts.clock(), reason=step, outcome=done.outcome)
        )
        return done._replace(body=masked(done.body, found_in(done.body, Spellings(key.reveal()))))

    async def _cleared(self, claimed: _Try) -> None:
        async with self.parts.db.write(Scope.of(claimed.rotation.organization_id)) as session:
            (await rotation.find(session, claimed.rotation.id)).next_try_at = None

    async def _failed(self, claimed: _Try, failed: _Failed) -> None:
        _log.warning("rotation.mint_failed", rotation=claimed.rotation.id, step=failed.step, status=failed.status)
        async with self.parts.db.write(Scope.of(claimed.rotation.organization_id)) as session:
            now = self.parts.clock()
            row = await rotation.find(session, claimed.rotation.id)
            if row.tries != claimed.rotation.tries or row.state not in _WORKED_ON:
                return
            row.next_try_at = later(now, max(retry_ms(row.tries - 1), int(failed.cooldown * 1000)))
            await cool_down(session, row.credential_id, failed.cooldown, now)
            if not failed.too_fast:
                await _notify(session, row, failed, now)


async def _notify(session: AsyncSession, row: RotationRow, failed: _Failed, now: Millis) -> None:
    await rotation.notify(session, row, "mint_failed", now, status=failed.status or failed.step)


async def _leave_to_people(session: AsyncSession, row: RotationRow, now: Millis) -> None:
    """The broker can make and delete nothing any more.

    People delete a key that a cancelled rotation may have left.
    """
    row.next_try_at = None
    if row.state == RotationState.CANCELLED:
        await rotation.notify(session, row, "key_left_upstream", now)
