"""Log lines: JSON, each with the request or the piece of work that it belongs to, whoever writes it; nothing secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

from broker.base.db import Database
from broker.base.logs import RequestLog, configure
from broker.formats.ids import RequestId
from broker.identity import operators
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.connection import Address
from broker.keystore.vault.login import TokenFile
from broker.keystore.vault.server import Vault
from tests.support.world import World

SECRET = "hvs.CAESIJ-planted"


class Lines:
    """What is written to standard error while the program logs as it does in production."""

    def __init__(self) -> None:
        self._written = io.StringIO()

    def __call__(self) -> list[dict[str, Any]]:
        """The lines, each of them JSON."""
        return [json.loads(line) for line in self.written.splitlines()]

    @property
    def written(self) -> str:
        """The lines as they are."""
        return self._written.getvalue()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Write here; pytest takes warnings over for each phase of a test, which production doesn't."""
        with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
            patched.setattr(sys, "stderr", self._written)
            configure("info")
            warnings.simplefilter("always")
            yield


@pytest.fixture
def lines() -> Iterator[Lines]:
    """The lines that were written since; asked for before a world, whose loggers are made with it."""
    made = Lines()
    with made.open():
        yield made
    configure("error")


async def _broken(*_: object, **__: object) -> None:
    await asyncio.sleep(0)  # others come between
    logging.getLogger("some.library").warning("met by %s", SECRET)
    warnings.warn(SECRET, stacklevel=1)
    raise RuntimeError("a fault of ours")


async def test_every_line_within_a_request_has_the_id_that_its_caller_was_told(
    lines: Lines, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "authenticate", _broken)
    before = len(lines())
    with lines.open():
        answers = await asyncio.gather(*(world.http.get("/v1/organizations", headers=world.admin) for _ in range(3)))
    said = lines()[before:]
    for answer in answers:
        assert answer.status_code == 500
        mine = [line for line in said if line.get("request_id") == answer.headers["X-Request-Id"]]
        assert [line["event"] for line in mine] == [
            "met by %s",
            "warning",
            "request.failed",
            "request.aborted",
            "request",
        ]
        assert "RuntimeError: a fault of ours" in mine[2]["exception"]
    assert len(said) == 5 * len(answers)
    assert SECRET not in json.dumps(said)
    # and: what comes later is nobody's
    logging.getLogger("some.library").warning("later")
    assert "request_id" not in lines()[-1]


async def test_the_line_of_a_request_is_the_one_that_any_other_way_of_logging_would_write(
    lines: Lines, world: World
) -> None:
    asked = (("GET", "/healthz", 200), ("HEAD", "/healthz", 200), ("BREW", "/v1/leases", 405), ("GET", "/none", 404))
    with lines.open():
        for method, path, status in asked:
            before = len(lines.written)
            answer = await world.http.request(method, path)
            assert answer.status_code == status
            said = lines.written[before:]
            line = json.loads(said)
            fields = {name: line[name] for name in ("method", "route", "status", "ms")}
            with bound_contextvars(request_id=answer.headers["X-Request-Id"]):
                structlog.get_logger().info("request", **fields)
            other = lines.written[before + len(said) :]
            assert said.replace(line["timestamp"], "") == other.replace(json.loads(other)["timestamp"], "")
            assert datetime.fromisoformat(line["timestamp"]) <= datetime.fromisoformat(json.loads(other)["timestamp"])
            assert (line["method"], line["status"]) == ("other" if method == "BREW" else method, status)


def test_requests_are_not_logged_where_only_warnings_are(lines: Lines) -> None:
    with lines.open():
        for level, count in (("warning", 0), ("info", 1)):
            configure(level)
            RequestLog().answered("GET", "/healthz", 200, 0.001, RequestId("req_1"))
            assert len(lines()) == count


