"""The ports of a server's process, taken before anything is said to be served on them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

# As many connections wait for a busy server as uvicorn lets wait.
_WAITING = 2_048
_FREE = "such as 127.0.0.1, or 0.0.0.0 for every one"
# One address of several that a name has, such as ::1 of localhost on a machine without IPv6.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class PortUnusable(Exception):
    """An address can't be listened on; the text names the setting and the fix."""


def taken(setting: str, host: str, port: int, *, of_host: str = "BROKER_HOST") -> list[socket.socket]:
    """Sockets that listen on each address that ``host`` has.

    Args:
        setting: the name of the port's setting.
        host: of BROKER_HOST; empty for every address.
        port: 0 for any free one.
        of_host: the name of the host's setting.

    Raises:
        PortUnusable: somebody else listens there, or there is no such address here.
    """
    found: list[socket.socket] = []
    problem: OSError | None = None
    for family, address in _addresses(of_host, host, port):
        try:
            found.append(_listening(family, address))
        except OSError as error:
            problem = error
            if error.errno not in _NOT_HERE:
                break
    if found and (problem is None or problem.errno in _NOT_HERE):
        return found
    for one in found:
        one.close()
    assert problem is not None, "a name has an address"
    raise PortUnusable(_fix(setting, of_host, host, port, problem)) from None


def _addresses(of_host: str, host: str, port: int) -> Iterator[tuple[socket.AddressFamily, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise PortUnusable(
            f"{of_host}: {host} has no address; write one of this machine to listen on, {_FREE}."
        ) from None
    for family, _, _, _, address in found:
        yield family, address


def _listening(family: socket.AddressFamily, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        # Of two who bind at once, only one may listen.
        made.listen(_WAITING)
    except BaseException:
        made.close()
        raise
    return made


def _fix(setting: str, of_host: str, host: str, port: int, error: OSError) -> str:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{setting}: something else listens on {where}; end it, or set {setting} to another port."
    if error.errno in {errno.EACCES, errno.EPERM}:
        return (
            f"{setting}: the broker's user may not listen on {where}; set {setting} to a port from 1024 on, such as "
            "8080, and put a proxy before it."
        )
    if error.errno in _NOT_HERE:
        return f"{of_host}: {host} is no address of this machine; write one that is, {_FREE}."
    return f"{setting}: {where} can't be listened on ({error.strerror})."
