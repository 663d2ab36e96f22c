"""Making accounts: a person's with its one-time link, a machine's with its token.

Both are shown once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastapi.responses import Response

from broker.formats.ids import OperatorId, Reference
from broker.identity.principal import Role
from broker.web.api import operators as api
from broker.web.api.fields import IdPath
from broker.web.api.operators import NewMachine, NewOperator
from broker.web.callers import ByAdminRole, Call
from broker.web.console.forms import Form, Sent, once
from broker.web.console.page import Question, Refusal, answered, asked, page, routes
from broker.web.idempotency import told

router = routes()

ROLES: Final = (
    (Role.OPERATOR.value, "Operator", "asks customers for keys, and gives jobs their rights"),
    (Role.SECURITY.value, "Security", "reads the record, approves as a second person, decides reviews, contains"),
    (Role.ADMIN.value, "Admin", "all of it, and accounts"),
)


@router.get("/accounts/new")
async def new_person(call: ByAdminRole) -> Response:
    """The form of a person's account.  Its link needs a fresh person, who is asked for before anything is written."""
    call.insist_on_a_fresh_person()
    return _new(call, "person", Form({}))


@router.get("/accounts/token")
async def new_machine(call: ByAdminRole) -> Response:
    """The form of a machine's account.  Its token needs a fresh person, who is asked for before anything is written."""
    call.insist_on_a_fresh_person()
    return _new(call, "machine", Form({}))


def _new(call: Call, kind: str, given: Form, refusal: Refusal | None = None) -> Response:
    return page(call, "account_new.html", kind=kind, given=given, roles=ROLES, once=once(), refusal=refusal)


def _lists(form: Form) -> dict[str, Sequence[str] | None]:
    """The fields of an account that have several values; its customers stand one a line."""
    return {"roles": list(form.every("role")), "organizations": form.one("organizations").split() or None}


@router.post("/accounts/new")
async def create(call: ByAdminRole, form: Sent) -> Response:
    """Make a person's account; the link is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, "person", form, refusal)

    async def work() -> Response:
        return await api.create(form.read(NewOperator, **_lists(form)), form.once(call))

    return await answered(work, _link_of(call), again)


@router.post("/accounts/token")
async def create_machine(call: ByAdminRole, form: Sent) -> Response:
    """Make a machine's account; its token is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return _new(call, "machine", form, refusal)

    async def work() -> Response:
        return await api.create_machine(form.read(NewMachine, **_lists(form)), form.once(call))

    async def show(response: Response) -> Response:
        return page(call, "account_token.html", **told(response))

    return await answered(work, show, again)


@router.get("/accounts/{operator_id}/link")
async def ask_for_link(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """What a new link changes, before it is made."""
    return await _linking(call, operator_id)


async def _linking(call: Call, operator_id: OperatorId, refusal: Refusal | None = None) -> Response:
    view = await api.one(call, operator_id)
    says = (
        f"Whoever opens it signs in as {view.name}, once, within a day. Earlier links stop working.",
        "Make sure that it is they who ask, over a way that you know them by.",
        "Their passkeys and open sessions go on. If a device was lost, end its sessions, too.",
    )
    title, back = f"Make a new link for {view.name}?", f"/console/accounts/{operator_id}"
    return asked(call, Question(title, says, "Make the link", back, reason=False, danger=False), refusal)


@router.post("/accounts/{operator_id}/link")
async def link(operator_id: IdPath[OperatorId], call: ByAdminRole) -> Response:
    """Make another link for who has lost their way in; it is shown this once."""

    async def again(refusal: Refusal) -> Response:
        return await _linking(call, operator_id, refusal)

    return await answered(lambda: api.link(Reference(operator_id), call), _link_of(call), again)


def _link_of(call: Call) -> Callable[[Response], Awaitable[Response]]:
    """Shows the link of an answer."""

    async def show(response: Response) -> Response:
        return page(call, "account_link.html", **told(response))

    return show
