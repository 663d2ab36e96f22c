"""Customers' keys: the list, one credential with its versions, and what is done about it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Query
from fastapi.responses import Response

from broker.formats.ids import CredentialId, Reference
from broker.leases.attention import Selection
from broker.web.api import credentials as api
from broker.web.api import dependents, exposures, grants, rotations
from broker.web.api.credentials import CredentialView, NumberPath
from broker.web.api.exposures import NewExposure
from broker.web.api.fields import Cursor, IdPath, Label, Reason
from broker.web.api.rotations import NewRotation
from broker.web.callers import ByAnyRole, ByOperatorOrSecurityRole, ByOperatorRole, Call
from broker.web.console.asking import made
from broker.web.console.forms import Blank, Form, Sent, once, providers
from broker.web.console.page import Question, Refusal, acted, asked, listing, page, routes
from broker.web.console.timelines import certified

router = routes()

LISTED: Final = 50
ONLY: Final = tuple((each.value, each.value.replace("_", " ")) for each in Selection)
KeyId = IdPath[CredentialId]


@router.get("/keys")
async def listed(
    call: ByAnyRole,
    cursor: Cursor = "",
    organization: Annotated[Reference | None, Blank, Query()] = None,
    provider: Annotated[Label | None, Blank, Query()] = None,
    only: Annotated[Selection | None, Blank, Query()] = None,
) -> Response:
    """Credentials, those that need something where asked for."""
    found = await api.listed(call, LISTED, cursor, organization, provider, only=only)
    sought = {"organization": organization, "provider": provider, "only": only}
    return listing(
        call,
        "keys.html",
        found,
        cursor,
        sought,
        selections=ONLY,
        providers=providers(call),
    )


@router.get("/keys/{credential_id}")
async def one(credential_id: KeyId, call: ByAnyRole) -> Response:
    """One credential: its versions as a timeline, who can use it, and its changes."""
    view = await api.one(credential_id, call)
    whose = Reference(view.organization)
    async with call.services.parts.db.read(call.scope) as session:
        certificates = await certified(session, [view.id])
    return page(
        call,
        "key.html",
        view=view,
        certificates=certificates,
        grants=await grants.listed(
            call, 50, organization=whose, provider=view.provider, label=view.label, order="newest"
        ),
        rotations=await rotations.listed(call, 10, credential=credential_id, order="newest"),
    )


@router.get("/keys/{credential_id}/rotate")
async def ask_for_new(credential_id: KeyId, call: ByOperatorRole) -> Response:
    """The form by which a customer is asked for a new key."""
    return await _new_key(call, credential_id, Form({}))


async def _new_key(call: Call, credential_id: CredentialId, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "rotate.html", view=await api.one(credential_id, call), given=given, once=once(), refusal=refusal)


@router.post("/keys/{credential_id}/rotate")
async def rotate(credential_id: KeyId, call: ByOperatorRole, form: Sent) -> Response:
    """Ask the customer for a new key; the link is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return await _new_key(call, credential_id, form, refusal)

    async def work() -> Response:
        return await rotations.rotate(credential_id, form.read(NewRotation), form.once(call))

    return await made(call, work, again, f"/console/keys/{credential_id}")


@router.get("/keys/{credential_id}/expose")
async def ask_of_exposure(credential_id: KeyId, call: ByOperatorOrSecurityRole) -> Response:
    """The form by which an exposed key is reported, and what stops."""
    return await _exposed(call, credential_id, Form({}))


async def _exposed(call: Call, credential_id: CredentialId, given: Form, refusal: Refusal | None = None) -> Response:
    view = await api.one(credential_id, call)
    return page(
        call,
        "expose.html",
        view=view,
        numbers=[(str(each.number), f"version {each.number}, ends in {each.last4}") for each in view.versions],
        cut=await dependents.of_credential(credential_id, call),
        given=given,
        once=once(),
        refusal=refusal,
    )


