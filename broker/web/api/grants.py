"""/v1/grants: who may use what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Event
from broker.base.clock import Millis, rfc3339
from broker.base.errors import Invalid
from broker.base.paging import by
from broker.formats.ids import GrantId, OrganizationId, WorkloadId
from broker.grants import commands, jobs, uses
from broker.grants.policy import AccessTarget, Mode, Rate
from broker.grants.shown import GrantState, covering, given, showing, state_of
from broker.grants.tables import GrantRow
from broker.organizations import commands as organizations
from broker.providers import faults
from broker.providers.definition import Definition
from broker.providers.rule import Rule
from broker.proxy import dry_run
from broker.proxy.dry_run import Answer, AskedCall
from broker.proxy.use import METHODS
from broker.web.api.fields import (
    Body,
    Cursor,
    IdPath,
    Label,
    Limit,
    Moment,
    Note,
    Page,
    Reason,
    Reference,
    View,
    milliseconds,
    when,
)
from broker.web.api.forms import Form
from broker.web.api.listing import Order, OrganizationSought, ProviderSought, WorkloadSought, rows_of, shown
from broker.web.api.names import JobName, Names, Slug, job_names, slugs_of
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole, BySecurityRole, Call

router = APIRouter(prefix="/v1/grants", tags=["grants"])


_METHOD = f"^({'|'.join(sorted(METHODS))})$"


class RuleBody(Body):
    """Methods and anchored path patterns below the base URL: `*` stays within a segment, `**` crosses them."""

    methods: Annotated[list[Annotated[str, Field(max_length=10)]], Field(min_length=1, max_length=6)]
    paths: Annotated[list[Annotated[str, Field(max_length=500)]], Field(min_length=1, max_length=100)]


class RateBody(Body):
    """So many uses at once, refilled evenly over so many seconds, for all leases under the grant together."""

    uses: Annotated[int, Field(ge=1, le=1_000_000)]
    seconds: Annotated[int, Field(ge=1, le=86_400)]


class NewGrant(Body):
    """A right for one job, over one or more organizations; one grant is made for each of them."""

    workload: Reference
    organizations: Annotated[list[Reference], Field(min_length=1, max_length=100)]
    provider: Label
    label: Annotated[Label | None, Field(description="One credential's label; left out, every label.")] = None
    modes: Annotated[list[Mode], Field(min_length=1, max_length=2)]
    max_ttl: Annotated[int, Field(ge=1, le=commands.LONGEST_TTL_S, description="Seconds a lease may last in all.")] = (
        3600
    )
    purpose_required: bool = False
    presets: Annotated[
        tuple[Label, ...], Field(max_length=10, description="Sets of rules that the provider file names.")
    ] = ()
    rules: Annotated[
        tuple[RuleBody, ...],
        Field(max_length=50, description="Further rules; where there are none, all is allowed."),
    ] = ()
    rate: RateBody | None = None
    max_uses: Annotated[int | None, Field(ge=1, le=10**12, description="Uses in all.")] = None
    implicit: Annotated[bool, Field(description="Calls with the access token alone, without asking for a lease.")] = (
        False
    )
    retries: Annotated[bool, Field(description="Whether the broker tries idempotent calls again.")] = True
    bound: Annotated[
        bool, Field(description="Leases are of use only to whoever holds the job's key (DPoP, RFC 9449).")
    ] = False
    expires_at: Moment | None = None

    def limits(self, definition: Definition) -> commands.GrantLimits:
        """What the grant limits, with presets written out.

        Raises:
            Invalid: names the preset or rule and the fix.
        """
        if unknown := sorted(set(self.presets) - set(definition.presets)):
            known = ", ".join(sorted(definition.presets)) or "none"
            raise Invalid(f"presets: {definition.title} has no {unknown[0]!r}; it has: {known}.")
        rules = [definition.presets[name] for name in self.presets]
        rules += [_rule(at, rule) for at, rule in enumerate(self.rules)]
        rate = Rate(self.rate.uses, self.rate.seconds) if self.rate else None
        return commands.GrantLimits(
            self.presets, tuple(rules), rate, self.max_uses, self.implicit, self.retries, self.bound
        )


def _rule(at: int, body: RuleBody) -> Rule:
    try:
        return Rule.model_validate(body.model_dump())
    except ValidationError as error:
        raise Invalid("; ".join(faults.lines(f"rules[{at}]", error))) from None


class GrantView(View):
    """A right of one job to one organization's key."""

    id: str
    organization: str
    organization_slug: Slug
    workload: str
    workload_name: JobName
    provider: str
    label: str | None
    modes: list[str]
    max_ttl: int
    purpose_required: bool
    presets: list[str]
    rules: list[RuleBody]
    rate: RateBody | None
    max_uses: int | None
    implicit: bool
    retries: bool
    bound: bool
    expires_at: str | None
    state: str
    created_by: str
    approved_by: str | None
    created_at: str | None
    revoked_at: str | None


