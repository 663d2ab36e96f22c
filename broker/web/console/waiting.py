"""What waits for a person, most urgent first.

Each kind is found by an index.  Some of it is named, the rest is one page away.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple, cast

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.tables import WitnessRow
from broker.base.clock import DAY_MS
from broker.base.db import Table
from broker.base.paging import Column, Cut, Filter, Sheet, by, sheet
from broker.credentials.rotation_lifecycle import RotationState
from broker.credentials.tables import CredentialRow, RotationRow
from broker.grants.shown import GrantState
from broker.grants.shown import showing as grants_showing
from broker.grants.tables import GrantRow
from broker.identity import operators
from broker.identity.principal import Role
from broker.incidents.shown import over
from broker.incidents.tables import ExposureRow
from broker.intake.lifecycle import IntakeState
from broker.intake.shown import showing as intakes_showing
from broker.intake.tables import IntakeRow
from broker.leases.attention import BY_DUE_TIME, Selection, selected
from broker.notifications.lifecycle import DeliveryState
from broker.notifications.tables import DeliveryRow, NoticeRow
from broker.notifications.words import WORDS, Kind, filled
from broker.reviews import subjects
from broker.reviews.shown import ReviewState
from broker.reviews.subjects import Subject
from broker.reviews.tables import ReviewRow
from broker.web.api.fields import when
from broker.web.api.names import Names, job_names, slugs_of
from broker.web.callers import Call

# So many of a kind are named.
NAMED: Final = 4
# Of reviews, as what some are about may have ended since the worker looked.
_REVIEWS_LOOKED_AT: Final = 20
# What was only told, and nobody can settle, stands here for so long.
_TOLD_FOR_MS: Final = 14 * DAY_MS
_TOLD: Final[Sequence[Kind]] = ("right_altered", "log_contradicted", "log_unwitnessed", "link_logged")
_MORE_TOLD: Final[Sequence[Kind]] = ("status_link_logged", "webhook_disabled", "sink_behind")


@dataclass(frozen=True, slots=True)
class One:
    """Something that waits: what it is, its own page, whose it is and since when."""

    text: str
    path: str
    organization_id: str = ""
    since: str | None = None


@dataclass(frozen=True, slots=True)
class Kindred:
    """What waits of one kind.

    ``word`` is its state, ``title`` says what a person has to do, and ``path`` lists all if there is ``more``.
    """

    word: str
    title: str
    path: str
    named: Sequence[One]
    more: bool


class _Kind(NamedTuple):
    word: str
    title: str
    path: str
    row: type[Table]
    filters: Sequence[Filter | None]
    show: Callable[[Any], One]
    key: Sequence[Column]


async def waiting(session: AsyncSession, call: Call) -> tuple[Sequence[Kindred], Names]:
    """Everything that waits within the caller's limits, and the slugs of whose it is."""
    found = [await _of(session, kind) for kind in _kinds(call)]
    found += [await other(session, call) for other in _OTHERS]
    there = [each for each in found if each.named]
    return there, await slugs_of(session, [cast("Any", one) for each in there for one in each.named])


async def _of(session: AsyncSession, kind: _Kind) -> Kindred:
    page = await sheet(session, kind.row, kind.filters, Cut(NAMED), *kind.key)
    return Kindred(kind.word, kind.title, kind.path, [kind.show(row) for row in page.rows], page.next is not None)


def _kinds(call: Call) -> list[_Kind]:
    now, home = call.now, "/console"
    return [
        _Kind(
            "open",
            "An exposed key may still be taken upstream, or has no replacement.",
            f"{home}/incidents?state=open",
            ExposureRow,
            [Filter(~over())],
            _exposure,
            [ExposureRow.id],
        ),
        *(_keys(call, only, title) for only, title in _KEYS),
        _Kind(
            "waiting",
            "A grant to see keys waits for a second person.",
            f"{home}/grants?state=waiting",
            GrantRow,
            [grants_showing(GrantState.WAITING, now)],
            _grant,
            [GrantRow.id],
        ),
        _Kind(
            "held",
            "A key works, but whose it is isn't proven: take it into use, or revoke it.",
            f"{home}/requests?state=held",
            IntakeRow,
            [intakes_showing(IntakeState.PENDING_REVIEW, now), Filter(IntakeRow.rotation_id.is_(None))],
            _intake,
            [IntakeRow.id],
        ),
        _Kind(
            "held",
            "A new key waits: it may be another organization's.",
            f"{home}/requests?state=held",
            RotationRow,
            [by(RotationRow.state, RotationState.PENDING_REVIEW)],
            _rotation,
            [RotationRow.id],
        ),
        _Kind(
            "expired",
            "A request was not answered in its time: make a new link, or leave it.",
            f"{home}/requests?state=expired",
            IntakeRow,
            [intakes_showing(IntakeState.EXPIRED, now)],
            _intake,
            [IntakeRow.id],
        ),
        _Kind(
            "dead",
            "A notice could not be delivered, and was given up.",
            f"{home}/settings",
            DeliveryRow,
            [by(DeliveryRow.state, DeliveryState.DEAD)],
            _delivery,
            [DeliveryRow.id],
        ),
    ]


_KEYS: Final = (
    (Selection.FAILING, "The upstream refuses a key that is in use: ask the customer for a new one."),
    (Selection.GONE, "A key's value is not in Vault any more: ask the customer for a new one."),
    (Selection.OVERDUE, "A key is older than its policy allows: ask the customer for a new one."),
    (Selection.UNREACHABLE, "The upstream could not be asked about a key."),
)


