"""Send what notices say to everybody who has to be notified.

Each is sent at least once, under a stable id.  A notice is written with what happened.  Here it becomes a delivery for
each destination, then a message.  A delivery is claimed for a while before it is sent: a process that dies in between
leaves it to the next.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import structlog
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import BROKER, Actor, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Clock, Millis, later
from broker.base.db import EVERY_TENANT, Database
from broker.base.errors import Conflict, NotFound
from broker.base.moments import seconds_asked
from broker.base.outbound import Outbound, Unreachable
from broker.formats import ids
from broker.formats.ids import DeliveryId
from broker.keystore.keystore import CannotOpen, Keystore, KeystoreUnavailable
from broker.notifications import queues, webhooks
from broker.notifications.lifecycle import DeliveryState, DeliveryStep, WebhookState, delivery_after
from broker.notifications.mail import Deferred, Mail, Rejected
from broker.notifications.tables import DeliveryRow, NoticeRow, WebhookRow
from broker.notifications.words import URGENT
from broker.wire.client import Unreadable

_log = structlog.get_logger()

# The wait for the next try, by how many there were (the schedule that Standard Webhooks recommends). Then it is dead.
_SECOND_MS = 1_000
_RETRY_MS = tuple(seconds * _SECOND_MS for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))
# The receiver said when to come back: its delivery waits for that, and so do all others to it.
_ASKED = "asked_to_wait"
_ASKING = frozenset({429, 503})
_TRY_S = 60
# Longer than any one try may take.
_CLAIM_MS = 120_000
_TOGETHER = 20
# So many of these to one destination: one that hangs, or has much to catch up on, leaves room for the others.
_TO_ONE = 5


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of a try.

    ``final`` says that another one would be in vain, ``asked_ms`` for how long one would come too early.
    """

    sent: bool = False
    final: bool = False
    status: int | None = None
    error: str = ""
    asked_ms: int = 0


# What the way to a receiver says, in words of people.
_WHY: Final[Mapping[str, str]] = {
    "gaierror": "its name has no address",
    "ConnectionRefusedError": "nothing listens there (the connection was refused)",
    "TimeoutError": "it did not come in time",
}


class Answer(NamedTuple):
    """What a receiver answered, None if it didn't, and ``why`` not.

    It also has for how many milliseconds the receiver asked to be left alone.
    """

    status: int | None
    asked_ms: int = 0
    why: str = ""

    @property
    def refusal(self) -> str:
        """Why a notice was not taken; empty if it was."""
        if self.status is None:
            return f"no answer: {_WHY.get(self.why, self.why)}"
        if 200 <= self.status < 300:
            return ""
        return f"answered {self.status}; a notice is taken by 200 to 299, and redirects are not followed"


