"""``/api-keys``: an organization's own keys, made and deleted with a key.

The reference upstream has no such API, but others do.  The broker's rotation without people is tried against this one.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.answers import Refused, fields_of, is_text
from broker.sandbox.state import Key, State


class KeysApi:
    """The calls over the data."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def collection(self, request: Request, key: Key) -> Response:
        """List the live keys, or make one, whose text is shown this once."""
        if request.method == "GET":
            live = [one for one in self._state.keys.values() if one.organization is key.organization]
            return JSONResponse([_shown(one) for one in live if one.state == "active"])
        if request.method != "POST":
            raise HTTPException(405, "Method Not Allowed", {"Allow": "GET, POST"})
        name = (await fields_of(request)).get("name")
        if not is_text(name):
            raise Refused(422, "Field required: name")
        if self._state.refuse_new_keys:
            raise Refused(403, "This key may not make others")
        made, text = self._state.add_key(key.organization, str(name))
        return JSONResponse({**_shown(made), "key": text}, 201)

    async def item(self, request: Request, key: Key) -> Response:
        """One key; ``current`` is the key that asks."""
        wanted = request.path_params["id"]
        found = key if wanted == "current" else self._state.keys.get(wanted)
        if found is None or found.organization is not key.organization or found.state != "active":
            raise Refused(404, "Resource not found")
        if request.method == "DELETE":
            found.state = "revoked"
            return Response(status_code=204)
        return JSONResponse(_shown(found))


def _shown(key: Key) -> dict[str, str]:
    return {"id": key.id, "name": key.name, "last4": key.last4}
