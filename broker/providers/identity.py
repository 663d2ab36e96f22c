"""Read same-organization evidence out of a verification answer.

Pure, and total over anything that an upstream sends.
"""

from __future__ import annotations

from itertools import islice

from broker.providers.answers import ids_at, value_at
from broker.providers.definition import Definition

_IDS_MAX = 1_000


def evidence(definition: Definition, body: bytes) -> tuple[frozenset[str], bool]:
    """The ids at the definition's identity path, and whether these are all.

    No ids if there are none or the answer is not JSON.  They are not all if there are more than are kept, or if the
    answer names another one that follows.  Then an id that is not among them may be among the others.
    """
    identity = definition.identity
    if identity is None:
        return frozenset(), True
    found = dict.fromkeys(ids_at(body, identity.path))
    goes_on = identity.next is not None and bool(value_at(body, identity.next))
    return frozenset(islice(found, _IDS_MAX)), len(found) <= _IDS_MAX and not goes_on
