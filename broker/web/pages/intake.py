"""The page of one-time links: one shell for all, and the JSON that its script speaks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import Field
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor
from broker.base.clock import rfc3339
from broker.base.db import Scope
from broker.base.errors import NotFound
from broker.base.shown import shown
from broker.credentials.tables import RotationRow, VersionRow
from broker.credentials.versions import serves
from broker.formats import base64url, link_proof
from broker.intake.lifecycle import SPENT
from broker.intake.links import also_open
from broker.intake.logged import link_logged
from broker.intake.proving import Proof
from broker.intake.tables import IntakeRow
from broker.organizations import commands as organizations
from broker.providers.definition import AdminWords, Definition
from broker.rotations.commands import CUT_OFF
from broker.web.api.fields import Base64Url, Body, Variables, from_base64url, when
from broker.web.api.forms import Form
from broker.web.callers import address, agent
from broker.web.services import Services, Wired

router = APIRouter(tags=["customer"])

_HERE = Path(__file__).parent
_STATIC = {
    "intake.js": "text/javascript",
    "login.js": "text/javascript",
    "page.css": "text/css",
    "licences.txt": "text/plain",
}
_TEMPLATES = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=select_autoescape())

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# An image runs nothing where the page shows it; opened by itself, an SVG is a document, which is to run nothing either.
_LOGO_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"}
_PAGE_HEADERS = {
    "Content-Security-Policy": CSP,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "clipboard-read=(self), clipboard-write=(self), camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
    "Vary": "Accept-Language",
}

ConstantProof = Annotated[
    str,
    Form(r"^[A-Za-z0-9_-]{43}$", "write 43 characters of base64url"),
    Field(description="Of links of version 1: SHA-256 proof of the secret."),
]


class Arrival(Body):
    """How the link came."""

    in_address: Annotated[
        bool, Field(description="Whether the secret stood in the part of the address that is sent to servers.")
    ] = False


class Opening(Arrival):
    """How a one-time link came."""

    proof: ConstantProof | None = None


class Submission(Body):
    """A key, sealed in the browser."""

    proof: ConstantProof | None = None
    sealed: Base64Url
    variables: Annotated[Variables, Field(default_factory=dict)]


@router.get("/intake/{intake_id}", response_class=HTMLResponse, include_in_schema=False)
async def intakepage(request: Request, wired: Wired) -> HTMLResponse:
    """The same page for every id: it says nothing about what exists, and fetching it spends nothing."""
    return page("intake", request, wired)


@router.get("/static/logo", include_in_schema=False)
async def logo(wired: Wired) -> Response:
    """The vendor's logo, if there is one."""
    if (found := wired.options.vendor_logo) is None:
        raise NotFound("This vendor has no logo.")
    return Response(found.content, media_type=found.media_type, headers=_LOGO_HEADERS)


@router.get("/static/{name}", include_in_schema=False)
async def static(name: Literal["intake.js", "login.js", "page.css", "licences.txt"]) -> FileResponse:
    """The pages' scripts, the licences of what is in them, and one style sheet."""
    return FileResponse(_HERE / "static" / name, media_type=_STATIC[name])


def page(name: str, request: Request, wired: Services) -> HTMLResponse:
    """One of the two pages, ``intake`` or ``status``; it says nothing about what exists.

    Its language is the one that its address or the browser asks for.
    """
    texts, options = wired.options.texts, wired.options
    language = texts.choose(request.query_params.get("lang", ""), request.headers.get("accept-language", ""))
    shown = _TEMPLATES.get_template("page.html").render(
        language=language,
        languages=list(texts.languages.values()),
        say=language.words,
        title=language.words[f"shell.{name}_title"],
        vendor=options.vendor_name,
        logo=options.vendor_logo is not None,
        privacy=options.vendor_privacy,
    )
    return HTMLResponse(shown, headers={**_PAGE_HEADERS, "Content-Language": language.tag})


async def _shown(request: Request) -> Proof:
    # The page may be mounted anywhere, so both sides use only the last three parts of its path.
    page, link_id, step = request.url.path.rsplit("/", 3)[1:]
    nonce, answer = link_proof.read(request.headers.get(link_proof.HEADER, "")) or ("", b"")
    return Proof(page, f"/{page}/{link_id}/{step}", await request.body(), address(request), nonce, answer)


# The proof by which a call shows that it knows the link's secret, or the status code.
Shown = Annotated[Proof, Depends(_shown)]


@router.post("/intake/{intake_id}/challenge", summary="Get a nonce for a link's proof")
async def challenge(intake_id: str, wired: Wired) -> dict[str, str]:
    """A nonce for the next call's proof: the same kind of answer for every id."""
    return {"nonce": wired.links.challenge("intake", intake_id)}


