"""One Vault or OpenBao, called from a bounded pool of threads.

Calls have a deadline, and a token that is kept fresh.  Whatever goes wrong becomes one
:class:`~broker.keystore.keystore.KeystoreUnavailable` whose ``cause`` names it.  The next call tries again, so nothing
has to be restarted once Vault is back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

import hvac
import structlog

from broker.base.tracing import span
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.breaker import Breaker
from broker.keystore.vault.connection import Address, Session, client
from broker.keystore.vault.faults import DOWN, translated, unavailable
from broker.keystore.vault.login import Login
from broker.keystore.vault.tokens import Tokens

__all__ = ["Address", "Vault", "unavailable"]

_log = structlog.get_logger()
T = TypeVar("T")

# So many calls wait for each thread: more than these would be answered too late anyway.
_QUEUE = 8


class Vault:
    """Calls one Vault with the token that ``tokens`` keeps.

    ``under_way`` counts the calls that a thread still has.

    Args:
        address: where it is.
        login: how to sign in.
        connections: threads, and connections, at most.
        timeout: seconds that a call may take in all.
    """

    def __init__(self, address: Address, login: Login, *, connections: int, timeout: float) -> None:
        self._timeout = timeout
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="vault")
        self._limit = connections * (1 + _QUEUE)
        self.under_way = 0
        self._breaker = Breaker()
        self._session = Session(address, connections)
        self._client = client(address, self._session, timeout)
        self._loop = asyncio.get_running_loop()
        self._fresh = asyncio.Event()
        anonymous = client(address, self._session, timeout)
        self.tokens = Tokens(login, self._client, anonymous, lambda: self._in_loop(self._fresh.set))
        self._keeping: asyncio.Task[None] | None = None
        # For metrics: calls that were answered, and those that were not, by cause.
        self.answers = 0
        self.refusals: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to keep the token fresh."""
        self._keeping = asyncio.create_task(self._keep(), name="vault-token")

    async def close(self) -> None:
        """Stop, and close every connection.

        The token is left to expire: other processes may hold the same one.
        """
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def call(self, work: Callable[[hvac.Client], T]) -> T:
        """Run ``work`` with a signed-in client in a thread; it asks Vault and reads the answer.

        Raises:
            KeystoreUnavailable: named by its cause. CannotOpen: as ``work`` says.
        """
        with span("vault") as waiting:
            try:
                done = await self._called(work)
            except KeystoreUnavailable as problem:
                self.refusals[problem.cause] += 1
                if waiting is not None:
                    waiting.set_attribute("keybroker.cause", problem.cause)
                raise
            self.answers += 1
            return done

    async def _called(self, work: Callable[[hvac.Client], T]) -> T:
        if (resting := self._breaker.refusal()) is not None:
            raise unavailable(resting)
        if self.under_way >= self._limit:
            raise unavailable("busy")
        self.under_way += 1
        late = asyncio.Event()
        # In the caller's context: a log line from the thread is the request's too.
        running = self._pool.submit(copy_context().run, self._signed_in, work)
        running.add_done_callback(lambda done: self._in_loop(lambda: self._over(done, late)))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(running), self._timeout)
        except TimeoutError:
            late.set()
            self._breaker.failed("slow")
            raise unavailable("slow") from None

    def _in_loop(self, then: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(then)

    def _over(self, done: Future[Any], late: asyncio.Event) -> None:
        """Tell the breaker, once, what came of a call that has left its thread."""
        self.under_way -= 1
        if late.is_set() or done.cancelled():
            return
        problem = done.exception()
        if isinstance(problem, KeystoreUnavailable) and problem.cause in DOWN:
            self._breaker.failed(problem.cause)
        else:
            self._breaker.succeeded()

    def _signed_in(self, work: Callable[[hvac.Client], T]) -> T:
        try:
            return self._tried(work)
        except KeystoreUnavailable as problem:
            if problem.cause != "token":
                raise
        # Expired or revoked; whoever finds that first signs in for all.
        return self._tried(work)

    def _tried(self, work: Callable[[hvac.Client], T]) -> T:
        token = self.tokens.present()
        try:
            done = translated(lambda: work(self._client))
        except KeystoreUnavailable as problem:
            if problem.cause == "token":
                self.tokens.refused(token)
            raise
        self.tokens.accepted(token)
        return done

    async def _keep(self) -> None:
        """Renew the token before it ends; if that fails, try again soon."""
        wait = self.tokens.renew_in()
        while True:
            self._fresh.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._fresh.wait()
                wait = self.tokens.renew_in()
                continue
            try:
                await asyncio.wrap_future(self._pool.submit(self.tokens.renew))
                wait = self.tokens.renew_in()
            except Exception as error:  # noqa: BLE001 - the keeper outlives whatever Vault answers
                cause = error.cause if isinstance(error, KeystoreUnavailable) else type(error).__name__
                _log.warning("vault.not_renewed", cause=cause)
                wait = self.tokens.retry_in()
