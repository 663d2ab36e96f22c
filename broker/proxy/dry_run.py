"""What a job's call would get now, by the very functions that decide on real calls.

Nothing is recorded, opened or used up.  A real call is decided again, on what is true by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.quota import Exhausted
from broker.audit.tables import QuotaRow
from broker.base.clock import Millis
from broker.base.errors import BrokerError
from broker.credentials.cooldown import cooldown_id
from broker.formats.ids import CredentialId, GrantId
from broker.grants.policy import (
    AccessRequest,
    AccessTarget,
    Denied,
    Grant,
    Mode,
    PolicyInput,
    Uncovered,
    decide,
    deciding_rule,
    uncovered,
)
from broker.grants.shown import GrantState, state_of
from broker.grants.tables import GrantRow
from broker.leases.snapshot import SnapshotCache
from broker.parts import Parts
from broker.providers.catalog import Catalog
from broker.providers.rule import Rule
from broker.proxy.authorize import refuse_two_readings, refused, used_up
from broker.proxy.plan import quotas_of

# So many grants of one job for one customer's keys of one provider are told of, the newest.
GRANTS_MOST = 50
_NO_GRANT = "no_grant"
# Which key it would be doesn't matter.
_SOME_KEY = "any"
_RULE_REFUSED = "rule_refused"
# What is fixed most easily comes first.
_CAUSES = ("grant_waiting", "grant_altered", "grant_expired", "grant_of_another_label", "grant_revoked")


@dataclass(frozen=True, slots=True)
class AskedCall:
    """The call that is asked about.

    ``method`` is in capitals, ``path`` and ``query`` are as a job would send them.  With ``bare`` it comes with the
    job's access token alone, else under a lease.  With ``bound`` that token is bound to a key.
    """

    target: AccessTarget
    method: str
    path: str
    query: str
    purpose: str
    bare: bool
    bound: bool = False

    def request(self, grant: str) -> AccessRequest:
        """What the job would ask for, naming ``grant`` if that isn't empty."""
        call, jkt = self if self.bare else None, _SOME_KEY if self.bound else ""
        return AccessRequest(self.target, Mode.USE, self.purpose, grant=grant, call=call, jkt=jkt)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gets.

    ``reason`` is the refusal's stable code, empty if it is allowed, and ``need`` is what a job is told.  ``grant``
    decided, if it came to that, by ``rule``, if it has rules and one allows the call.  ``allows`` are the rules of
    which none does.
    """

    reason: str = ""
    need: str = ""
    grant: GrantId | None = None
    rule: Rule | None = None
    allows: tuple[str, ...] = ()

    @property
    def allowed(self) -> bool:
        """Whether the call would be made."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class DryRun:
    """The answer to a call.

    ``by_grant`` has the answers that it would get under each of the job's grants, if the job names it.  ``cause``
    is the answer's reason, or a closer word where jobs aren't told more.  ``fix`` says what would let the
    call through.
    """

    answer: Answer
    by_grant: Sequence[tuple[GrantRow, Answer]]
    cause: str
    fix: str


async def run(parts: Parts, snapshots: SnapshotCache, session: AsyncSession, asked: AskedCall) -> DryRun:
    """What the call would get now.

    Args:
        session: one that may see the organization, which ``asked`` names by its id.
    """
    snapshot = await snapshots.get(asked.target, fresh=True)
    known, now = snapshot.policy_input, parts.clock()
    credential = snapshot.key.credential if snapshot.key else None
    judge = _Judge(asked, known, credential, parts.catalog, await _numbers(session, credential, known.grants), now)
    rows = await _grants(session, asked.target)
    answer, by_grant = judge.answer(), [(row, judge.answer(row.id)) for row in rows]
    causes = _Causes(asked.request(""), {grant.id: grant for grant in known.grants}, rows, now)
    return DryRun(answer, by_grant, *_told(asked, answer, by_grant, causes))


