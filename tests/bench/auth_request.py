"""What people would pick in the proxy's place: nginx with ``auth_request``, and a small FastAPI application it asks.

The application is written as people write it: it finds the token by its digest, puts the use on record, durably, and
answers with the customer's key, which nginx puts into the call.  One uvicorn worker on uvloop and httptools, an asyncpg
pool as it comes, one nginx worker, connections kept on every side.  (Both statements in one, or a pool of 32, changed
nothing beyond noise.)

It is far less than a broker: keys are stored as they are, its record can be changed by whoever may write to it and says
nothing of what came of a use, and answers go out as they come.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

import asyncpg
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from tests.bench import nginx
from tests.support import processes

_TABLES = """
CREATE TABLE tokens (
    digest bytea PRIMARY KEY,
    job text NOT NULL,
    organization text NOT NULL,
    api_key text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE TABLE uses (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    job text NOT NULL,
    organization text NOT NULL,
    method text NOT NULL,
    uri text NOT NULL
);
"""
_GIVE = "INSERT INTO tokens VALUES ($1, 'bench', 'acme', $2, now() + interval '1 day')"
_FIND = "SELECT job, organization, api_key FROM tokens WHERE digest = $1 AND expires_at > now()"
_RECORD = "INSERT INTO uses (job, organization, method, uri) VALUES ($1, $2, $3, $4)"
_bearer = HTTPBearer()


@contextmanager
def running(directory: Path, database_url: str, upstream: int, token: str, key: str) -> Iterator[tuple[int, list[int]]]:
    """The port of nginx, and the processes of both, before a local ``upstream`` that gets ``key``.

    ``database_url`` is of an empty PostgreSQL database; calls come with ``token`` as their bearer.
    """
    directory.mkdir(parents=True)
    database = database_url.replace("+asyncpg", "")
    asyncio.run(_prepare(database, token, key))
    port = processes.free_port()
    arguments = [sys.executable, "-m", "tests.bench.auth_request", str(port), database]
    with (
        processes.running(arguments, port=port, log=directory / "application.log") as application,
        nginx.asking(directory / "nginx", upstream, application=port) as (peer, pid),
    ):
        yield peer, [pid, application.pid]


async def _prepare(database: str, token: str, key: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(_TABLES)
        await connection.execute(_GIVE, _digest(token), key)
    finally:
        await connection.close()


def application(database: str) -> FastAPI:
    """The application over ``database``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(database) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)
    app.get("/authorize")(_authorize)
    return app


async def _authorize(
    request: Request,
    presented: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)],
    method: Annotated[str, Header(alias="X-Original-Method")],
    uri: Annotated[str, Header(alias="X-Original-URI")],
) -> Response:
    async with request.app.state.pool.acquire() as connection:
        token = await connection.fetchrow(_FIND, _digest(presented.credentials))
        if token is None:
            raise HTTPException(401)
        await connection.execute(_RECORD, token["job"], token["organization"], method, uri)
    return Response(status_code=204, headers={"X-API-Key": token["api_key"]})


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def main() -> None:
    """Serve the application on the port and over the database that the command line names."""
    port, database = sys.argv[1:]
    uvicorn.run(
        application(database),
        host="127.0.0.1",
        port=int(port),
        http="httptools",
        loop="uvloop",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