@dataclass(frozen=True, slots=True)
class Outbox:
    """Sends notices; safe to run on several processes at once.

    ``mail`` None sends none.  ``private`` is for development.
    """

    db: Database
    keystore: Keystore
    outbound: Outbound
    mail: Mail | None
    clock: Clock
    private: bool = False

    async def work(self) -> None:
        """Fan new notices out, then send what is due."""
        while await self.fan_out():
            pass
        while await self._send_due():
            pass

    async def fan_out(self, limit: int = 100) -> int:
        """Make the deliveries of up to so many new notices; how many there were."""
        async with self.db.write(EVERY_TENANT) as session:
            now = self.clock()
            notices = list(
                await session.scalars(
                    select(NoticeRow)
                    .where(NoticeRow.fanned_out_at.is_(None))
                    .order_by(NoticeRow.id)
                    .limit(limit)
                    .with_for_update(skip_locked=True)
                )
            )
            hooks = list(await session.scalars(select(WebhookRow).where(WebhookRow.state == WebhookState.ACTIVE)))
            made = [delivery for notice in notices for delivery in self._deliveries(notice, hooks, now)]
            resting = await queues.resting(session, (delivery.queue for delivery in made))
            for delivery in made:
                delivery.next_try_at = max(now, resting.get(delivery.queue, now))
            session.add_all(made)
            await queues.line_up(session, (delivery.queue for delivery in made), now)
            for notice in notices:
                notice.fanned_out_at = now
        return len(notices)

    def _deliveries(self, notice: NoticeRow, hooks: Iterable[WebhookRow], now: Millis) -> list[DeliveryRow]:
        to: list[tuple[str, str, str]] = [
            ("webhook", hook.id, "operator")
            for hook in hooks
            if hook.organization_id in {"", notice.organization_id}
            and (not hook.kinds or notice.kind in hook.kinds)
            and notice.facts.get("webhook") != hook.id  # of its own trouble the others are notified
        ]
        if self.mail is not None:
            to += [("email", address, "operator") for address in self.mail.operators]
            known = set(self.mail.operators)
            if notice.contact and webhooks.words_of(notice).customer and notice.contact not in known:
                to.append(("email", notice.contact, "customer"))
        return [
            DeliveryRow(
                id=ids.new(ids.DeliveryId),
                organization_id=notice.organization_id,
                notice_id=notice.id,
                channel=channel,
                destination=destination,
                queue=queues.queue_of(channel, destination, urgent=notice.kind in URGENT),
                audience=audience,
                state=DeliveryState.PENDING,
                tries=0,
                next_try_at=now,
                last_status=None,
                last_error="",
                created_at=now,
                settled_at=None,
            )
            for channel, destination, audience in dict.fromkeys(to)
        ]

    async def _send_due(self) -> int:
        """Send what the queues have whose turn it is; how many queues there were."""
        turns, claimed = await self.claim()
        failures = await asyncio.gather(*(self._send(*one) for one in claimed), return_exceptions=True)
        for failure in failures:
            if isinstance(failure, Exception):  # its claim runs out, and it is tried again
                _log.error("notice.not_sent", error=type(failure).__name__)
        return turns

    async def claim(self) -> tuple[int, list[tuple[DeliveryRow, NoticeRow]]]:
        """Deliveries that only this process sends for the next while, a few for each destination.

        Urgent ones come first.  It also tells of how many queues they are.
        """
        async with self.db.write(EVERY_TENANT) as session:
            now = self.clock()
            rows: list[DeliveryRow] = []
            of_each: Counter[str] = Counter()
            turns = 0
            for queue in await queues.due(session, now, _TOGETHER):
                if len(rows) >= _TOGETHER:
                    break
                turns += 1
                served = await queues.first(session, queue, now, _TO_ONE - of_each[queue.destination])
                for row in served:
                    row.next_try_at, row.tries = later(now, _CLAIM_MS), row.tries + 1
                of_each[queue.destination] += len(served)
                rows += served
                await queues.to_the_end(session, queue, now, served=bool(served))
            found = await session.scalars(select(NoticeRow).where(NoticeRow.id.in_([row.notice_id for row in rows])))
            notices = {notice.id: notice for notice in found}
            await session.flush()
            session.expunge_all()
        return turns, [(row, notices[row.notice_id]) for row in rows]

    async def _send(self, delivery: DeliveryRow, notice: NoticeRow) -> None:
        result = await self._tried(delivery, notice)
        now = self.clock()
        dead = not result.sent and (result.final or delivery.tries > len(_RETRY_MS))
        step = DeliveryStep.SEND if result.sent else DeliveryStep.GIVE_UP if dead else DeliveryStep.POSTPONE
        state = delivery_after(DeliveryState(delivery.state), step)
        assert state is not None, "only what is pending is claimed"
        waits = state is DeliveryState.PENDING
        next_try_at = later(now, _wait(delivery, result, now)) if waits else now
        if dead:
            _log.error("notice.dead", delivery=delivery.id, channel=delivery.channel, status=result.status)
        async with self.db.write(EVERY_TENANT) as session:
            await session.execute(
                update(DeliveryRow)
                # Another process that took the claim over has raised the number of tries.
                .where(DeliveryRow.id == delivery.id, DeliveryRow.tries == delivery.tries)
                .values(
                    state=state,
                    next_try_at=next_try_at,
                    last_status=result.status,
                    last_error=result.error,
                    settled_at=None if waits else now,
                )
            )
            if result.asked_ms:
                await queues.rest(session, delivery.channel, delivery.destination, later(now, result.asked_ms))
            elif waits:
                await queues.line_up(session, [delivery.queue], next_try_at)
            if delivery.webhook_id and not result.sent and now - delivery.created_at >= DAY_MS:
                await webhooks.failing(session, delivery.webhook_id, since=delivery.created_at, now=now)

    async def _tried(self, delivery: DeliveryRow, notice: NoticeRow) -> _Result:
        """One try.

        It ends in time, and its every fault counts: so what never works is given up one day.
        """
        try:
            async with asyncio.timeout(_TRY_S):
                if delivery.channel == "webhook":
                    return await self._post(delivery, notice)
                return await self._mail(delivery, notice)
        except TimeoutError:
            return _Result(error="timeout")
        except Exception as error:  # noqa: BLE001 - see above
            _log.error("notice.not_sent", delivery=delivery.id, error=type(error).__name__)
            return _Result(error=type(error).__name__)

    async def _post(self, delivery: DeliveryRow, notice: NoticeRow) -> _Result:
        async with self.db.read(EVERY_TENANT) as session:
            row = await session.get(WebhookRow, delivery.destination)
        if row is None or row.state != WebhookState.ACTIVE:
            return _Result(final=True, error="webhook_not_active")
        answer = await self.post(row, notice)
        status, asked_ms = answer.status, answer.asked_ms
        if status == 410:  # Standard Webhooks: the receiver wants no more
            async with self.db.write(EVERY_TENANT) as session:
                await webhooks.disable(session, BROKER, row.id, now=self.clock())
            return _Result(final=True, status=status, error="gone")
        if status is None:
            return _Result(error="unreachable")
        sent = not answer.refusal
        error = "" if sent else _ASKED if asked_ms else "refused"
        return _Result(sent=sent, status=status, error=error, asked_ms=asked_ms)

    async def post(self, row: WebhookRow, notice: NoticeRow) -> Answer:
        """Post a notice to an endpoint."""
        try:
            url, headers, body = await webhooks.message(self.keystore, row, notice, self.clock())
        except CannotOpen:
            return Answer(None, why="the webhook's address was sealed with a master key that is not loaded")
        except KeystoreUnavailable:
            return Answer(None, why="the keystore is away, and has to open the webhook's address")
        try:
            async with self.outbound.call("POST", url, headers=headers, body=body, private=self.private) as response:
                status, value = response.status, response.headers.get("Retry-After", "")
        except (Unreachable, Unreadable) as error:
            return Answer(None, why=str(error))
        asked_s = seconds_asked(value, self.clock() / 1000) if status in _ASKING else None
        return Answer(status, int(min(max(asked_s or 0.0, 0.0), DAY_MS / 1000) * 1000))

    async def _mail(self, delivery: DeliveryRow, notice: NoticeRow) -> _Result:
        if self.mail is None:
            return _Result(error="mail_not_configured")
        try:
            await self.mail.send(notice, delivery.destination, delivery.audience)
        except Rejected as rejected:
            return _Result(final=True, status=rejected.status, error=rejected.why)
        except Deferred as deferred:
            return _Result(error=str(deferred)[:80])
        return _Result(sent=True)