@dataclass(frozen=True, slots=True)
class _Judge:
    """Decides in the order of a real call: its lease, its path, its grant's rules, its quotas."""

    asked: AskedCall
    known: PolicyInput
    credential: CredentialId | None
    catalog: Catalog
    numbers: Mapping[str, int]
    now: Millis

    def answer(self, named: str = "") -> Answer:
        """The answer under the grant that is named, or else the one that policy takes."""
        asked, request = self.asked, self.asked.request(named)
        if asked.bare and (unread := self._two_readings()):
            return unread
        decision = decide(request, self.known, self.now)
        if isinstance(decision, Denied):
            return _refusal(decision, None)
        grant = next(one for one in self.known.grants if one.id == decision.grant)
        if unread := self._two_readings():
            return unread
        if denied := refused(grant, asked):
            return _refusal(denied, grant)
        return self._exhausted(grant) or Answer(grant=grant.id, rule=deciding_rule(grant, asked))

    def _two_readings(self) -> Answer | None:
        try:
            refuse_two_readings(self.asked, self.asked.target.provider, self.catalog)
        except BrokerError as error:
            return Answer(error.code, error.public)
        return None

    def _exhausted(self, grant: Grant) -> Answer | None:
        assert self.credential is not None, "no call is allowed without a key"
        try:
            definition = self.catalog.get(self.asked.target.provider)
        except BrokerError as error:
            return Answer(error.code, error.public, grant.id)
        for quota in quotas_of(grant, self.credential, definition):
            try:
                quota.take(self.numbers.get(quota.id, 0), self.now)
            except Exhausted as exhausted:
                told = used_up(exhausted, grant, definition)
                return Answer(told.code, told.public, grant.id, deciding_rule(grant, self.asked))
        return None


def _refusal(denied: Denied, grant: Grant | None) -> Answer:
    return Answer(denied.reason, denied.need, grant.id if grant else None, allows=denied.allowed)


def _told(asked: AskedCall, answer: Answer, by_grant: Sequence[tuple[GrantRow, Answer]], causes: _Causes) -> _Told:
    if another := next((row.id for row, one in by_grant if one.allowed and not answer.allowed), None):
        return _Told(answer.reason, f"Grant {another} allows this call: have the job name it when it asks for a lease.")
    target = asked.target
    add = f"broker grant add --workload {target.workload_id} --org {target.organization_reference}"
    add += f" --provider {target.provider}"
    if answer.reason == _RULE_REFUSED and answer.allows:
        return _Told(answer.reason, f"Give a grant with a rule for it: `{add} --allow '{asked.method} PATH'`.")
    if answer.reason != _NO_GRANT:
        return _Told(answer.reason, answer.need)
    cause, grant = causes.nearest()
    ways = {
        "grant_waiting": f"A second person has to approve it: `broker grant approve {grant}`.",
        "grant_altered": f"Something else than the broker changed grant {grant}: see `broker doctor --rights`.",
        "grant_expired": f"Grant {grant} is over; give a new one: `{add}`.",
        "grant_of_another_label": f"Grant {grant} is for another label; name that, or give a grant: `{add}`.",
        "grant_revoked": f"Grant {grant} was revoked; give a new one if the job is to have the key: `{add}`.",
    }
    return _Told(cause, ways.get(cause, f"The job has no grant for this customer's key; give one: `{add}`."))


class _Told(NamedTuple):
    cause: str
    fix: str


@dataclass(frozen=True, slots=True)
class _Causes:
    """Why grants don't cover a call, for operators.

    A job isn't told what there is that it has no right to.
    """

    request: AccessRequest
    known: Mapping[GrantId, Grant]
    rows: Sequence[GrantRow]
    now: Millis

    def nearest(self) -> tuple[str, GrantId | None]:
        """The cause that is fixed most easily, and whose it is."""
        found = {self._of(row): row.id for row in reversed(self.rows)}
        return next(((cause, found[cause]) for cause in _CAUSES if cause in found), (_NO_GRANT, None))

    def _of(self, row: GrantRow) -> str:
        state = state_of(row, self.now)
        if state is not GrantState.ACTIVE:
            return f"grant_{state}"
        known = self.known.get(row.id)
        other = known is not None and uncovered(known, self.request, self.now) is Uncovered.OTHER_LABEL
        return "grant_of_another_label" if other else _NO_GRANT


async def _grants(session: AsyncSession, target: AccessTarget) -> Sequence[GrantRow]:
    row = GrantRow
    query = select(row).where(
        row.workload_id == target.workload_id,
        row.organization_id == target.organization_reference,
        row.provider == target.provider,
    )
    return (await session.scalars(query.order_by(row.id.desc()).limit(GRANTS_MOST))).all()


async def _numbers(
    session: AsyncSession, credential: CredentialId | None, grants: Sequence[Grant]
) -> Mapping[str, int]:
    """What the quotas stand at that such calls take from."""
    if credential is None:
        return {}
    named = [f"{grant.id}/{what}" for grant in grants for what in ("rate", "uses")]
    found = await session.scalars(select(QuotaRow).where(QuotaRow.id.in_([cooldown_id(credential), *named])))
    return {row.id: row.value for row in found}
