"""/v1/leaks: candidates of a scanner, reports of partners, and what was found."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import Field

from broker.audit.events import Event
from broker.base.paging import by
from broker.credentials.masking import Masking
from broker.credentials.tables import VersionRow
from broker.leaks.matching import Seen, note, recognised
from broker.leaks.tables import FindingRow
from broker.organizations import commands as organizations
from broker.web.api.fields import Body, Cursor, Limit, Line, Page, View, when
from broker.web.api.forms import Form
from broker.web.api.listing import Order, OrganizationSought, rows_of, shown
from broker.web.api.names import Names, Slug, slugs_of
from broker.web.callers import ByAnyRole, ByWorkloadOrAnyRole, Call, WorkloadCall
from broker.web.services import Wired

router = APIRouter(prefix="/v1/leaks", tags=["leaks"])

Digest = Annotated[str, Form(r"^[0-9a-f]{64}$", "write 64 hexadecimal digits in small letters, a SHA-256 digest")]


class CandidateBody(Body):
    """What a scanner found, by SHA-256 of its text; never the text."""

    digest: Digest
    place: Annotated[Line, Field(description="Where, for people: a path and a line.")]
    count: Annotated[int, Field(ge=1, le=2**53, description="How often it is there; the line is the first one's.")] = 1


class Check(Body):
    """Candidates of one scan; a longer one asks several times."""

    candidates: Annotated[list[CandidateBody], Field(min_length=1, max_length=200)]


class Checked(View):
    """Whether a candidate is one of our keys; which one only to who may see its organization."""

    digest: str
    ours: bool
    organization: str | None = None
    organization_slug: Slug = ""
    credential: str | None = None
    version: int | None = None
    provider: str | None = None
    state: str | None = None


class CheckedAll(View):
    """In the order of the candidates."""

    items: list[Checked]


class FindingView(View):
    """One of our keys, seen at one place."""

    id: str
    organization: str
    organization_slug: Slug
    credential: str
    version: int
    provider: str
    place: str
    found_by: str
    found_at: str | None


def show(row: FindingRow, slugs: Names) -> FindingView:
    return FindingView(
        id=row.id,
        organization=row.organization_id,
        organization_slug=slugs[row.organization_id],
        credential=row.credential_id,
        version=row.version,
        provider=row.provider,
        place=row.location,
        found_by=row.found_by,
        found_at=when(row.found_at),
    )


@router.post("/check", summary="Check for leaked keys")
async def check(body: Check, caller: ByWorkloadOrAnyRole, wired: Wired) -> CheckedAll:
    """Which candidates are our keys.  A finding is recorded and operators are told, whoever asked."""
    found = await recognised(wired.parts.db, wired.parts.keys, [one.digest for one in body.candidates])
    now = wired.parts.clock()
    summary = f"{len(body.candidates)} candidates, {len(found)} ours"
    await wired.parts.audit.append(Event(kind="leak.checked", time=now, actor=caller.actor, note=summary))
    seen = [Seen(found[one.digest], one.place, one.count) for one in body.candidates if one.digest in found]
    await note(wired.parts.db, Masking(wired.parts.catalog, wired.parts.keys), caller.actor, seen, "scan", now=now)
    slugs = Names()
    if isinstance(caller, Call):
        async with wired.parts.db.read(caller.scope) as session:
            slugs = await slugs_of(session, found.values())
    return CheckedAll(items=[_checked(one.digest, found.get(one.digest), caller, slugs) for one in body.candidates])


def _checked(digest: str, version: VersionRow | None, caller: WorkloadCall | Call, slugs: Names) -> Checked:
    if version is None or not isinstance(caller, Call) or not caller.scope.holds(version.organization_id):
        return Checked(digest=digest, ours=version is not None)
    return Checked(
        digest=digest,
        ours=True,
        organization=version.organization_id,
        organization_slug=slugs[version.organization_id],
        credential=version.credential_id,
        version=version.number,
        provider=version.provider,
        state=version.state,
    )


@router.get("/findings", summary="List leaked keys that were found")
async def findings(
    call: ByAnyRole,
    limit: Limit = 100,
    cursor: Cursor = "",
    organization: OrganizationSought = None,
    order: Order = "oldest",
) -> Page[FindingView]:
    """Keys of the organizations that you see, where they should not be."""
    row = FindingRow
    async with call.services.parts.db.read(call.scope) as session:
        filters = [by(row.organization_id, await organizations.sought(session, organization))]
        found = await rows_of(session, row, filters, limit, cursor, order, row.id)
        slugs = await slugs_of(session, found.rows)
    return shown(found, lambda row: show(row, slugs))


@router.post("/reports/github", summary="Take a leak report from GitHub")
async def github(
    wired: Wired,
    request: Request,
    key_id: Annotated[str, Header(alias="Github-Public-Key-Identifier", max_length=200)] = "",
    signature: Annotated[str, Header(alias="Github-Public-Key-Signature", max_length=1_000)] = "",
) -> list[dict[str, Any]]:
    """A report of GitHub's secret scanning, signed over the raw body; our keys in it are cut off at once."""
    return [dict(one) for one in await wired.reports.take(key_id, signature, request.stream())]
