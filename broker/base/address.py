"""Addresses of databases: as hosts print them, and as the drivers take them.

PostgreSQL's are read as libpq reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

_POSTGRES: Final = ("postgresql+asyncpg", "postgresql", "postgres")
_SQLITE: Final = "sqlite+aiosqlite"
# SQLAlchemy hands these parameters of an address to the driver, or takes them for itself, …
_FOR_THE_POOL: Final = frozenset({"prepared_statement_cache_size"})
_GIVEN: Final = frozenset({"host", "port", "ssl"}) | _FOR_THE_POOL
# … and the driver knows these only within an address of its own: there it reads them as libpq does.
_WITHIN: Final = frozenset(
    {
        *("sslmode", "sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "passfile"),
        *("krbsrvname", "gsslib", "application_name", "options"),
    }
)
_FORMS: Final = "postgresql://USER:PASSWORD@HOST:5432/NAME, or sqlite+aiosqlite:///PATH"


def usable(address: str) -> str:
    """The address with the driver's own scheme.

    Raises:
        ValueError: names the fix.  It shows nothing of the address but its scheme and names of parameters.
    """
    scheme, _, rest = address.partition("://")
    if scheme not in {*_POSTGRES, _SQLITE}:
        given = scheme if rest and scheme.replace("+", "").isalnum() else "what is given"
        raise ValueError(f"{given} is not a database that the broker works with; write {_FORMS}")
    if scheme == _SQLITE:
        if not rest.startswith("/") or rest == "/":
            raise ValueError(f"must name a file: {_SQLITE}:///PATH")
        return address
    address = f"{_POSTGRES[0]}://{rest}"
    try:
        names = set(make_url(address).query)
    except (ArgumentError, ValueError):
        raise ValueError(
            f"can't be read; write {_FORMS}. Within a password, % is %25, @ is %40, / is %2F, : is %3A"
        ) from None
    if unknown := sorted(names - _GIVEN - _WITHIN):
        raise ValueError(
            f"{', '.join(unknown)}: the driver knows no such parameter of an address; take it out. To be sure of the "
            "server, write sslmode=verify-full (and sslrootcert=FILE where its authority is private)"
        )
    return address


def client_key(address: str) -> Path | None:
    """The file with the private key that the broker shows itself to the server with.

    None if the address names none.
    """
    named = make_url(address).query.get("sslkey")
    return Path(named) if isinstance(named, str) and named else None


def for_pool(address: str) -> tuple[URL, dict[str, Any]]:
    """The address for SQLAlchemy, and arguments of the driver for what only the driver reads."""
    url = make_url(address)
    within = {name: value for name, value in url.query.items() if name in _WITHIN}
    url = url.difference_update_query(within)
    return url, {"dsn": f"postgresql://?{urlencode(within, doseq=True)}"} if within else {}


def for_driver(address: str) -> dict[str, Any]:
    """The whole address as arguments of the driver, for a connection outside of the pool."""
    url, arguments = for_pool(address)
    _, given = url.get_dialect()().create_connect_args(url)
    return {name: value for name, value in given.items() if name not in _FOR_THE_POOL} | arguments
