"""Sessions on SQLite and PostgreSQL, each fenced to the tenants that its caller may touch.

There are two fences, independent of each other.  This module adds the tenant filter to every ORM statement of a
session.  On PostgreSQL the same scope is handed to row-level security (``broker.tenants``), which also covers SQL that
bypasses the ORM.  A session without a scope does not exist; a query without a session (:meth:`Database.ask`) sees no
tenant on PostgreSQL but those that it names itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import asyncpg
import sqlalchemy
from sqlalchemy import BigInteger, Index, MetaData, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    SessionTransaction,
    mapped_column,
    with_loader_criteria,
)
from sqlalchemy.pool import QueuePool

from broker.base.address import for_driver, for_pool
from broker.base.clock import Millis
from broker.base.errors import BrokerError, Unavailable
from broker.base.faults import is_away, is_refused_value
from broker.base.id_column import Id
from broker.base.outage import end_useless_connections
from broker.base.parent import Parent
from broker.base.reader import PostgresReader, Reader, SqliteReader
from broker.base.sqlite import SqliteThread, sqlite_engine
from broker.base.statements import OnConnection, Transaction
from broker.base.storable import Unstorable
from broker.base.writer import Writer
from broker.formats.ids import PREFIXES, OrganizationId, digits_of

Result = TypeVar("Result")


class OutOfScope(BrokerError):
    """Code tried to write a row of a tenant outside its session's scope.

    That is a defect, never a caller's fault.
    """

    status = 500
    code = "internal"
    title = "Internal error"


@dataclass(frozen=True, slots=True)
class Scope:
    """The tenants that a session may see: their ids, or every one (:data:`EVERY_TENANT`)."""

    organizations: frozenset[OrganizationId] | None

    @classmethod
    def of(cls, *organizations: OrganizationId) -> Scope:
        """The scope of just these organizations."""
        return cls(frozenset(organizations))

    def holds(self, organization: OrganizationId) -> bool:
        """Whether this organization is inside."""
        return self.organizations is None or organization in self.organizations

    def covers(self, other: Scope) -> bool:
        """Whether every organization of ``other`` is inside."""
        if self.organizations is None:
            return True
        return other.organizations is not None and other.organizations <= self.organizations

    def setting(self) -> str:
        """The value of ``broker.tenants`` that row-level security compares with."""
        if self.organizations is None:
            return "*"
        return ",".join(sorted(filter(None, map(digits_of, self.organizations))))


EVERY_TENANT: Final = Scope(None)


class Table(DeclarativeBase):
    """Base of every mapped row; times are milliseconds since the epoch (BIGINT)."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map: ClassVar[Mapping[Any, Any]] = {
        int: BigInteger,
        Millis: BigInteger,
        **{kind: Id(prefix) for kind, prefix in PREFIXES.items()},
    }


def table(row: type[Table]) -> sqlalchemy.Table:
    """The table of these rows, for statements that are made without the ORM."""
    found = row.__table__
    assert isinstance(found, sqlalchemy.Table)  # declared as FromClause
    return found


_NO_SETTINGS: Final[Mapping[str, str]] = {}

Insert = postgresql.Insert | sqlite.Insert

# An INSERT that says what is done about a row that is there already, by the dialect's name.
UPSERTS: Final[Mapping[str, Callable[[type[Table]], Insert]]] = {
    "postgresql": postgresql.insert,
    "sqlite": sqlite.insert,
}


def upsert(session: AsyncSession, row: type[Table]) -> Insert:
    """An INSERT of such rows that says what is done about a row that is there already.

    It goes on with ``on_conflict_do_nothing`` or ``on_conflict_do_update``.
    """
    return UPSERTS[session.get_bind().dialect.name](row)


def partial(name: str, where: str, *columns: str) -> Index:
    """An index of only the rows that meet ``where``, which both databases read alike."""
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


