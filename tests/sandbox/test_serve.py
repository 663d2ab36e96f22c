"""The sandbox over real HTTP."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running


async def test_the_sandbox_answers_on_a_free_port_and_stops_with_its_context() -> None:
    async with running(create_sandbox("token")) as url, httpx2.AsyncClient(base_url=url) as http:
        assert url.startswith("http://127.0.0.1:")
        made = await http.post("/_admin/organizations", headers={"X-Admin-Token": "token"}, json={"name": "Acme"})
        path = f"/_admin/organizations/{made.json()['id']}/keys"
        key = (await http.post(path, headers={"X-Admin-Token": "token"})).json()["key"]
        answers = await asyncio.gather(*(http.get("/facilities", headers={"X-API-Key": key}) for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert "server" not in answers[0].headers
        head = await http.head("/facilities", headers={"X-API-Key": key})
        assert (head.status_code, head.content) == (200, b"")
    async with httpx2.AsyncClient() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(url)


async def test_two_sandboxes_run_side_by_side() -> None:
    async with running(create_sandbox("a")) as one, running(create_sandbox("b")) as other:
        assert one != other
        async with httpx2.AsyncClient() as http:
            assert (await http.get(f"{one}/_admin/requests", headers={"X-Admin-Token": "a"})).status_code == 200
            assert (await http.get(f"{other}/_admin/requests", headers={"X-Admin-Token": "a"})).status_code == 401


async def test_a_port_that_is_taken_is_an_error_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with running(create_sandbox("token"), port=taken.getsockname()[1]):
            pass


async def test_an_application_that_does_not_start_is_an_error_and_not_a_hang() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "on purpose"})

    with pytest.raises(RuntimeError, match="did not start"):
        async with running(broken, lifespan="on"):
            pass


async def test_an_error_inside_the_context_stops_the_server_and_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        async with running(create_sandbox("token")):
            raise ZeroDivisionError
