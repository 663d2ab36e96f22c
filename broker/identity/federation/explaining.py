"""What a sign-in would say to a platform's token, check by check, for operators.

Each check is made, also where one before it failed, as far as it can be made without that one.  Nothing is spent and
nothing is recorded.  Unlike what whoever brings a token is told, this shows what trusts expect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import Millis, rfc3339
from broker.base.db import EVERY_TENANT
from broker.base.validity import Validity
from broker.identity.federation import assertion, trusts
from broker.identity.federation.exchange import Federation
from broker.identity.federation.tables import IssuerRow, TrustRow, UsedTokenRow
from broker.identity.tables import WorkloadRow
from broker.issuers import verifying
from broker.issuers.files import IssuerFile
from broker.issuers.issuer import Issuer, IssuerUnreachable
from broker.issuers.unverified import OTHERS, NotAToken, Unverified, peek
from broker.issuers.verifying import Expected, NotTaken
from broker.parts import Parts

_SHOWN_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Brought:
    """A token that is asked about.

    Args:
        token: as the platform made it.
        address: where the job would bring it from; empty if nobody says.
    """

    token: str = field(repr=False)
    address: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a token.

    ``passed`` is None if it couldn't be made.  ``code`` is the word that a refusal has on the record.  ``fix`` says
    what to do.
    """

    name: str
    passed: bool | None
    presented: str = ""
    expected: str = ""
    code: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class OfTrust:
    """What one trust says to a token."""

    id: str
    checks: Sequence[Check]

    @property
    def takes(self) -> bool:
        """Whether no check of it failed."""
        return all(one.passed is not False for one in self.checks)


@dataclass(frozen=True, slots=True)
class Explained:
    """What a sign-in would say: to the token, and by each of the job's trusts in its issuer."""

    issuer: str
    checks: Sequence[Check]
    trusts: Sequence[OfTrust] = ()

    @property
    def trust(self) -> str:
        """The trust by which the token would be taken; empty if it wouldn't."""
        if not all(one.passed for one in self.checks):
            return ""
        return next((one.id for one in self.trusts if one.takes), "")


@dataclass(frozen=True, slots=True)
class _Known:
    """What the database has on an issuer and a job."""

    suspended: bool
    trusts: Sequence[TrustRow]
    used: bool


async def explain(parts: Parts, federation: Federation, workload: WorkloadRow, brought: Brought) -> Explained:
    """What a sign-in of a job with this token would say now."""
    now = parts.clock()
    stands = _of_workload(workload)
    try:
        said = peek(brought.token, OTHERS)
    except NotAToken:
        fix = "Bring the token as the platform gives it: three parts with dots between, and nothing else."
        return Explained("", (stands, Check("form", passed=False, code="malformed", fix=fix)))
    checks = [stands, Check("form", passed=True)]
    issuer = assertion.issuer_of(brought.token, federation.issuers)
    if issuer is None:
        return Explained("", (*checks, _undeclared(said.claims)))
    async with parts.db.read(EVERY_TENANT) as session:
        known = await _known(session, workload, issuer, said.claims)
    wanted = assertion.expected(issuer, federation.audience)
    checks += _of_issuer(workload, issuer, known)
    checks.append(header := _of_header(brought.token, said, wanted))
    checks += await _of_signature(brought.token, said, issuer, federation.signer(issuer), may=bool(header.passed))
    checks += _of_meaning(issuer, wanted, said, now)
    checks.append(_of_use(issuer, said.claims, used=known.used))
    return Explained(
        issuer.id,
        checks,
        [OfTrust(row.id, [*_of_trust(issuer, row, said.claims, brought.address, now)]) for row in known.trusts],
    )


async def _known(session: AsyncSession, workload: WorkloadRow, issuer: IssuerFile, claims: Mapping[str, Any]) -> _Known:
    state = await session.get(IssuerRow, issuer.id)
    rows = await trusts.standing(session, workload.id)
    name = claims.get("jti") if issuer.once else None
    used = await session.get(UsedTokenRow, (issuer.id, name)) if isinstance(name, str) else None
    return _Known(
        state is not None and state.suspended_at is not None,
        [row for row in rows if row.issuer == issuer.id],
        used is not None,
    )


