"""What goes in and out at a broker's door, in the order in which it does."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Door:
    """The last point in this process that what jobs are sent passes: what was noted there had gone out by then.

    Order is judged by counting: a reader's clock would say when bytes came, which is later by what the sockets hold.
    """

    def __init__(self) -> None:
        self.sent = 0  # parts of answers' bodies
        self.left = asyncio.Event()  # set once a broker was told that a job is gone

    def of(self, app: ASGIApp) -> ASGIApp:
        """This application, seen from its door."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def receiving() -> Message:
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.left.set()
                return message

            async def sending(message: Message) -> None:
                self.sent += bool(message.get("body"))
                await send(message)

            await app(scope, receiving, sending)

        return watched
