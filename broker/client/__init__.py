"""The job's side: prove who it is, lease access and use it; and seal a key.

::

    from broker.client import Client, read_identity, raise_for_problem

What stands here is what other people's code may import, and stays.  It is loaded when it is first asked for, so that
a command that only prints its help imports no HTTP client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from broker.client.client import AccessToken, Client
    from broker.client.connecting import ProxyUnusable
    from broker.client.errors import AccessDenied, AccessEnded, CallFailed, OutsideUpstream, raise_for_problem
    from broker.client.identity import Identity, IdentityUnusable
    from broker.client.identity import read as read_identity
    from broker.client.keyless import KeylessIdentity
    from broker.client.leases import IssuedLease, Lease, LeaseState, Workload
    from broker.client.submission import AnswerLost, Submitted, submit_key
    from broker.client.upstream import Upstream

_FROM = {
    "AccessDenied": "errors",
    "AccessEnded": "errors",
    "AccessToken": "client",
    "AnswerLost": "submission",
    "CallFailed": "errors",
    "Client": "client",
    "Identity": "identity",
    "IdentityUnusable": "identity",
    "IssuedLease": "leases",
    "KeylessIdentity": "keyless",
    "Lease": "leases",
    "LeaseState": "leases",
    "OutsideUpstream": "errors",
    "ProxyUnusable": "connecting",
    "Submitted": "submission",
    "Upstream": "upstream",
    "Workload": "leases",
    "raise_for_problem": "errors",
    "read_identity": "identity",
    "submit_key": "submission",
}
_CALLED_THERE = {"read_identity": "read"}

__all__ = [
    "AccessDenied",
    "AccessEnded",
    "AccessToken",
    "AnswerLost",
    "CallFailed",
    "Client",
    "Identity",
    "IdentityUnusable",
    "IssuedLease",
    "KeylessIdentity",
    "Lease",
    "LeaseState",
    "OutsideUpstream",
    "ProxyUnusable",
    "Submitted",
    "Upstream",
    "Workload",
    "raise_for_problem",
    "read_identity",
    "submit_key",
]


if not TYPE_CHECKING:  # a type checker would take any name for one that is there

    def __getattr__(name: str) -> object:
        if name not in _FROM:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_FROM[name]}"), _CALLED_THERE.get(name, name))
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