def _wait(delivery: DeliveryRow, result: _Result, now: Millis) -> int:
    """Milliseconds until the next try.

    One try falls on the end of the first day, when people are notified.
    """
    wait = int(_RETRY_MS[delivery.tries - 1] * random.uniform(1, 1.2))  # noqa: S311 - spreads
    day = delivery.created_at + DAY_MS - now
    return max(min(wait, day) if day > 0 else wait, result.asked_ms)


async def resend(session: AsyncSession, actor: Actor, delivery_id: DeliveryId, *, now: Millis) -> DeliveryRow:
    """Try a dead delivery again, from the beginning.

    Raises:
        NotFound: there is none inside the session's scope. Conflict: it is not dead.
    """
    row = await session.scalar(select(DeliveryRow).where(DeliveryRow.id == delivery_id).with_for_update())
    if row is None:
        raise NotFound("There is no such delivery for you; `broker notice deliveries` shows those that are.")
    state = delivery_after(DeliveryState(row.state), DeliveryStep.RESEND)
    if state is None:
        raise Conflict(f"The delivery is {row.state}; only a dead one is sent again.")
    row.state, row.tries, row.next_try_at, row.settled_at = state, 0, now, None
    await queues.line_up(session, [row.queue], now)
    await record(session, Event.about(row, "notice.resent", actor, now, note=row.channel))
    return row