def _of_workload(workload: WorkloadRow) -> Check:
    check = partial(Check, "workload", presented=workload.name)
    if not workload.genuine:
        return check(passed=False, code="rights_altered", fix=_ALTERED)
    if workload.state != Validity.ACTIVE:
        return check(passed=False, code="workload_revoked", fix="It was revoked: register a new one.")
    return check(passed=True)


_ALTERED: Final = "Something else than the broker changed it: `broker doctor --rights` names what."


def _undeclared(claims: Mapping[str, Any]) -> Check:
    fix = "No issuer of just this name is declared. Compare the trailing slash, or declare it: `broker issuer add`."
    return Check("issuer", False, _shown(claims.get("iss", claims.get("sub"))), code="issuer_unknown", fix=fix)


def _of_issuer(workload: WorkloadRow, issuer: IssuerFile, known: _Known) -> Iterator[Check]:
    if known.suspended:
        fix = f"It is suspended. An admin can resume it: `broker issuer resume {issuer.id}`."
        yield Check("issuer", passed=False, presented=issuer.id, code="issuer_suspended", fix=fix)
    elif not known.trusts:
        fix = (
            f"No trust of this workload names it: `broker trust add {workload.name} --issuer {issuer.id} "
            "--from-token FILE`."
        )
        yield Check("issuer", passed=False, presented=issuer.id, code="issuer_unknown", fix=fix)
    else:
        yield Check("issuer", passed=True, presented=issuer.id)


def _of_header(token: str, said: Unverified, wanted: Expected) -> Check:
    algorithm = _shown(said.header.get("alg"))
    check = partial(Check, "header", presented=algorithm, expected=", ".join(wanted.algorithms))
    try:
        verifying.form(token, wanted)
    except NotTaken as refused:
        fix = {
            "algorithm_refused": "The issuer's file has to name this algorithm (`tokens: algorithms`), if it is right.",
            "type_refused": f"Its typ is {_shown(said.header.get('typ'))}: it was made for another use than this.",
        }.get(refused.code, "Its header asks for what isn't taken: leave `crit` and `b64` out.")
        return check(passed=False, code=refused.code, fix=fix)
    return check(passed=True)


async def _of_signature(token: str, said: Unverified, issuer: IssuerFile, keys: Issuer, *, may: bool) -> list[Check]:
    """Whether there is a key, and whether it signed; nobody is asked for one unless ``may``."""
    signed = Check("signature", None)
    if not may:
        return [Check("key", None), signed]
    kid = said.header.get("kid")
    check = partial(Check, "key", presented="no kid" if kid is None else _shown(kid))
    try:
        found = await keys.candidates(kid, str(said.header["alg"]))
    except IssuerUnreachable:
        fix = (
            f"The issuer gives no keys just now; the broker's log says why. Again: `broker issuer refresh {issuer.id}`."
        )
        return [check(passed=False, code="issuer_unreachable", fix=fix), signed]
    if not found:
        fix = f"The issuer doesn't publish it. If its keys changed just now: `broker issuer refresh {issuer.id}`."
        return [check(passed=False, code="key_unknown", fix=fix), signed]
    try:
        verifying.check_signature(token, said, found)
    except NotTaken as refused:
        fix = "This key didn't sign it: the token was changed, or is another issuer's."
        return [check(passed=True), Check("signature", passed=False, code=refused.code, fix=fix)]
    return [check(passed=True), Check("signature", passed=True)]


