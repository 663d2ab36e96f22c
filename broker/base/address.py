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
# What the driver takes for them; it would say only that it took no other.
_VALUES: Final = {
    **dict.fromkeys(("ssl", "sslmode"), ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
_FILES: Final = frozenset({"sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile"})
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
        if not rest.startswith("/") or rest in {"/", "/:memory:"} or "?" in rest:
            raise ValueError(f"must name a file, and nothing after it: {_SQLITE}:///PATH")
        return address
    address = f"{_POSTGRES[0]}://{rest}"
    _look_at(_read(address))
    return address


def _read(address: str) -> URL:
    try:
        url = make_url(address)
        for_driver(address)  # ports that are numbers, one for each host
        ports = [url.port, *url.normalized_query.get("port", ())]
        if not all(1 <= int(port) <= 65_535 for port in ports if port is not None):
            raise ValueError(ports)
    except (ArgumentError, ValueError):
        raise ValueError(
            f"can't be read; write {_FORMS}. Within a password, % is %25, @ is %40, / is %2F, : is %3A"
        ) from None
    return url


def _look_at(url: URL) -> None:
    if unknown := sorted(set(url.query) - _GIVEN - _WITHIN):
        raise ValueError(
            f"{', '.join(unknown)}: the driver knows no such parameter of an address; take it out. To be sure of the "
            "server, write sslmode=verify-full (and sslrootcert=FILE where its authority is private)"
        )
    for name, known in _VALUES.items():
        if url.query.get(name, known[0]) not in known:
            raise ValueError(f"{name}: write {', '.join(known[:-1])} or {known[-1]}")
    for name in _FILES & set(url.query):
        if not Path(str(url.query[name])).is_file():
            raise ValueError(f"{name}: {url.query[name]} is no file that the broker can see")
    if not url.database or not (url.host or url.query.get("host")):
        raise ValueError(f"names no host or no database; write {_FORMS}")  # the driver would take others'


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
