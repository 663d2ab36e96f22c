"""Take a sealed submission: open it, stage the key, spend the link, verify the key.

:meth:`Submissions.submit` has the order; :mod:`broker` numbers the steps.  Control goes down and is called back twice,
because no Vault and no upstream may be asked while locks of the database are held:

- :func:`~broker.credentials.staging.with_sealed` seals the key, then calls ``keep`` back.  Its transaction stages the
  key and spends the link.  After that commit the key is safe: a crash or an outage leaves it to the worker, and nobody
  has to paste again.
- :meth:`~broker.credentials.verification.Verification.run` asks the upstream, then calls :meth:`Submissions.settle`
  back, as the last of the transaction that decides about the key.  So the link and its key never disagree: if the
  the upstream says that the key is bad, the link works again.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.db import Scope
from broker.base.errors import BrokerError, Invalid, TooMany
from broker.base.secret import Secret
from broker.base.strangers import WINDOW_MS, Tally
from broker.credentials import rotation
from broker.credentials.staging import KeyOfAnotherOrganization, Received, Sealing, stage, with_sealed
from broker.credentials.tables import CredentialRow, VersionRow
from broker.credentials.verification import Verdict, Verification
from broker.credentials.versions import ActiveKeyExists, CredentialAddress, locked
from broker.formats import intake_seal
from broker.formats.intake_seal import Submission
from broker.intake.lifecycle import SPENT, IntakeState, IntakeStep, close, reopen, submitted
from broker.intake.links import is_superseded
from broker.intake.refusals import KeyGiven, LinkCancelled, LinkInvalid, LinkSpent
from broker.intake.status_codes import sealed_status_key
from broker.intake.tables import IntakeRow
from broker.parts import Parts

# Of one link in ten minutes: its holder may be mistaken, but not without end.
SUBMISSIONS = 20


class SealInvalid(Invalid):
    """The submission doesn't open: altered, or sealed for another request."""

    code = "seal_invalid"

    def __init__(self) -> None:
        super().__init__("The submission could not be opened. Load the page again from the link and submit once more.")


class KeyRefusedUpstream(Invalid):
    """The upstream says that the key is not valid."""

    code = "key_refused_upstream"
    title = "The key was refused"


