"""One e-mail address, as a mail server takes it (RFC 5321 §4.1.2, RFC 5891).  Pure."""

from __future__ import annotations

import re

import idna

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LOCAL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_LOCAL_MAX, _ADDRESS_MAX = 64, 254


class NotAMailbox(ValueError):
    """Several addresses, or none that mail could be sent to."""

    def __init__(self) -> None:
        super().__init__("write one e-mail address, such as admin@acme.example: no name, list, brackets or final dot")


def mailbox(text: str) -> str:
    """The address with its domain in A-labels, so that a server without SMTPUTF8 takes it.

    Whatever a mail server needn't take is refused: quoted names before the ``@``, letters outside ASCII there,
    addresses of hosts by number.  So is an address with a character that nobody sees.

    Raises:
        NotAMailbox: it is none, or more than one.
    """
    local, _, domain = text.rpartition("@")
    if not (_LOCAL.fullmatch(local) and len(local) <= _LOCAL_MAX and domain.isprintable()):
        raise NotAMailbox
    try:
        ascii_domain = idna.encode(domain, uts46=True, std3_rules=True).decode()
    except UnicodeError:
        raise NotAMailbox from None
    address = f"{local}@{ascii_domain}"
    last_label = ascii_domain.rpartition(".")[2]
    if not last_label or last_label.isdecimal() or len(address) > _ADDRESS_MAX:
        raise NotAMailbox
    return address
