"""Which moves of a credential's versions are lawful.  Pure and total: every other move is refused by its name.

::

    staged ──verify──▶ verified ──activate──▶ active ──(a newer one is activated)──▶ retiring
       └──destroy──┐       ├──destroy──┐         │                                      │
                   ▼       ▼           ▼         ▼                                      ▼
                   destroyed ◀─destroy─ revoked ◀─────────────────revoke────────────────┘ (also from verified)

There is at most one active version at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a version stands."""

    STAGED = "staged"
    VERIFIED = "verified"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"
    DESTROYED = "destroyed"


class Health(StrEnum):
    """What upstream last said about a key in use."""

    HEALTHY = "healthy"
    FAILING = "failing"


class Move(StrEnum):
    """What can be done to a version."""

    VERIFY = "verify"
    ACTIVATE = "activate"
    REVOKE = "revoke"
    DESTROY = "destroy"


USABLE = frozenset({State.ACTIVE, State.RETIRING})

_NEXT: Mapping[Move, tuple[frozenset[State], State]] = {
    Move.VERIFY: (frozenset({State.STAGED}), State.VERIFIED),
    Move.ACTIVATE: (frozenset({State.VERIFIED}), State.ACTIVE),
    Move.REVOKE: (frozenset({State.VERIFIED, State.ACTIVE, State.RETIRING}), State.REVOKED),
    Move.DESTROY: (frozenset({State.STAGED, State.VERIFIED, State.REVOKED}), State.DESTROYED),
}


@dataclass(frozen=True, slots=True)
class Unlawful:
    """A move that was refused; ``name`` is stable, such as ``activate_from_staged`` or ``unknown_version``."""

    name: str


def move(versions: Mapping[int, State], number: int, step: Move) -> dict[int, State] | Unlawful:
    """The new states of the versions that change, or why none may.

    Args:
        versions: every version's number and present state.
        number: the version to move.
        step: what to do to it.
    """
    present = versions.get(number)
    if present is None:
        return Unlawful("unknown_version")
    allowed_from, target = _NEXT[step]
    if present not in allowed_from:
        return Unlawful(f"{step}_from_{present}")
    changes = {number: target}
    if step is Move.ACTIVATE:
        changes |= {other: State.RETIRING for other, state in versions.items() if state is State.ACTIVE}
    return changes