class Granted(View):
    """The grants that were made."""

    items: list[GrantView]


def show(row: GrantRow, slugs: Names, names: Names, now: Millis) -> GrantView:
    """The answer's view of a row; if the broker didn't write it, only whose it says it is."""
    return GrantView(
        id=row.id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        workload=row.workload_id,
        workload_name=names[row.workload_id],
        provider=row.provider,
        label=row.label,
        created_by=row.created_by,
        state=state_of(row, now),
        **(_given(row) if row.genuine else _NOTHING),
    )


async def _views(session: AsyncSession, rows: Sequence[GrantRow], now: Millis) -> list[GrantView]:
    slugs = await slugs_of(session, rows)
    names = await job_names(session, (row.workload_id for row in rows))
    return [show(row, slugs, names, now) for row in rows]


def _given(row: GrantRow) -> Mapping[str, Any]:
    return {
        "modes": row.modes,
        "max_ttl": row.max_ttl,
        "purpose_required": row.purpose_required,
        "presets": row.presets,
        "rules": [RuleBody.model_validate(rule) for rule in row.rules],
        "rate": RateBody(uses=row.rate_uses, seconds=row.rate_seconds) if row.rate_uses and row.rate_seconds else None,
        "max_uses": row.max_uses,
        "implicit": row.implicit,
        "retries": row.retries,
        "bound": bool(row.bound),
        "expires_at": when(row.expires_at),
        "approved_by": row.approved_by,
        "created_at": when(row.created_at),
        "revoked_at": when(row.revoked_at),
    }


_NOTHING: Mapping[str, Any] = {
    "modes": [],
    "presets": [],
    "rules": [],
    **dict.fromkeys(("rate", "max_uses", "expires_at", "approved_by", "created_at", "revoked_at")),
    "max_ttl": 0,
    "purpose_required": True,
    "implicit": False,
    "retries": False,
    "bound": False,
}


@router.post("", summary="Grant a job access to keys", status_code=201, response_model=Granted)
async def create(body: NewGrant, call: ByOperatorRole) -> Response:
    """Give a job a right to keys of these organizations: all of them, or none."""
    limits = body.limits(call.services.parts.catalog.get(body.provider))

    async def work(session: AsyncSession) -> Granted:
        wanted = dict.fromkeys([(await organizations.find_active(session, ref)) for ref in body.organizations])
        rows = await commands.create(
            session,
            call.actor,
            workload=await jobs.known(session, call.account, body.workload),
            organizations=list(wanted),
            provider=body.provider,
            label=body.label,
            modes=body.modes,
            max_ttl=body.max_ttl,
            purpose_required=body.purpose_required,
            expires_at=milliseconds(body.expires_at),
            limits=limits,
            approval=call.services.options.approval,
            now=call.now,
        )
        return Granted(items=await _views(session, rows, call.now))

    return await call.change(body, work, 201)


class AskedCallBody(Body):
    """A call that a job might make."""

    workload: Reference
    organization: Reference
    provider: Label
    label: Label = "default"
    method: Annotated[str, Field(description="In capitals."), Form(_METHOD, "write a method such as GET")]
    path: Annotated[
        str,
        Field(description="Below the provider's base URL, as it is sent, with the query if any."),
        Form("^(/.*)?$", "write a path such as /facilities, or leave it empty", 16_384),
    ]
    purpose: Annotated[Note, Field(description="What the job would say that it is for.")] = ""
    implicit: Annotated[bool, Field(description="With the job's access token alone, without a lease.")] = False
    bound: Annotated[bool, Field(description="By a job whose access token is bound to a key (DPoP).")] = False

    def asked(self, workload: WorkloadId, organization: OrganizationId) -> AskedCall:
        """It, of this job for this customer."""
        path, _, query = self.path.encode().decode("latin-1").partition("?")
        target = AccessTarget(workload, organization, self.provider, self.label)
        return AskedCall(target, self.method, path, query, self.purpose, self.implicit, self.bound)


class AnswerView(View):
    """What a call would get under one grant."""

    grant: str
    state: str
    allowed: bool
    reason: Annotated[str, Field(description="The code of the refusal; empty if it is allowed.")]
    need: Annotated[str, Field(description="What the job would be told.")]
    rule: Annotated[str, Field(description="The rule that allows it; empty if none does, or the grant has none.")]