def _keys(call: Call, only: Selection, title: str) -> _Kind:
    key = [CredentialRow.due_at, CredentialRow.id] if only in BY_DUE_TIME else [CredentialRow.id]
    filters = [selected(only, call.now, ahead_days=call.services.options.rotation_ahead_days)]
    show = _overdue if only in BY_DUE_TIME else _credential
    return _Kind(only.value, title, f"/console/keys?only={only.value}", CredentialRow, filters, show, key)


def _exposure(row: ExposureRow) -> One:
    return One(
        f"{row.provider}, version {row.version}",
        f"/console/incidents/{row.id}",
        row.organization_id,
        when(row.reported_at),
    )


def _credential(row: CredentialRow) -> One:
    return One(f"{row.provider}/{row.label}", f"/console/keys/{row.id}", row.organization_id)


def _overdue(row: CredentialRow) -> One:
    return replace(_credential(row), since=when(row.due_at))


def _grant(row: GrantRow) -> One:
    return One(f"{row.provider}", f"/console/grants/{row.id}", row.organization_id, when(row.created_at))


def _intake(row: IntakeRow) -> One:
    return One(f"{row.provider}/{row.label}", f"/console/requests/{row.id}", row.organization_id, when(row.created_at))


def _rotation(row: RotationRow) -> One:
    return One(row.provider, f"/console/keys/{row.credential_id}", row.organization_id, when(row.opened_at))


def _delivery(row: DeliveryRow) -> One:
    return One(f"{row.channel} to {row.destination}", "/console/settings", row.organization_id, when(row.created_at))


async def _accounts(session: AsyncSession, call: Call) -> Kindred:
    wait = await operators.waiting(session, call.scope, call.now) if call.account.may(Role.SECURITY) else []
    named = [One(row.name, "/console/settings", since=when(row.created_at)) for row in wait[:NAMED]]
    return Kindred(
        "waiting", "An admin's account waits for a second person.", "/console/settings", named, len(wait) > NAMED
    )


async def _witnesses(session: AsyncSession, call: Call) -> Kindred:
    rows: Sequence[WitnessRow] = ()
    if call.scope.organizations is None:
        rows = (await session.scalars(select(WitnessRow).order_by(WitnessRow.key))).all()
    ill = [row for row in rows if row.failing_since is not None or row.contradicts is not None]
    named = [One(row.key.split("+")[0], "/console/settings", since=when(row.failing_since)) for row in ill[:NAMED]]
    word = "contradicts" if any(row.contradicts is not None for row in ill) else "silent"
    return Kindred(
        word, "A witness doesn't cosign the log, or has another one.", "/console/settings", named, len(ill) > NAMED
    )


async def _told(session: AsyncSession, call: Call) -> Kindred:
    """What was told lately, and has no state of its own."""
    rows: list[NoticeRow] = []
    for kind in (*_TOLD, *_MORE_TOLD):
        page = await sheet(session, NoticeRow, [by(NoticeRow.kind, kind)], Cut(NAMED, newest=True), NoticeRow.id)
        rows += [row for row in page.rows if row.created_at > call.now - _TOLD_FOR_MS]
    rows.sort(key=lambda row: row.created_at, reverse=True)
    named = [
        One(filled(WORDS[cast("Kind", row.kind)].operator, row.facts), "", row.organization_id, when(row.created_at))
        for row in rows[:NAMED]
    ]
    return Kindred("warning", "Told in the last 14 days.", "/console/settings", named, len(rows) > NAMED)


async def _overdue_reviews(session: AsyncSession, call: Call) -> Kindred:
    return await _reviews(session, call, ReviewState.OVERDUE, "A review is overdue: keep or revoke what it is about.")


async def _due_reviews(session: AsyncSession, call: Call) -> Kindred:
    return await _reviews(session, call, ReviewState.DUE, "A review is due: is the grant or account still needed?")


async def _reviews(session: AsyncSession, call: Call, state: ReviewState, title: str) -> Kindred:
    """Reviews of a state whose subjects stand, for who decides them."""
    rows: Sheet[ReviewRow] = Sheet([], None)
    if call.account.may(Role.SECURITY):
        key = ReviewRow.due_at, ReviewRow.id
        rows = await sheet(session, ReviewRow, [by(ReviewRow.state, state)], Cut(_REVIEWS_LOOKED_AT), *key)
    about = await subjects.found(session, (row.subject for row in rows.rows))
    standing = [row for row in rows.rows if subjects.state_of(row, about.get(row.subject), call.now) == state]
    jobs = await job_names(session, (each.workload_id for each in about.values() if isinstance(each, GrantRow)))
    named = [_review(row, about[row.subject], jobs) for row in standing[:NAMED]]
    return Kindred(
        state, title, f"/console/reviews?state={state}", named, rows.next is not None or len(standing) > NAMED
    )


def _review(row: ReviewRow, subject: Subject, jobs: Names) -> One:
    text = (jobs[subject.workload_id] or "a job") if isinstance(subject, GrantRow) else f"account of {subject.name}"
    return One(text, f"/console/reviews/{row.id}", row.organization_id, when(row.due_at))


_OTHERS: Final[Sequence[Callable[[AsyncSession, Call], Awaitable[Kindred]]]] = (
    _accounts,
    _overdue_reviews,
    _due_reviews,
    _witnesses,
    _told,
)
