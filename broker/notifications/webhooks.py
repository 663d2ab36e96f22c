"""Where notices are posted: endpoints, their signing secrets, and the signed request.

They follow Standard Webhooks 1.0.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks import Webhook

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import DAY_MS, Millis, later, rfc3339
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.secret import Secret
from broker.formats import ids
from broker.formats.ids import NoId, OrganizationId, WebhookId
from broker.keystore.keystore import Keystore
from broker.notifications.lifecycle import DeliveryState, WebhookState, WebhookStep, webhook_after
from broker.notifications.notices import notify
from broker.notifications.tables import DeliveryRow, NoticeRow, WebhookRow
from broker.notifications.words import WORDS, Kind, Words, filled, seen

Format = Literal["standard", "slack"]

_OVERLAP_MS = DAY_MS


class Message(NamedTuple):
    """A request to post: where to, its headers and body."""

    url: str
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What an operator wants told where.

    ``organization`` empty is every one; ``kinds`` empty is every kind.
    """

    organization: OrganizationId | NoId
    url: str
    format: Format
    kinds: tuple[Kind, ...]


async def create(
    session: AsyncSession, keystore: Keystore, actor: Actor, wanted: Endpoint, *, now: Millis, plain: bool
) -> tuple[WebhookRow, str]:
    """An endpoint, and the secret that its receiver verifies signatures with, shown this once.

    Args:
        session: inside the operator's scope.
        keystore: seals URL and secret.
        actor: who makes it.
        wanted: what is told where.
        now: milliseconds since the epoch.
        plain: development: also ``http://``.

    Raises:
        Invalid: the URL is not one that notices may be posted to.
    """
    url = _checked(wanted.url, plain=plain)
    row = WebhookRow(
        id=ids.new(ids.WebhookId),
        organization_id=wanted.organization,
        format=wanted.format,
        shown=f"{url.hostname}/…{wanted.url[-4:]}",
        previous_sealed=None,
        previous_until=None,
        kinds=list(wanted.kinds),
        state=WebhookState.ACTIVE,
        created_by=actor.id,
        created_at=now,
        ended_at=None,
    )
    secret = _new_secret()
    row.url_sealed = await keystore.seal(Secret(wanted.url.encode()), row.url_binding)
    row.secret_sealed = await keystore.seal(Secret(secret.encode()), row.secret_binding)
    session.add(row)
    await record(session, Event.about(row, "webhook.created", actor, now))
    return row, secret


async def find(session: AsyncSession, webhook_id: WebhookId, *, lock: bool = True) -> WebhookRow:
    """The endpoint of that id; raises NotFound.

    ``lock`` keeps it as it is until the transaction ends.
    """
    query = select(WebhookRow).where(WebhookRow.id == webhook_id)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None:
        raise NotFound("There is no such webhook for you; `broker webhook list` shows those that are.")
    return row


async def revoke(session: AsyncSession, actor: Actor, webhook_id: WebhookId, *, now: Millis) -> WebhookRow:
    """Post nothing there any more.  Idempotent."""
    row = await find(session, webhook_id)
    if _end(row, WebhookStep.REVOKE, now):
        await record(session, Event.about(row, "webhook.revoked", actor, now))
    return row


async def disable(session: AsyncSession, actor: Actor, webhook_id: WebhookId, *, now: Millis) -> None:
    """Post nothing more to a receiver that said that it is gone, and notify operators."""
    row = await find(session, webhook_id)
    if not _end(row, WebhookStep.DISABLE, now):
        return
    await notify(
        session,
        "webhook_disabled",
        organization=row.organization_id,
        provider="",
        now=now,
        dedup=f"webhook_disabled/{row.id}",
        facts={"webhook": row.id},
    )
    await record(session, Event.about(row, "webhook.disabled", actor, now))


def _end(row: WebhookRow, step: WebhookStep, now: Millis) -> bool:
    """Take an endpoint out of use by this step.

    False, with no change, if its state doesn't have the step.
    """
    ended = webhook_after(WebhookState(row.state), step)
    if ended is None:
        return False
    row.state, row.ended_at = ended, now
    return True


async def failing(session: AsyncSession, webhook_id: WebhookId, *, since: Millis, now: Millis) -> None:
    """Notify operators that the receiver has taken nothing since ``since``.

    They hear of it by other channels, once until it takes something.
    """
    taken = await session.scalar(
        select(func.max(DeliveryRow.settled_at)).where(
            DeliveryRow.channel == "webhook",
            DeliveryRow.destination == webhook_id,
            DeliveryRow.state == DeliveryState.SENT,
        )
    )
    row = await session.get(WebhookRow, webhook_id)
    if row is None or row.state != WebhookState.ACTIVE or (taken is not None and taken >= since):
        return
    await notify(
        session,
        "webhook_failing",
        organization=row.organization_id,
        provider="",
        now=now,
        dedup=f"webhook_failing/{row.id}/{taken or 0}",
        facts={"webhook": row.id},
    )


