"""One answer for every repeat of a request with the same ``Idempotency-Key``.

That holds for a repeat at the same moment at another replica too.  The key is claimed before the work.  A repeat waits
for the transaction of that claim, and then finds its answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy import ColumnElement, and_, delete, update
from sqlalchemy.ext.asyncio import AsyncSession

from broker.base.clock import DAY_MS, Clock
from broker.base.db import EVERY_TENANT, Database, Scope, upsert
from broker.base.errors import Conflict, Invalid
from broker.base.secret import Secret
from broker.keystore.keystore import Keystore
from broker.web.tables import IdempotencyRow

_KEPT_MS = DAY_MS
# Longer than any request works. If its process died, the key is free again after this time.
_UNDER_WAY_MS = 300_000
_UNANSWERED = 0
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
IdempotencyKey = Annotated[
    str | None, Header(alias="Idempotency-Key", description="1 to 128 visible characters; repeats answer the same.")
]


def checked_key(key: str | None) -> str:
    """The Idempotency-Key, or empty; raises Invalid."""
    if key is not None and not _KEY.fullmatch(key):
        raise Invalid("Idempotency-Key: use 1 to 128 visible ASCII characters.")
    return key or ""


class UnderWay(Conflict):
    """The request that came first with this key has no answer yet."""

    code = "request_under_way"

    def __init__(self) -> None:
        super().__init__(
            "A request with this Idempotency-Key is being carried out. Send the same again in a few seconds, with the "
            "same key, to have its answer; if it never had one, it is carried out then, after five minutes at most.",
            retry_after=2,
        )


@dataclass(frozen=True, slots=True)
class Repeats:
    """One request and its repeats.

    ``principal`` gave the request its ``key``, and ``digest`` tells it from other requests.  ``previous_digest`` is
    the digest in rows of the previous release, which are kept for a day.
    """

    db: Database
    keystore: Keystore
    clock: Clock
    principal: str
    key: str
    digest: str
    previous_digest: str

    async def change(self, scope: Scope, work: Callable[[AsyncSession], Awaitable[BaseModel]], status: int) -> Response:
        """Run ``work`` in the one transaction that also claims the key and keeps the answer.

        Raises:
            UnderWay: another request claimed the key, and has no answer yet. Invalid: the key was used for a
                different request.
            Whatever ``work`` raises; the key is free again then.
        """
        if earlier := await self._answered():
            return earlier
        async with self.db.write(scope) as session:
            if claimed := await self._claim(session):
                made = _json(await work(session))
                await self._keep(session, made, status)
        return _response(made, status) if claimed else await self._answered_by_another()

    async def act(self, scope: Scope, work: Callable[[], Awaitable[BaseModel]], status: int) -> Response:
        """Run work that is more than one transaction, else as :meth:`change`.

        A repeat that comes while it runs is refused.
        """
        if earlier := await self._answered():
            return earlier
        async with self.db.write(scope) as session:
            claimed = await self._claim(session)
        if not claimed:
            return await self._answered_by_another()
        try:
            made = _json(await work())
        except Exception:
            await self._release()
            raise
        async with self.db.write(scope) as session:
            await self._keep(session, made, status)
        return _response(made, status)

    async def _answered(self) -> Response | None:
        """The answer that was kept; None if the key is free.

        Raises:
            UnderWay: there is none yet. Invalid: the key was used for another request.
        """
        async with self.db.read(EVERY_TENANT) as session:
            row = await session.get(IdempotencyRow, (self.principal, self.key))
        if row is None or row.expires_at <= self.clock():
            return None
        if row.request_hash not in {self.digest, self.previous_digest}:
            raise Invalid("Idempotency-Key: was used for another request; use a new one.")
        if row.status == _UNANSWERED:
            raise UnderWay
        return _response((await self.keystore.open(row.answer_sealed, row.binding)).reveal(), row.status)

    async def _answered_by_another(self) -> Response:
        """The answer of the request that claimed the key first; raises as :meth:`_answered`."""
        earlier = await self._answered()
        if earlier is None:  # the other claim was given up, or forgotten, this moment
            raise UnderWay
        return earlier

    async def _claim(self, session: AsyncSession) -> bool:
        """Take the key, as the first thing that a transaction does.

        If another transaction has taken it, this waits for that one's end.

        Returns:
            False if the key is taken; its row stays as it was.
        """
        given = {
            "request_hash": self.digest,
            "status": _UNANSWERED,
            "answer_sealed": await self.keystore.seal(Secret(b""), self._row().binding),
            "expires_at": self.clock() + _UNDER_WAY_MS,
        }
        taken = await session.execute(
            upsert(session, IdempotencyRow)
            .values(principal_id=self.principal, key=self.key, **given)
            .on_conflict_do_update(
                index_elements=[IdempotencyRow.principal_id, IdempotencyRow.key],
                set_=given,
                where=IdempotencyRow.expires_at <= self.clock(),
            )
            .returning(IdempotencyRow.key)
        )
        return taken.first() is not None

    async def _keep(self, session: AsyncSession, body: bytes, status: int) -> None:
        """Keep the answer beside the claim."""
        sealed = await self.keystore.seal(Secret(body), self._row().binding)
        await session.execute(
            update(IdempotencyRow)
            .where(self._claimed())
            .values(status=status, answer_sealed=sealed, expires_at=self.clock() + _KEPT_MS)
        )

    async def _release(self) -> None:
        """Give up a committed claim: the work failed, so a repeat is a new try."""
        async with self.db.write(EVERY_TENANT) as session:
            await session.execute(delete(IdempotencyRow).where(self._claimed(), IdempotencyRow.status == _UNANSWERED))

    def _claimed(self) -> ColumnElement[bool]:
        row = IdempotencyRow
        return and_(row.principal_id == self.principal, row.key == self.key, row.request_hash == self.digest)

    def _row(self) -> IdempotencyRow:
        return IdempotencyRow(principal_id=self.principal, key=self.key, request_hash=self.digest)


def answer(made: BaseModel, status: int) -> Response:
    """A JSON response of this model."""
    return _response(_json(made), status)


def told(response: Response) -> dict[str, Any]:
    """What a JSON response says, as :func:`answer` and others made it."""
    said: dict[str, Any] = json.loads(bytes(response.body))
    return said


def _json(made: BaseModel) -> bytes:
    return made.model_dump_json().encode()


def _response(body: bytes, status: int) -> Response:
    return Response(body, status, media_type="application/json")
