"""A job without an identity file, as what surrounds it says.

That names the broker that it calls, its id there, and where its platform has a token.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from broker.base import variables
from broker.client.identity import IdentityUnusable
from broker.client.keyless import KeylessIdentity
from broker.client.platform import finding, named
from broker.client.platform.source import Source
from broker.formats.identity_file import Unreadable, is_address, is_audience

_WORKLOAD = re.compile("wkl_[0-9a-f]{32}")


def identity(
    *,
    broker: str = "",
    workload: str = "",
    token_from: str = "",
    audience: str = "",
    environment: Mapping[str, str] | None = None,
) -> KeylessIdentity:
    """The job that runs here.

    Args:
        broker: the broker's address; left out, ``BROKER_URL``'s.
        workload: the job's id; left out, ``BROKER_WORKLOAD``'s.
        token_from: the source of its platform's token; left out, it is looked for.
        audience: whom the token is for, if that isn't the broker's address.
        environment: where to look; left out, the process's own.

    Raises:
        IdentityUnusable: something isn't named, or is none.
        CallFailed: no token was found.  Either text says what to do.
    """
    given = os.environ if environment is None else environment
    where = (broker or given.get(variables.URL, "")).rstrip("/")
    who = workload or given.get(variables.WORKLOAD, "")
    if not is_address(where):
        raise IdentityUnusable(
            f"{variables.URL}: set it to the broker's address, such as https://keys.vendor.example. The platform's "
            "token is asked for that address, and is worth nothing at another."
        )
    if not _WORKLOAD.fullmatch(who):
        # What was given isn't repeated: it may be a token.
        start = "This is no job's id, which a name isn't" if who else "Say which job this is"
        raise IdentityUnusable(f"{start}: --workload wkl_…, or {variables.WORKLOAD}. `broker workload list` shows it.")
    if audience and not is_audience(audience):
        raise IdentityUnusable("--audience: is to be a text of at most 512 ASCII characters.")
    source = source_named(token_from, given) if token_from else named.source(finding.found(given, where), given)
    return KeylessIdentity(where, who, source, audience, of_file=False)


def source_named(text: str, environment: Mapping[str, str] | None = None) -> Source:
    """The source that ``--token-from`` names; raises IdentityUnusable if that is none."""
    try:
        return named.source(named.parsed(text), environment)
    except Unreadable as error:
        ways = "Write file:PATH, env:NAME, spiffe-file:PATH, or the name alone."
        raise IdentityUnusable(f"--token-from: {error}. {ways}") from None