class TenantOwned:
    """Mixin of rows that belong to one organization; the session's scope filters them."""

    organization_id: Mapped[OrganizationId] = mapped_column(index=True)


class TenantRoot:
    """Mixin of the organization row itself, whose own id is the tenant."""

    id: Mapped[OrganizationId] = mapped_column(primary_key=True)


def _fence_orm_statement(state: ORMExecuteState) -> None:
    scope: Scope = state.session.info["scope"]
    if scope.organizations is None or state.is_column_load or state.is_relationship_load:
        return
    ids = sorted(scope.organizations)
    state.statement = state.statement.options(
        with_loader_criteria(TenantOwned, lambda row: row.organization_id.in_(ids), include_aliases=True),
        with_loader_criteria(TenantRoot, lambda row: row.id.in_(ids), include_aliases=True),
    )


def _fence_flush(session: Session, _context: object, _instances: object) -> None:
    scope: Scope = session.info["scope"]
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantOwned) and not scope.holds(row.organization_id):
            raise OutOfScope("A row of another tenant was about to be written.")
        if isinstance(row, TenantRoot) and not scope.holds(row.id):
            raise OutOfScope("Another tenant was about to be written.")


def _tell_row_level_security(session: Session, _tx: SessionTransaction, connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(_SET_TENANTS, {"tenants": session.info["scope"].setting()})


_SET_TENANTS = text("SELECT set_config('broker.tenants', :tenants, true)")


class FencedSession(Session):
    """The session class that carries the first fence."""


event.listen(FencedSession, "do_orm_execute", _fence_orm_statement)
event.listen(FencedSession, "before_flush", _fence_flush)
event.listen(FencedSession, "after_begin", _tell_row_level_security)


class DatabaseUnavailable(Unavailable):
    """The database could not be reached, or did not answer in time."""

    code = "database_unavailable"


class DatabaseSlow(DatabaseUnavailable, TimeoutError):
    """The database did not answer in the time that a statement has.

    For :func:`~broker.base.faults.is_away` it is away.
    """


def _unreachable() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database can't be reached; nothing was changed. Try again shortly.", retry_after=2)


def _slow(*, committing: bool = False) -> DatabaseSlow:
    if committing:
        return DatabaseSlow(
            "The database did not confirm in time: whether this was done is not known. Look before you try again.",
            retry_after=2,
        )
    return DatabaseSlow("The database did not answer in time; nothing was changed. Try again shortly.", retry_after=2)


# A request waits so long for a statement at most, and so do its locks hold up others.
_LONGEST_S: Final = 10.0


async def _connected(connecting: Awaitable[AsyncConnection | None]) -> None:
    # The drivers' own errors of a refused or lost address are not SQLAlchemy's; nor is a parent's that is gone.
    try:
        await connecting
    except DatabaseSlow:
        raise
    except OSError:
        raise _unreachable() from None


class Database:
    """One engine, which hands out fenced sessions: ``read``, and ``write``, which commits.

    ``file`` is where SQLite keeps the data.  ``parent`` is who writes there, if several processes do.
    """

    def __init__(
        self, url: str, *, pool_size: int = 10, longest_s: float = _LONGEST_S, parent: Parent | None = None
    ) -> None:
        """Open nothing yet.

        Args:
            url: the address, with the driver's scheme.
            pool_size: how many connections are kept.
            longest_s: seconds that a statement may take on PostgreSQL.  SQLite has no such limit: there a read keeps
                nobody waiting, and who writes waits for its turn.
            parent: who writes to SQLite's file, if several processes do.
        """
        self._url = url
        self.engine: AsyncEngine = _engine(url, pool_size, longest_s)
        self.dialect = self.engine.dialect.name
        self.file = Path(self.engine.url.database or "") if self.dialect == "sqlite" else None
        # Authenticates rows that give rights (broker.keystore.genuine). It is there once the broker's own keys are.
        self.row_key: bytes | None = None
        # Opens and seals the personal parts of events (broker.audit.subjects). It is there with them, too.
        self.subjects: object = None
        # SQLite has one writer. Waiting for it in the event loop beats its polling busy handler, which only commands
        # on the same file meet.
        self.writer = Writer() if self.dialect == "sqlite" else None
        self._thread = SqliteThread(self.file) if self.file is not None else None
        self.parent = parent
        self._beside: list[Database] = []
        self._gate: AbstractAsyncContextManager[object] = nullcontext()
        self._reader: Reader = (
            SqliteReader(self.file) if self.file is not None else PostgresReader(lambda: self.dedicated("reader"))
        )

    def beside(self, at_once: int, *, longest_s: float) -> Database:
        """The same database for work that no request waits for; it is closed with this one.

        It has connections of its own, so that it takes none from requests.  On SQLite the one writer is the same.

        Args:
            at_once: how many sessions there are at once.  Others wait for their turn, so none may be opened within one.
            longest_s: seconds that a statement may take.
        """
        other = Database(self._url, pool_size=at_once, longest_s=longest_s, parent=self.parent)
        other.row_key, other.subjects = self.row_key, self.subjects
        other.writer, other._gate = self.writer, asyncio.Semaphore(at_once)
        self._beside.append(other)
        return other

    @asynccontextmanager
    async def read(self, scope: Scope) -> AsyncIterator[AsyncSession]:
        """A session on one consistent snapshot.  Nothing that it changes is kept."""
        options = {"isolation_level": "REPEATABLE READ"} if self.dialect == "postgresql" else {}
        async with self._gate, self._session(scope) as session:
            await _connected(session.connection(execution_options=options))
            yield session

    async def ask(self, query: Mapping[str, str], *parameters: object) -> Sequence[Sequence[Any]]:
        """The rows of one query, in one round trip and without a session, on one snapshot.

        No fence of a session is around it.  On PostgreSQL it sees those tenants only whose scope it sets itself.
        Whoever asks compares what comes with the tenant that was asked about.

        Args:
            query: its text in each dialect's own words.
            parameters: of the query.

        Raises:
            DatabaseUnavailable: not now. Unstorable: the database takes no such value.
        """
        try:
            return await self._reader.rows(query[self.dialect], parameters)
        except Exception as error:
            if is_refused_value(error):
                raise Unstorable from None
            if isinstance(error, TimeoutError):
                raise _slow() from None
            if is_away(error):
                raise _unreachable() from None
            raise

    @asynccontextmanager
    async def write(self, scope: Scope) -> AsyncIterator[AsyncSession]:
        """A session that commits when the block ends well and rolls back when it raises."""
        async with self._gate, self._writing(), self._session(scope) as session:
            await _connected(session.connection(execution_options={"write": True}))
            yield session
            await session.commit()

    @asynccontextmanager
    async def write_connection(self) -> AsyncIterator[AsyncConnection]:
        """A transaction over every tenant without the ORM, for the audit log's batches."""
        async with self.writing() as connection, connection.begin():
            if self.dialect == "postgresql":
                await connection.execute(_SET_TENANTS, {"tenants": EVERY_TENANT.setting()})
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A connection of the pool whose transactions, which write, are the caller's own.

        On SQLite nobody else writes meanwhile.
        """
        async with self._writing(record=True), self.engine.connect() as connection:
            yield await connection.execution_options(write=True)

    async def transact(self, work: Callable[[Transaction], Result], *, record: bool = True) -> Result:
        """Run ``work`` in one transaction over every tenant, without the ORM.

        It is for the audit log's batches.  On SQLite the whole transaction runs in one thread of its own: one hop
        instead of one per statement.  ``record`` is False for others, which hold the writer only for a moment; they
        wait like sessions.
        """
        if self._thread is not None:
            async with self._writing(record=record):
                return await asyncio.get_running_loop().run_in_executor(self._thread.executor, self._thread.run, work)
        try:
            async with self.write_connection() as connection:
                return await connection.run_sync(lambda sync: work(OnConnection(sync)))
        except DatabaseSlow:
            raise
        except OSError:
            raise _unreachable() from None

    async def dedicated(
        self, purpose: str, *, longest_s: float | None = 5, settings: Mapping[str, str] = _NO_SETTINGS
    ) -> asyncpg.Connection:
        """A PostgreSQL connection of the caller's own, outside of the pool.

        Its loss is noticed within seconds.

        Args:
            purpose: what ``pg_stat_activity`` shows after the broker's name.
            longest_s: seconds that a statement may take; None if nobody knows.
            settings: of the session, for the server.

        Raises:
            OSError, asyncpg.PostgresError: none could be had.
        """
        settings = {"application_name": f"keybroker {purpose}", **_KEEPALIVE, **settings}
        given = {**for_driver(self._url), "timeout": 5, "command_timeout": longest_s, "server_settings": settings}
        return await asyncpg.connect(**given)

    async def close(self) -> None:
        """Close every connection, also of those beside this one.

        One that is in use is waited for, for a moment, as nobody would close it later.
        """
        for other in self._beside:
            await other.close()
        pool = self.engine.pool
        with suppress(TimeoutError):
            async with asyncio.timeout(_GIVEN_BACK_S):
                while isinstance(pool, QueuePool) and pool.checkedout():  # noqa: ASYNC110 - once, at the end
                    await asyncio.sleep(0.005)
        if self._thread is not None:
            self._thread.close()
        await self._reader.close()
        await self.engine.dispose()
        if self.parent is not None:
            self.parent.leave()

    @asynccontextmanager
    async def _writing(self, *, record: bool = False) -> AsyncIterator[None]:
        if self.writer is None:
            yield
            return
        async with self.writer.turn(record=record), AsyncExitStack() as stack:
            if self.parent is not None:
                await _connected(stack.enter_async_context(self.parent.turn(record=record)))
            yield

    def _session(self, scope: Scope) -> AsyncSession:
        info = {"scope": scope, "row_key": self.row_key, "subjects": self.subjects}
        return AsyncSession(self.engine, sync_session_class=FencedSession, info=info, expire_on_commit=False)


_GIVEN_BACK_S = 2
_KEEPALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}


def _name_fault(context: ExceptionContext) -> None:
    """Tell refused values and late statements from a database that is away.

    SQLAlchemy calls this with every error of a statement, and of a commit, which has no text.  A driver's time-out is
    an error of none of the kinds that it knows.
    """
    if is_refused_value(context.original_exception):
        raise Unstorable
    if isinstance(context.original_exception, TimeoutError):
        raise _slow(committing=context.statement is None)


def _engine(url: str, pool_size: int, longest_s: float) -> AsyncEngine:
    engine = _engine_of(url, pool_size, longest_s)
    event.listen(engine.sync_engine, "handle_error", _name_fault)
    return engine


def _engine_of(url: str, pool_size: int, longest_s: float) -> AsyncEngine:
    if url.startswith("sqlite"):
        return sqlite_engine(url, pool_size)
    address, arguments = for_pool(url)
    engine = create_async_engine(
        address,
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            **arguments,
            "timeout": 5,
            "command_timeout": longest_s,
            # A frozen replica must not hold the audit head for ever.
            "server_settings": {"idle_in_transaction_session_timeout": "10000", "lock_timeout": "5000"},
        },
    )
    end_useless_connections(engine.sync_engine)
    return engine


async def look_alive(connection: asyncpg.Connection) -> None:
    """Ask whether a dedicated connection is still of use: its server answers, and takes writes.

    A server that became a replica keeps sessions and their locks, and tells them nothing of what the new one does.

    Raises:
        OSError, asyncpg.PostgresError: it is of no use.
    """
    if await connection.fetchval("SELECT current_setting('transaction_read_only')") == "on":
        raise asyncpg.ReadOnlySQLTransactionError("the server takes no writes")
