"""Whether upstream still takes a key in use.  A bad-key answer to a job is checked by the declared verification.

An endpoint may answer 401 for its own reasons, so what a job was answered only makes the key suspect; the probe
decides.  Once it says "bad key" the version is failing: nothing is leased or used under it until a probe succeeds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import bindparam, or_, select, update

from broker.audit.events import BROKER
from broker.audit.record import raise_epoch, record
from broker.base.clock import Clock
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.credentials.lifecycle import Health, State
from broker.credentials.probe import Answer, Probed
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.verification import RETRY_MS, Verification
from broker.credentials.versions import event, versions_of
from broker.notifications.notices import tell

# One bad-key answer in so long makes a key suspect: a job that provokes them can't make the broker hammer upstream.
QUIET_MS = 30_000

SUSPECT = (
    update(VersionRow.__table__)  # type: ignore[arg-type]  # declared as FromClause, is a Table
    .where(
        VersionRow.credential_id == bindparam("suspect"),
        VersionRow.number == bindparam("suspect_number"),
        VersionRow.state == bindparam("in_use"),
        VersionRow.next_probe_at.is_(None),
        or_(VersionRow.health_at.is_(None), VersionRow.health_at < bindparam("quiet_since")),
    )
    .values(next_probe_at=bindparam("due"))
)


def suspicion(credential: str, number: int, now: int) -> dict[str, object]:
    """The parameters of :data:`SUSPECT`, which belongs to the event of the bad-key answer."""
    return {
        "suspect": credential,
        "suspect_number": number,
        "in_use": str(State.ACTIVE),
        "quiet_since": now - QUIET_MS,
        "due": now,
    }


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """Probes suspect and failing keys; safe to run on several processes at once."""

    db: Database
    verification: Verification
    clock: Clock

    async def due(self, limit: int = 50) -> list[VersionRow]:
        """Versions in use whose probe is due, of every tenant."""
        async with self.db.read(EVERY_TENANT) as session:
            rows = await session.scalars(
                select(VersionRow)
                .where(VersionRow.state == State.ACTIVE, VersionRow.next_probe_at <= self.clock())
                .order_by(VersionRow.next_probe_at)
                .limit(limit)
            )
            return list(rows)

    async def check(self, row: VersionRow) -> None:
        """Probe one version and act on what comes back."""
        scope = Scope.of(row.organization_id)
        async with self.db.read(scope) as session:
            credential = await session.get(CredentialRow, row.credential_id)
        if credential is None or row.sealed is None:
            return
        probed = await self.verification.ask(row, credential)
        async with self.db.write(scope) as session:
            present = (await versions_of(session, row.credential_id)).get(row.number)
            if present is None or present.state != State.ACTIVE:
                return
            completed = event(present, "credential.probe.completed", BROKER, self.clock(), reason=probed.answer)
            events = [replace(completed, outcome=probed.outcome)]
            if changed := self._settle(present, probed):
                await raise_epoch(session, present.credential_id)
                tell(
                    session,
                    "key_failing" if changed is Health.FAILING else "key_recovered",
                    organization=present.organization_id,
                    credential=present.credential_id,
                    version=present.number,
                    provider=present.provider,
                    now=self.clock(),
                )
                events.append(event(present, f"credential.version.{_KINDS[changed]}", BROKER, self.clock()))
            await record(session, *events)

    def _settle(self, row: VersionRow, probed: Probed) -> Health | None:
        """Note what upstream said; the new health where it changed."""
        now = self.clock()
        before = Health(row.health)
        found = {Answer.GOOD: Health.HEALTHY, Answer.BAD_KEY: Health.FAILING}.get(probed.answer, before)
        if probed.answer is Answer.GOOD:
            row.next_probe_at, row.probes = None, 0
        else:
            row.next_probe_at = now + RETRY_MS[min(row.probes, len(RETRY_MS) - 1)]
            row.probes += 1
        row.health = found
        if probed.answer is not Answer.UNREACHABLE:
            row.health_at = now
        return found if found is not before else None


_KINDS = {Health.FAILING: "failing", Health.HEALTHY: "recovered"}