class Submissions:
    """Takes submissions.  ``refused`` counts those that were refused without a look."""

    def __init__(self, parts: Parts, verification: Verification) -> None:
        self._db, self._audit, self._keystore, self._keys = parts.db, parts.audit, parts.keystore, parts.keys
        self._catalog, self._clock = parts.catalog, parts.clock
        self._verification = verification
        self._tally = Tally(parts.clock)
        self.refused = 0

    async def submit(self, intake: IntakeRow, actor: Actor, sealed_key: bytes, variables: dict[str, str]) -> IntakeRow:
        """Take the key of a submission whose proof was checked; the intake as it then is.

        Raises:
            LinkSpent: somebody submitted a key before.
            LinkInvalid: the link was replaced meanwhile.
            SealInvalid, KeyFormat, KeyAlreadyReceived, KeyOfAnotherOrganization, KeyRefusedUpstream: nothing was kept,
                and the link still works; recorded.
            TooMany: likewise, after many of these; neither looked at nor recorded.
            KeyGiven, LinkCancelled: nothing was kept, as another key came or the credential was revoked; recorded.
        """
        # submission (5) the link is neither spent nor tried too often
        if intake.state in SPENT:
            raise LinkSpent
        if self._tally.count(intake.id) >= SUBMISSIONS:
            self.refused += 1
            raise TooMany(
                "Too many submissions over this link were refused. Wait ten minutes, then submit the key again.",
                retry_after=WINDOW_MS // 1000,
            )
        self._tally.add(intake.id)
        try:
            version = await self._stage(intake, actor, await self._open(intake, sealed_key), variables)
        except LinkSpent:
            raise
        except BrokerError as refusal:
            await self._audit.append(
                Event.about(intake, "intake.refused", actor, self._clock(), decision="denied", reason=refusal.code)
            )
            raise
        verdict = await self._verify(version)
        if verdict is Verdict.BAD_KEY:
            title = self._catalog.get(intake.provider).title
            raise KeyRefusedUpstream(
                f"{title} says that this key is not valid. Check that it was not revoked, or create a new key, and "
                "submit it here: this link still works."
            )
        if verdict is Verdict.OTHER_ORGANIZATION:
            raise KeyOfAnotherOrganization
        async with self._db.read(Scope.of(intake.organization_id)) as session:
            fresh = await session.get(IntakeRow, intake.id)
        assert fresh is not None
        return fresh

    async def _open(self, intake: IntakeRow, sealed_key: bytes) -> Submission:
        if intake.private_sealed is None:
            raise LinkSpent
        # submission (6) the seal is opened
        private = (await self._keystore.open(intake.private_sealed, intake.binding)).reveal()
        with suppress(intake_seal.CannotOpen):
            return intake_seal.open_sealed(sealed_key, private, intake.context)
        if intake.link_key is None:  # a sender as old as such a link makes no status code
            with suppress(intake_seal.CannotOpen):
                return intake_seal.open_sealed_v1(sealed_key, private, intake.context)
        raise SealInvalid

    async def _stage(
        self, intake: IntakeRow, actor: Actor, submission: Submission, variables: dict[str, str]
    ) -> VersionRow:
        # rotation (5) the new key comes like every key, and answers the rotation
        address = CredentialAddress(intake.organization_id, self._catalog.get(intake.provider), intake.label)
        scope = Scope.of(intake.organization_id)
        if intake.rotation_id is not None:  # the new key goes to the host that the old one goes to
            async with self._db.read(scope) as session:
                variables = (await session.get_one(CredentialRow, intake.credential_id)).host_parts
        received = Received(Secret(submission.key), variables, intake.id, intake.rotation_id, intake.contact)
        verifier = submission.verifier
        status_key = await sealed_status_key(self._keys, intake, verifier) if verifier else None

        async def keep(sealing: Sealing) -> VersionRow:
            now = self._clock()
            async with self._db.write(scope) as session:
                # submission (8) the link is locked, after what is locked before it, and still open
                await locked(session, address)
                if intake.rotation_id is not None:
                    await rotation.find(session, intake.rotation_id)
                row = await session.scalar(select(IntakeRow).where(IntakeRow.id == intake.id).with_for_update())
                if row is None or row.state != IntakeState.OPEN:
                    raise LinkSpent
                if row.public_key != intake.public_key or not row.genuine:  # replaced since it was proved, or altered
                    raise LinkInvalid
                if await is_superseded(session, row):  # revoked since
                    raise LinkCancelled
                try:
                    version = await stage(session, self._keys, actor, address, received, sealing, now=now)
                except ActiveKeyExists:  # given since; its words are for operators
                    raise KeyGiven from None
                # submission (10) the link is spent; the key is safe from this commit on
                submitted(row, now)
                row.credential_id, row.version = version.credential_id, version.number
                row.status_key = status_key
                await record(session, Event.about(row, "intake.submitted", actor, now))
            return version

        return await with_sealed(self._db, self._keystore, self._keys, address, received, keep)

    async def _verify(self, version: VersionRow) -> Verdict:
        try:
            return await self._verification.run(
                organization=version.organization_id,
                credential_id=version.credential_id,
                number=version.number,
                also=self.settle,
            )
        except BrokerError:
            # The key is sealed and durable, so the customer is told that it was received, and the worker goes on.
            return Verdict.UNREACHABLE

    async def settle(self, session: AsyncSession, version: VersionRow, verdict: Verdict) -> None:
        """Bring the intake in line with what verification found, in the same transaction."""
        # submission (15) the link goes the way of its key
        row = await session.scalar(select(IntakeRow).where(IntakeRow.id == version.intake_id).with_for_update())
        if row is None or row.state != IntakeState.VERIFYING:
            return
        now = self._clock()
        if verdict in {Verdict.ACTIVE, Verdict.PENDING_REVIEW}:
            close(row, IntakeStep.ACCEPT if verdict is Verdict.ACTIVE else IntakeStep.HOLD, now)
            await record(session, Event.about(row, "intake.accepted", BROKER, now, reason=verdict))
        elif verdict is not Verdict.UNREACHABLE:
            reopen(row, IntakeStep.REFUSE)
            row.refusal = verdict
            await record(session, Event.about(row, "intake.refused", BROKER, now, decision="denied", reason=verdict))
