"""The page that shows a link once, with a message to the customer that is ready to send."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter

from broker.formats.ids import CredentialId, IntakeId, RotationId
from broker.incidents.shown import replaced_by
from broker.web.api import credentials, intakes, providers, rotations
from broker.web.api import organizations as customers
from broker.web.api.fields import IdPath, Reference
from broker.web.callers import Call
from broker.web.console.page import Refusal, answered, page
from broker.web.idempotency import told

_INTAKE: Final[TypeAdapter[IntakeId]] = TypeAdapter(IdPath[IntakeId])
_ROTATION: Final[TypeAdapter[RotationId]] = TypeAdapter(IdPath[RotationId])
_CREDENTIAL: Final[TypeAdapter[CredentialId]] = TypeAdapter(IdPath[CredentialId])


async def made(
    call: Call,
    work: Callable[[], Awaitable[Response]],
    again: Callable[[Refusal], Awaitable[Response]],
    then: str,
    *,
    reminds: bool = False,
) -> Response:
    """Do what makes a link, and show it this once; where none is made, lead to ``then``.

    The message says so if it ``reminds``, as the link before stops working.
    """

    async def show(response: Response) -> Response:
        answer = told(response)
        if (link := answer["link"]) is None:
            return RedirectResponse(then, 303)
        return await _shown_once(call, link, answer.get("also_open", ()), reminds=reminds)

    return await answered(work, show, again)


async def _shown_once(call: Call, link: str, also_open: object, *, reminds: bool) -> Response:
    view = await intakes.one(_INTAKE.validate_python(link.rpartition("#")[0].rpartition("/")[2]), call)
    return page(
        call,
        "link.html",
        view=view,
        customer=await customers.one(Reference(view.organization), call),
        provider=await providers.one(Reference(view.provider), call),
        steps=call.services.parts.catalog.get(view.provider).admin.revoke,
        exposed=await _exposed(call, view),
        link=link,
        also_open=also_open,
        reminds=reminds,
    )


async def _exposed(call: Call, view: intakes.IntakeView) -> list[str] | None:
    """How keys end that others may know, if a new one is asked for because of that.

    None if it isn't.  They are cut off here, so the message must not say that they stay in use.
    """
    if view.rotation is None:
        return None
    rotation = _ROTATION.validate_python(view.rotation)
    credential = _CREDENTIAL.validate_python((await rotations.one(rotation, call)).credential)
    async with call.services.parts.db.read(call.scope) as session:
        numbers = await replaced_by(session, rotation, credential)
    if not numbers:
        return None
    versions = (await credentials.one(credential, call)).versions
    return [each.last4 for each in versions if each.number in numbers and not each.revocation_confirmed_at]