@pytest.mark.parametrize("path", ["/v1/organizations", "/proxy/acme/raptor-comply/facilities"])
async def test_that_the_database_is_away_is_said_of_the_request_that_met_it(
    lines: Lines, world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    from sqlalchemy.exc import OperationalError

    def gone(*_: object, **__: object) -> None:
        raise OperationalError("SELECT", {}, ConnectionRefusedError(), connection_invalidated=True)

    monkeypatch.setattr(Database, "read", gone)
    headers = world.admin if path.startswith("/v1") else {"Authorization": "Bearer " + _lease_token(world)}
    answer = await world.http.get(path, headers=headers)
    assert answer.status_code == 503, answer.text
    (line,) = [line for line in lines() if line["event"] == "database.unavailable"]
    assert line["request_id"] == answer.headers["X-Request-Id"]


def _lease_token(world: World) -> str:
    from broker.formats import ids, token

    return token.lease_token(world.services.parts.keys.lease_token, ids.new(ids.LeaseId))


async def test_what_a_thread_says_for_a_request_has_its_id_too(lines: Lines, tmp_path: Path) -> None:
    vault = Vault(Address("http://127.0.0.1:9"), Unwilling(tmp_path), connections=1, timeout=5)
    with bound_contextvars(request_id="req_1"), pytest.raises(KeystoreUnavailable):
        await vault.call(lambda _client: None)
    await vault.close()
    assert [(line["event"], line["request_id"]) for line in lines()] == [("vault.sign_in_failed", "req_1")]


class Unwilling(TokenFile):
    """A way to sign in that Vault refuses."""

    def credential(self) -> str:
        return SECRET

    def sign_in(self, *_: object) -> NoReturn:
        raise KeystoreUnavailable("Not now.", cause="refused")


async def test_every_line_of_the_worker_has_its_pieces_name(
    lines: Lines, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ("verify_due", "forget_assertions")
    for piece in broken:
        monkeypatch.setattr(world.broker.worker.duties[piece], "run", _broken)
    with lines.open():
        await world.broker.worker.once()
    for piece in broken:
        mine = [line["event"] for line in lines() if line.get("piece") == piece]
        assert mine == ["met by %s", "warning", "worker.failed"]
    assert "piece" not in get_contextvars()


def in_arguments() -> None:
    logging.getLogger("urllib3.connectionpool").warning("Retrying %s after %r", f"/v1/{SECRET}?q", SECRET)


def filled_in() -> None:
    logging.getLogger("aiosmtplib").error(f"AUTH PLAIN {SECRET}")  # noqa: G004 - as libraries do


def in_an_exception() -> None:
    try:
        raise ValueError(SECRET)
    except ValueError:
        logging.getLogger("opentelemetry.sdk").exception("Exporting failed", stack_info=True)


def in_what_cannot_be_told() -> None:
    logging.getLogger("uvicorn.error").error("%d connections", SECRET)


def in_a_warning() -> None:
    warnings.warn(f"Expected `str` but got `int` with value `{SECRET}`", UserWarning, stacklevel=1)


async def in_a_task() -> None:
    async def fails(value: str) -> None:
        raise ValueError(value)

    task = asyncio.create_task(fails(SECRET), name=SECRET)
    await asyncio.wait({task})
    del task


async def in_a_callback() -> None:
    def fails(value: str) -> None:
        raise ValueError(value)

    asyncio.get_running_loop().call_soon(fails, SECRET)
    await asyncio.sleep(0)


async def in_the_loops_context() -> None:
    context = {"message": f"Exception in callback <f({SECRET!r})>", "protocol": SECRET, "exception": ValueError(SECRET)}
    asyncio.get_running_loop().call_exception_handler(context)


IN_A_LOOP = (in_a_task, in_a_callback, in_the_loops_context)


@pytest.mark.parametrize("say", [in_arguments, filled_in, in_an_exception, in_a_warning])
def test_a_librarys_line_is_json_and_without_what_the_library_was_given(lines: Lines, say: Callable[[], None]) -> None:
    with lines.open():
        say()
    (line,) = lines()
    assert line["level"] in {"warning", "error"}
    assert line["logger"]
    assert line["at"].startswith("test_logs.py:")
    assert SECRET not in json.dumps(line)
    assert "/" not in json.dumps(line).replace("/v1/", ""), "no path of a file"


@pytest.mark.parametrize("say", IN_A_LOOP)
def test_so_is_asyncios(lines: Lines, say: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with lines.open(), asyncio.Runner() as runner:
        runner.run(say())
    (line,) = [line for line in lines() if line["logger"] == "asyncio"]
    assert line["event"].startswith(("Task exception was never retrieved", "Exception in callback"))
    assert line["error"] == "ValueError"
    assert SECRET not in json.dumps(line)


def test_a_line_that_cannot_be_made_is_left_out(lines: Lines) -> None:
    in_what_cannot_be_told()
    assert lines() == []


def test_a_librarys_chatter_is_no_line(lines: Lines) -> None:
    noisy = logging.getLogger("hpack.noisy")
    noisy.setLevel(logging.DEBUG)
    noisy.info("header %s", SECRET)
    assert lines() == []


def test_what_is_known_to_hold_nobodys_text_is_told_whole(lines: Lines) -> None:
    with lines.open():
        logging.getLogger("alembic.runtime.migration").warning("Running %s -> %s", "0001", "0002")
    (line,) = lines()
    assert (line["logger"], line["event"]) == ("alembic.runtime.migration", "Running 0001 -> 0002")


async def test_one_who_leaves_before_the_request_is_read_is_no_fault(lines: Lines, world: World) -> None:
    """Whoever ends a program with requests under way would fill the log with traces, and page somebody with 500s."""
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme")
    headers = [(name.lower().encode(), value.encode()) for name, value in (await job.headers()).items()]
    scope: Any = {
        "type": "http",
        "method": "POST",
        "path": "/v1/leases",
        "raw_path": b"/v1/leases",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "extensions": {},
    }

    async def left() -> Any:
        return {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    edge: Any = world.edge
    await edge(scope, left, send)
    assert sent == []
    (line,) = [line for line in lines() if line.get("route") == "/v1/leases"]
    assert (line["level"], line["status"]) == ("info", 499)
    assert "Traceback" not in lines.written