async def rotate_secret(
    session: AsyncSession, keystore: Keystore, actor: Actor, webhook_id: WebhookId, *, now: Millis
) -> tuple[WebhookRow, str]:
    """A new signing secret, shown this once; the previous one signs too for a day.

    Raises:
        Conflict: the endpoint is no longer in use.
    """
    row = await find(session, webhook_id)
    if row.state != WebhookState.ACTIVE:
        raise Conflict(f"The webhook is {row.state}; add a new one.")
    secret = _new_secret()
    row.previous_sealed, row.previous_until = row.secret_sealed, later(now, _OVERLAP_MS)
    row.secret_sealed = await keystore.seal(Secret(secret.encode()), row.secret_binding)
    await record(session, Event.about(row, "webhook.secret_rotated", actor, now))
    return row, secret


async def message(keystore: Keystore, row: WebhookRow, notice: NoticeRow, now: Millis) -> Message:
    """The request that posts a notice.

    A repeat has the same ``webhook-id``, so receivers can tell.
    """
    url = (await keystore.open(row.url_sealed, row.url_binding)).reveal_text()
    if row.format == "slack":
        return Message(url, [("Content-Type", "application/json")], json.dumps(_slack(notice)).encode())
    body = json.dumps(payload(notice))
    sealed = [row.secret_sealed]
    if row.previous_sealed is not None and row.previous_until is not None and row.previous_until > now:
        sealed.append(row.previous_sealed)
    at = datetime.fromtimestamp(now // 1000, UTC)
    signatures = [
        Webhook((await keystore.open(one, row.secret_binding)).reveal_text()).sign(notice.id, at, body)
        for one in sealed
    ]
    headers = [
        ("Content-Type", "application/json"),
        ("User-Agent", "Keybroker"),
        ("webhook-id", notice.id),
        ("webhook-timestamp", str(now // 1000)),
        ("webhook-signature", " ".join(signatures)),
    ]
    return Message(url, headers, body.encode())


def payload(notice: NoticeRow) -> Mapping[str, object]:
    """What a notice says to machines."""
    words = words_of(notice)
    return {
        "type": notice.kind.replace("_", ".", 1),
        "timestamp": rfc3339(notice.created_at),
        "data": {
            "notice": notice.id,
            "severity": words.severity,
            "title": words.title,
            "text": filled(words.operator, notice.facts),
            "organization": notice.organization_id,
            "provider": notice.provider,
            "credential": notice.credential_id,
            "version": notice.version,
            "facts": seen(notice.facts),
        },
    }


def words_of(notice: NoticeRow) -> Words:
    """The words of a stored notice."""
    return next((words for kind, words in WORDS.items() if kind == notice.kind), _TEST)


_TEST = Words("info", "A test", "This is a test of a webhook. Nothing happened and nothing needs to be done.")


def _slack(notice: NoticeRow) -> Mapping[str, object]:
    """The payload for Slack's incoming webhooks, and whatever else takes their JSON.

    Facts are other people's text.  So they are in plain text alone, where nothing is a mention, a link or bold.
    ``text`` is read as markup, by some receivers as the only part.  So there is nothing in it but words and ids of
    ours.
    """
    words = words_of(notice)
    sign = {"info": ":information_source:", "warning": ":warning:", "urgent": ":rotating_light:"}[words.severity]
    title = f"{sign} *{words.title}*"
    about = f"{notice.organization_id} · {notice.provider} · {notice.credential_id}"
    return {
        "text": f"{title}\n{about}\n`broker notice list` says more.",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": title}},
            {"type": "section", "text": _plain(filled(words.operator, notice.facts))},
            {"type": "context", "elements": [_plain(about)]},
        ],
    }


def _plain(text: str) -> Mapping[str, object]:
    return {"type": "plain_text", "text": text[:3_000], "emoji": False}


# A name in ASCII or a number; anything else is two hosts to two readers.
_HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+")


class _Url(NamedTuple):
    hostname: str


def _checked(url: str, *, plain: bool) -> _Url:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 - raises if it is none
        (host or "").encode("idna")  # raises if a label is empty or too long
    except ValueError:
        host = None
    schemes = {"https", "http"} if plain else {"https"}
    if not host or not _HOST.fullmatch(host) or parts.scheme not in schemes or "@" in parts.netloc or parts.fragment:
        raise Invalid("url: write an https:// address with a valid host name and no user name, password or fragment.")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid("url: write it in visible ASCII characters.")
    return _Url(host)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