@router.post("/intake/{intake_id}/open", summary="Open a one-time link")
async def open_intake(intake_id: str, body: Opening, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """What the page shows to who holds the link."""
    row = await wired.links.proved(intake_id, replace(known, constant=body.proof or ""))
    if body.in_address:
        async with wired.parts.db.write(Scope.of(row.organization_id)) as session:
            await link_logged(session, customer(row, request), row.id, now=wired.parts.clock())
    async with wired.parts.db.read(Scope.of(row.organization_id)) as session:
        shared = await common(session, wired, row, request)
        if row.state in SPENT:  # only who submitted the key, and so has the code, learns what became of it
            return {"vendor": shared["vendor"], "state": "spent"}
        versions = await session.scalars(select(VersionRow).where(VersionRow.credential_id == row.credential_id))
        present_serves = row.rotation_id is not None and serves(versions)
        rotation = await session.get(RotationRow, row.rotation_id) if row.rotation_id else None
        also_asked = bool(await also_open(session, row, now=wired.parts.clock()))
    return {
        **shared,
        "state": "open",
        "intake": row.id,
        "requested_by": shown(row.requested_by),
        "purpose": shown(row.purpose) or None,
        # A rotation's new key goes to the host of the old one, so nobody is asked for the host again.
        "variables": [] if row.rotation_id else _variables(wired.parts.catalog.get(row.provider)),
        "rotation": rotation is not None,
        "own_wish": rotation is not None and rotation.kind == "customer",
        "present_serves": present_serves,
        "also_asked": also_asked,
        "expires_at": rfc3339(row.expires_at),
        "passphrase": False,
        "last_refusal": _refusal(row),
        "seal": seal_of(row),
    }


@router.post("/intake/{intake_id}/submit", summary="Submit a sealed key")
async def submit(intake_id: str, body: Submission, known: Shown, request: Request, wired: Wired) -> dict[str, Any]:
    """Take a sealed key; answers with the receipt."""
    # submission (1) a sealed key, and the proof that its sender holds the link
    row = await wired.links.proved(intake_id, replace(known, constant=body.proof or ""))
    sealed_key = from_base64url(body.sealed, "sealed")
    done = await wired.submissions.submit(row, customer(row, request), sealed_key, dict(body.variables))
    async with wired.parts.db.read(Scope.of(row.organization_id)) as session:
        # submission (16) the receipt
        return {"state": done.state, "receipt": await receipt(session, wired, done)}


def customer(row: IntakeRow, request: Request) -> Actor:
    """The actor for the record: whoever holds one of the request's links."""
    return Actor("customer", row.id, row.contact, address(request), agent(request))


async def common(session: AsyncSession, wired: Services, row: IntakeRow, request: Request) -> dict[str, Any]:
    """What both pages show: who asks whom for which key, in the language of the page that asks."""
    organization = await organizations.find(session, row.organization_id)
    definition = wired.parts.catalog.get(row.provider)
    language = wired.options.texts.choose("", request.headers.get("accept-language", ""))
    said = definition.admin.translations.get(language.tag, AdminWords())
    return {
        "organization": {"id": organization.id, "name": shown(organization.name)},
        "vendor": {"name": wired.options.vendor_name, "contact": wired.options.vendor_contact},
        "provider": {
            "id": definition.id,
            "title": definition.title,
            "docs": str(definition.docs),
            "key_label": said.key_label or definition.key.label,
            "pattern": definition.key.pattern,
            "example": definition.key.example,
            "where": list(said.where or definition.admin.where),
            "revoke": list(said.revoke or definition.admin.revoke),
            "role": said.role or definition.admin.role,
            "link": str(definition.admin.link) if definition.admin.link else None,
        },
    }


async def receipt(session: AsyncSession, wired: Services, row: IntakeRow) -> dict[str, Any]:
    """The receipt that the submitter gets: what was received."""
    version = await session.get_one(VersionRow, (row.credential_id, row.version))
    organization = await organizations.find(session, row.organization_id)
    return {
        "organization": shown(organization.name),
        "vendor": wired.options.vendor_name,
        "provider": wired.parts.catalog.get(row.provider).title,
        "last4": version.last4,
        "fingerprint": version.fingerprint,
        "received_at": when(version.staged_at),
        "state": row.state,
    }


def seal_of(row: IntakeRow) -> dict[str, Any]:
    """The recipient that a submission is sealed to, and the context that it is bound to."""
    return {
        "public_key": base64url.encode(row.public_key),
        "context": {
            "intake": row.id,
            "organization": row.organization_id,
            "provider": row.provider,
            "expires_ms": row.expires_at,
        },
    }


def _variables(definition: Definition) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "title": variable.title,
            "pattern": variable.pattern,
            "choices": list(variable.choices) if variable.choices else None,
        }
        for name, variable in definition.host.variables.items()
    ]


def _refusal(row: IntakeRow) -> dict[str, str] | None:
    messages = {
        "bad_key": (
            "key_refused_upstream",
            "The key you sent was refused as not valid. Create a new one and submit it.",
        ),
        "other_organization": (
            "key_other_organization",
            "The key you sent belongs to another organization. Check that you are signed in to the right one.",
        ),
        CUT_OFF: (
            "key_cut_off",
            "The key you sent was taken out before it was used. Revoke it where you created it, then submit a new one.",
        ),
    }
    if row.refusal not in messages:
        return None
    code, message = messages[row.refusal]
    return {"code": code, "message": message}
