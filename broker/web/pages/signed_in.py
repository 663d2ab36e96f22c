"""Pages for people who are signed in: others are led to where they can sign in, and back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from fastapi.routing import APIRoute

from broker.base.errors import Unauthenticated
from broker.web.callers import ReauthenticationNeeded


class ForThoseSignedIn(APIRoute):
    """A page's route; whoever isn't signed in, or was too long ago, proves first who they are."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, which leads them there."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except ReauthenticationNeeded:
                return RedirectResponse(f"/login/again?to={self.path}", 303)
            except Unauthenticated:
                return RedirectResponse(f"/login?to={self.path}", 303)

        return handle
