"""The page that shows a link once, with a message to the customer that is ready to send."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi.responses import RedirectResponse, Response
from pydantic import TypeAdapter

from broker.formats.ids import IntakeId
from broker.web.api import intakes, providers
from broker.web.api import organizations as customers
from broker.web.api.fields import IdPath, Reference
from broker.web.callers import Call
from broker.web.console.page import Refusal, answered, page

_INTAKE: Final[TypeAdapter[IntakeId]] = TypeAdapter(IdPath[IntakeId])


async def made(
    call: Call, work: Callable[[], Awaitable[Response]], again: Callable[[Refusal], Awaitable[Response]], then: str
) -> Response:
    """Do what makes a link, and show it this once; where none is made, lead to ``then``."""

    async def show(response: Response) -> Response:
        answer: dict[str, Any] = json.loads(bytes(response.body))
        if (link := answer["link"]) is None:
            return RedirectResponse(then, 303)
        return await _shown_once(call, link, answer.get("also_open", ()))

    return await answered(work, show, again)


async def _shown_once(call: Call, link: str, also_open: object) -> Response:
    view = await intakes.one(_INTAKE.validate_python(link.rpartition("#")[0].rpartition("/")[2]), call)
    customer = await customers.one(Reference(view.organization), call)
    provider = await providers.one(Reference(view.provider), call)
    return page(call, "link.html", view=view, customer=customer, provider=provider, link=link, also_open=also_open)