def _of_meaning(issuer: IssuerFile, wanted: Expected, said: Unverified, now: Millis) -> Iterator[Check]:
    """Whether it is for the broker, and for now."""
    claims, lasts = said.claims, f"{wanted.lifetime_s} s at most"
    times = f"{_moment(claims.get('iat'))} to {_moment(claims.get('exp'))}"
    audience = partial(Check, "audience", presented=_shown(claims.get("aud")), expected=wanted.audience)
    in_time = partial(Check, "times", presented=times, expected=lasts)
    try:
        verifying.check_audience(said, wanted)
        yield audience(passed=True)
    except NotTaken as refused:
        fix = assertion.mend(refused.code, issuer, wanted, claims, now)
        yield audience(passed=False, code=refused.code, fix=fix)
    try:
        verifying.check_times(claims, wanted, now)
    except NotTaken as refused:
        fix = assertion.mend(refused.code, issuer, wanted, claims, now) or "It has to say when it was made and is over."
        yield in_time(passed=False, code=refused.code, fix=fix)
        return
    if assertion.ends_soon(claims, now):
        yield in_time(passed=False, code=assertion.ENDS_SOON.code, fix=assertion.ENDS_SOON.text)
        return
    yield in_time(passed=True)


def _of_use(issuer: IssuerFile, claims: Mapping[str, Any], *, used: bool) -> Check:
    if not issuer.once:
        return Check("use", passed=True, expected="any number of times")
    check = partial(Check, "use", presented=_shown(claims.get("jti")), expected="once")
    if not assertion.nameable(claims.get("jti")):
        return check(passed=False, code=assertion.NAMELESS.code, fix=assertion.NAMELESS.text)
    if used:
        return check(passed=False, code="token_used", fix="It was used already. Request a fresh one for each exchange.")
    return check(passed=True)


def _of_trust(
    issuer: IssuerFile, row: TrustRow, claims: Mapping[str, Any], address: str, now: Millis
) -> Iterator[Check]:
    if not row.genuine:
        yield Check("in force", passed=False, code="rights_altered", fix=_ALTERED)
    if row.expires_at is not None:
        yield _of_time(row.expires_at, now)
    for name in sorted(row.claims):
        yield _of_claim(issuer, name, row.claims[name], claims)
    if unfit := issuer.kind.refuses(claims, frozenset(row.claims)):
        yield Check(issuer.preset, passed=False, code=unfit.code, fix=unfit.text)
    if row.networks:
        yield _of_network(row, address)


def _of_time(expires_at: Millis, now: Millis) -> Check:
    check = partial(Check, "in force", expected=f"until {rfc3339(expires_at)}")
    if expires_at <= now:
        return check(passed=False, code="trust_over", fix="Its time is over; `broker trust add` makes another one.")
    return check(passed=True)


def _of_claim(issuer: IssuerFile, name: str, wanted: Sequence[str], claims: Mapping[str, Any]) -> Check:
    shown = issuer.kind.shown(name, claims)
    check = partial(Check, name, presented=_shown(", ".join(shown)), expected=" or ".join(wanted))
    unfit = issuer.kind.unfit(name, wanted, claims)
    if unfit is None:
        return check(passed=True)
    return check(
        passed=False, code=unfit.code, fix="Run the job where it is what the trust names." if shown else unfit.text
    )


def _of_network(row: TrustRow, address: str) -> Check:
    check = partial(Check, "network", presented=address, expected=" or ".join(row.networks))
    if not address:
        return check(passed=None, fix="Say which address the job calls from to have this checked.")
    if not assertion.comes_from(row, address):
        fix = "Bring it from one of these networks, or have an admin add a trust for where the job runs."
        return check(passed=False, code="address_refused", fix=fix)
    return check(passed=True)


def _moment(claim: object) -> str:
    seconds = verifying.seconds(claim)
    try:
        return "no time" if seconds is None else rfc3339(int(seconds * 1000))
    except (OverflowError, ValueError):
        return "a time beyond all years"


def _shown(claim: object) -> str:
    """What a token says, short enough to be read."""
    text = ", ".join(map(str, claim)) if isinstance(claim, list) else "" if claim is None else str(claim)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"