@router.post("/keys/{credential_id}/expose")
async def expose(credential_id: KeyId, call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Contain: cut an exposed key off, and ask the customer for a new one."""

    async def again(refusal: Refusal) -> Response:
        return await _exposed(call, credential_id, form, refusal)

    async def work() -> Response:
        since = f"{form.one('since')}T00:00:00Z" if form.one("since") else None
        return await exposures.report(credential_id, form.read(NewExposure, since=since), form.once(call))

    return await made(call, work, again, f"/console/keys/{credential_id}")


@router.get("/keys/{credential_id}/revoke")
async def ask_to_revoke(credential_id: KeyId, call: ByOperatorOrSecurityRole) -> Response:
    """What stops with a credential, before it is asked."""
    return await _revoking(call, credential_id)


async def _revoking(call: Call, credential_id: CredentialId, refusal: Refusal | None = None) -> Response:
    view = await api.one(credential_id, call)
    cut = await dependents.of_credential(credential_id, call)
    says = (
        f"Cuts off {_name(view)} of {view.organization_slug} for good: no lease or use of any version from then on.",
        "The key is not revoked at the upstream by this; the customer does that.",
    )
    return asked(
        call, Question(f"Revoke {_name(view)}?", says, "Revoke it for good", _back(credential_id), cut), refusal
    )


@router.post("/keys/{credential_id}/revoke")
async def revoke(credential_id: KeyId, call: ByOperatorOrSecurityRole, form: Sent) -> Response:
    """Cut a credential off for good."""

    async def again(refusal: Refusal) -> Response:
        return await _revoking(call, credential_id, refusal)

    return await acted(lambda: api.revoke(credential_id, form.read(Reason), call), _back(credential_id), again)


@router.get("/keys/{credential_id}/versions/{number}/activate")
async def ask_to_activate(credential_id: KeyId, number: NumberPath, call: ByOperatorRole) -> Response:
    """What is decided about a held key, before it is asked."""
    return await _activating(call, credential_id, number)


async def _activating(call: Call, credential_id: CredentialId, number: int, refusal: Refusal | None = None) -> Response:
    view = await api.one(credential_id, call)
    says = (
        f"The upstream takes version {number}, and nothing proves that it is {view.organization_slug}'s.",
        "Jobs with a right to this credential use it from then on.",
        "If it is another customer's key, they reach that customer's data with it.",
    )
    question = Question(
        f"Take version {number} into use?", says, "Take it into use", _back(credential_id), reason=False, danger=False
    )
    return asked(call, question, refusal)


@router.post("/keys/{credential_id}/versions/{number}/activate")
async def activate(credential_id: KeyId, number: NumberPath, call: ByOperatorRole) -> Response:
    """Decide that a held version may be used."""
    return await _decided(call, credential_id, number, lambda: api.activate(credential_id, number, call), _activating)


@router.get("/keys/{credential_id}/versions/{number}/revoke")
async def ask_to_revoke_version(credential_id: KeyId, number: NumberPath, call: ByOperatorOrSecurityRole) -> Response:
    """What stops with one version, before it is asked."""
    return await _revoking_version(call, credential_id, number)


async def _revoking_version(
    call: Call, credential_id: CredentialId, number: int, refusal: Refusal | None = None
) -> Response:
    view = await api.one(credential_id, call)
    cut = await dependents.of_credential(credential_id, call)
    says = (
        f"Cuts off version {number} of {_name(view)} of {view.organization_slug}: no lease or use of it from then on.",
        "Other versions go on. What stops at most:",
    )
    return asked(
        call, Question(f"Revoke version {number}?", says, "Revoke this version", _back(credential_id), cut), refusal
    )


@router.post("/keys/{credential_id}/versions/{number}/revoke")
async def revoke_version(
    credential_id: KeyId, number: NumberPath, call: ByOperatorOrSecurityRole, form: Sent
) -> Response:
    """Cut one version off."""

    async def work() -> Response:
        return await api.revoke_version(credential_id, number, form.read(Reason), call)

    return await _decided(call, credential_id, number, work, _revoking_version)


@router.get("/keys/{credential_id}/versions/{number}/destroy")
async def ask_to_destroy(credential_id: KeyId, number: NumberPath, call: ByOperatorOrSecurityRole) -> Response:
    """What is gone with a key's material, before it is asked."""
    return await _destroying(call, credential_id, number)


async def _destroying(call: Call, credential_id: CredentialId, number: int, refusal: Refusal | None = None) -> Response:
    says = (
        f"Erases the key material of version {number}: nobody can open it any more, and no backup brings it back.",
        "The broker can't ask the upstream any more whether this key is dead, so it can't certify that either.",
        "Nothing that runs uses this version.",
    )
    question = Question(
        f"Destroy the key of version {number}?", says, "Destroy the key", _back(credential_id), reason=False
    )
    return asked(call, question, refusal)


@router.post("/keys/{credential_id}/versions/{number}/destroy")
async def destroy(credential_id: KeyId, number: NumberPath, call: ByOperatorOrSecurityRole) -> Response:
    """Erase the key material of a version that is not in use."""
    return await _decided(call, credential_id, number, lambda: api.destroy(credential_id, number, call), _destroying)


async def _decided(
    call: Call,
    credential_id: CredentialId,
    number: int,
    work: Callable[[], Awaitable[Response]],
    asking: Callable[[Call, CredentialId, int, Refusal], Awaitable[Response]],
) -> Response:
    """Do what was asked about one version, or ask again and say why not."""

    async def again(refusal: Refusal) -> Response:
        return await asking(call, credential_id, number, refusal)

    return await acted(work, _back(credential_id), again)


def _name(view: CredentialView) -> str:
    return f"{view.provider}/{view.label}"


def _back(credential_id: CredentialId) -> str:
    return f"/console/keys/{credential_id}"