class DryRunView(View):
    """What a call would get now, and why."""

    allowed: bool
    reason: Annotated[str, Field(description="The code of the first thing that refuses; empty if it is allowed.")]
    need: Annotated[str, Field(description="What the job would be told.")]
    cause: Annotated[str, Field(description="The reason, or a closer word where jobs aren't told more.")]
    fix: Annotated[str, Field(description="What would let the call through.")]
    grant: Annotated[str | None, Field(description="The grant that decides, if it comes to that.")]
    rule: Annotated[str, Field(description="Its rule that allows the call; empty if it has none, or none does.")]
    grants: Annotated[
        list[AnswerView],
        Field(
            description="The same under each of the job's grants for these keys, if the job names that one; "
            f"the newest {dry_run.GRANTS_MOST}."
        ),
    ]


def _answered(row: GrantRow, answer: Answer, now: Millis) -> AnswerView:
    return AnswerView(
        grant=row.id,
        state=state_of(row, now),
        allowed=answer.allowed,
        reason=answer.reason,
        need=answer.need,
        rule=str(answer.rule or ""),
    )


@router.post("/explain", summary="Try the policy on a call")
async def explain(body: AskedCallBody, call: ByAnyRole) -> DryRunView:
    """What a job's call would get now, which rule decides, and what would fix a refusal.

    It is decided as a real call is, but nothing is recorded, opened or used up.
    """
    async with call.services.parts.db.read(call.scope) as session:
        whose = await organizations.find(session, body.organization)
        job = await jobs.known(session, call.account, body.workload)
        asked = body.asked(job.id, whose.id)
        found = await dry_run.run(call.services.parts, call.services.snapshots, session, asked)
    answer = found.answer
    return DryRunView(
        allowed=answer.allowed,
        reason=answer.reason,
        need=answer.need,
        cause=found.cause,
        fix=found.fix,
        grant=answer.grant,
        rule=str(answer.rule or ""),
        grants=[_answered(row, one, call.now) for row, one in found.by_grant],
    )


@router.get("", summary="List grants")
async def listed(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    workload: WorkloadSought = None,
    provider: ProviderSought = None,
    label: Annotated[
        Label | None, Query(description="Only those that name this label, or none: they cover it.")
    ] = None,
    state: Annotated[GrantState | None, Query()] = None,
    waiting: Annotated[bool, Query(description="Only those that wait for a second person.")] = False,
    order: Order = "oldest",
) -> Page[GrantView]:
    """Grants, of one organization or job where named."""
    now = call.now
    states = {wanted for wanted in (state, GrantState.WAITING if waiting else None) if wanted is not None}
    row = GrantRow
    async with call.services.parts.db.read(call.scope) as session:
        whose = await organizations.sought(session, organization)
        job = None if workload is None else (await jobs.known(session, call.account, workload)).id
        filters = (
            *given(job, whose),
            *(showing(wanted, now) for wanted in sorted(states)),
            None if label is None else covering(label),
            by(row.provider, provider),
        )
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        views = {view.id: view for view in await _views(session, found.rows, now)}
    listed = shown(found, lambda row: views[row.id])
    # The database can't tell which of them were altered.
    return Page(items=[one for one in listed.items if not states or one.state in states], next=listed.next)


@router.get("/{grant_id}", summary="Show a grant")
async def one(grant_id: IdPath[GrantId], call: ByAnyRole) -> GrantView:
    """One grant: which job may reach which keys, how, and within which limits."""
    async with call.services.parts.db.read(call.scope) as session:
        return (await _views(session, [await commands.find(session, grant_id)], call.now))[0]


Days = Annotated[int, Field(ge=1, le=3_650, description="So many days of its uses count.")]


class LostView(View):
    """A call that the grant allows now and the new rules don't; `rule` is empty if the grant has none."""

    rule: str
    method: str
    path: str


class UseView(View):
    """A use that the new rules would have refused."""

    method: str
    path: str


