"""An issuer as somebody declared it, and the hosts that are asked about it.  Pure."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_PORTS: Final = {"https": "443", "http": "80"}
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_URL: Final = re.compile(
    rf"(https?)://((?:{_LABEL}\.)*{_LABEL}|\[[0-9a-f:.]+\])(?::([1-9][0-9]{{0,4}}))?((?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*)"
)
_DOTS: Final = frozenset({".", "..", "%2e", "%2e%2e", ".%2e", "%2e."})
_LONGEST: Final = 500


@dataclass(frozen=True, slots=True)
class Declared:
    """Who signs.

    Args:
        issuer: what ``iss`` holds, byte for byte.
        hosts: further hosts that its documents may name, beside its own; with a port where that is not the usual one.
        private: its hosts may have private addresses, and speak http.
        tls: what vouches for them instead of the public authorities.
        algorithms: what it signs with (RFC 7518, RFC 8037).  Nothing else names them.
        keys_url: where its keys are, if it isn't asked where.
        keys_file: the file that has them, if it isn't asked for any.
        bearer_file: a file with a token that is sent to its own host alone, where it answers to nobody else.
        use: what its keys say that they are for; SPIFFE has a word of its own.
    """

    issuer: str
    hosts: frozenset[str] = frozenset()
    private: bool = False
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    algorithms: tuple[str, ...] = ("RS256",)
    keys_url: str = ""
    keys_file: Path | None = None
    bearer_file: Path | None = None
    use: str = "sig"

    def trusts(self, url: str) -> bool:
        """Whether the broker may ask this address on the issuer's word.

        That goes no further than the declaration: https leads to https alone.
        """
        plain = self.private and (self.keys_url or self.issuer).startswith("http://")
        return fault(url, private=plain, query=True) is None and host(url) in {*self._own(), *self.hosts}

    def knows(self, url: str) -> bool:
        """Whether a host is one that the declaration itself names.

        Only such a host may have the bearer's token.
        """
        return host(url) in self._own()

    def _own(self) -> set[str]:
        return {host(self.keys_url or self.issuer)}


def fault(url: str, *, private: bool, query: bool = False) -> str | None:
    """What is wrong with an issuer's address, as what to do about it; None if nothing is.

    Args:
        private: http is allowed.
        query: a query is, too.
    """
    bare, mark, asked = url.partition("?")
    found = _URL.fullmatch(bare)
    wrong = len(url) > _LONGEST or (mark and not query) or not re.fullmatch(r"[!-~]*", asked) or "#" in url
    if found is None or wrong or not _can_be_dialled(bare):
        return "write it as the issuer does: https://, a host in lower case, perhaps a path, and nothing else"
    if found[1] == "http" and not private:
        return "must begin with https:// (an issuer on http needs private = true)"
    if not _DOTS.isdisjoint(part.lower() for part in found[4].split("/")):
        return "leave dot segments out of its path"
    return None


def _can_be_dialled(url: str) -> bool:
    """Whether its port and its address literal, if it has them, are such."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True


def host(url: str) -> str:
    """The host of an address, and its port unless that is the usual one.

    The address is one that :func:`fault` found nothing wrong with.
    """
    found = _URL.match(url)
    if found is None:
        return ""
    return found[2] if found[3] in {None, _PORTS[found[1]]} else f"{found[2]}:{found[3]}"