class TightenedView(View):
    """What a grant can be narrowed to, tried on all of its uses."""

    grant: str
    days: int
    since: Annotated[str, Field(description="Uses from this time on count: the grant may be younger.")]
    present: Annotated[list[RuleBody], Field(description="The grant's rules now; where there are none, it allows all.")]
    rules: Annotated[list[RuleBody], Field(description="The smallest rules that cover its uses.")]
    uses: Annotated[int, Field(description="Uses that succeeded; those whose end nobody knows count as such.")]
    unreadable: Annotated[int, Field(description="Those of them whose path nobody knows any more.")]
    failed: Annotated[int, Field(description="Uses that the upstream refused or didn't answer; these widen nothing.")]
    refused: Annotated[int, Field(description="Uses that the rules would have refused; if any, nobody can adopt them.")]
    failed_refused: Annotated[int, Field(description="The same of failed uses.")]
    examples: Annotated[list[UseView], Field(description=f"Of refused uses; {uses.EXAMPLES} at most.")]
    lost: Annotated[list[LostView], Field(description="An example of each thing that the grant allows no more.")]


@router.get("/{grant_id}/tightened", summary="See what a grant can be narrowed to")
async def tightened(
    grant_id: IdPath[GrantId], call: ByOperatorOrSecurityRole, days: Annotated[Days, Query()] = uses.DAYS
) -> TightenedView:
    """The smallest rules that cover what the grant was used for, and what they would have done to each use.

    It reads the record, which is itself on the record.
    """
    parts = call.services.parts
    row = await _to_tighten(call, grant_id, days)
    found = await uses.tightened(parts, row, days)
    return TightenedView(
        grant=row.id,
        days=days,
        since=rfc3339(found.since),
        present=[RuleBody.model_validate(rule.model_dump(mode="json")) for rule in found.present],
        rules=[RuleBody.model_validate(rule.model_dump(mode="json")) for rule in found.rules],
        uses=found.trial.uses,
        unreadable=found.trial.unreadable,
        failed=found.trial.failed,
        refused=found.trial.refused,
        failed_refused=found.trial.failed_refused,
        examples=[UseView(method=one.method, path=one.path) for one in found.trial.examples],
        lost=[LostView(rule=one.rule, method=one.method, path=one.path) for one in found.lost],
    )


async def _to_tighten(call: Call, grant_id: GrantId, days: int) -> GrantRow:
    """The grant, once it is on the record that its uses are read."""
    parts = call.services.parts
    async with parts.db.read(call.scope) as session:
        row = await commands.find(session, grant_id)
    row.vouched_for()
    commands.refuse_to_tighten(row, call.now)
    await parts.audit.append(Event.about(row, "audit.read", call.actor, call.now, reason=f"kind=use.,days={days}"))
    return row


class Tighten(Body):
    """To what a grant is narrowed."""

    days: Days = uses.DAYS
    rules: Annotated[
        tuple[RuleBody, ...] | None,
        Field(
            min_length=1, max_length=64, description="As they were proposed, or narrower; left out, as proposed now."
        ),
    ] = None


@router.post("/{grant_id}/tighten", summary="Narrow a grant to what it was used for", response_model=GrantView)
async def tighten(grant_id: IdPath[GrantId], body: Tighten, call: ByOperatorRole) -> Response:
    """Narrow a grant: its rules allow what it was used for, and never more than before.

    The rules are tried on all of its uses first, and refused if they would have refused one.
    """
    row = await _to_tighten(call, grant_id, body.days)
    wanted = None if body.rules is None else [_rule(at, rule) for at, rule in enumerate(body.rules)]
    found = await uses.tightened(call.services.parts, row, body.days, wanted)
    found.insist_on_uses()

    async def work(session: AsyncSession) -> GrantView:
        row = await commands.tighten(
            session,
            call.actor,
            grant_id,
            present=found.present,
            rules=found.rules,
            days=body.days,
            now=call.now,
        )
        return (await _views(session, [row], call.now))[0]

    return await call.change(body, work)


@router.post("/{grant_id}/approve", summary="Approve a grant to see keys", response_model=GrantView)
async def approve(grant_id: IdPath[GrantId], call: BySecurityRole) -> Response:
    """Let a grant that waits be used, as a second person: not from an account of whoever asked for it."""

    call.insist_on_a_fresh_person()

    async def work(session: AsyncSession) -> GrantView:
        row = await commands.approve(session, call.actor, grant_id, now=call.now)
        return (await _views(session, [row], call.now))[0]

    return await call.change(None, work)


@router.post("/{grant_id}/revoke", summary="Revoke a grant", response_model=GrantView)
async def revoke(grant_id: IdPath[GrantId], body: Reason, call: ByOperatorOrSecurityRole) -> Response:
    """Take a grant back: no lease or use under it once this is answered."""

    async def work(session: AsyncSession) -> GrantView:
        row = await commands.revoke(session, call.actor, grant_id, note=body.reason, now=call.now)
        return (await _views(session, [row], call.now))[0]

    return await call.cut(body, work)
