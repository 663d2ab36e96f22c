"""Which moves of a credential's versions are lawful.

Pure and total: every other move is refused by its name.

::

    staged ──verify──▶ verified ──activate──▶ active ──(a newer one is activated)──▶ retiring
       │                   │                    │  ◀──(the newer one is rolled back)──   │
       │                   │             revoke, roll back                     retire, revoke
       └──destroy──┐       └──────revoke──────┐ ▼                                        │
                   ▼                         revoked ◀───────────────────────────────────┘
                   destroyed ◀──────destroy─────┘ (also from verified)

Invariants: at most one version is active and at most one retiring, and while one is retiring one is active.  So no
step of a rotation leaves a credential without a usable key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a version stands.

    ``revoked`` is cut off here; whether the upstream refuses it too is confirmed apart.
    """

    STAGED = "staged"
    VERIFIED = "verified"
    ACTIVE = "active"
    RETIRING = "retiring"
    REVOKED = "revoked"
    DESTROYED = "destroyed"


class Health(StrEnum):
    """What the upstream last said about a key in use, or that the key is gone."""

    HEALTHY = "healthy"
    FAILING = "failing"  # the upstream says that it is a bad key
    UNREACHABLE = "unreachable"  # an outage, which says nothing about the key
    GONE = "gone"  # it is not where the keystore put it


class Move(StrEnum):
    """What can be done to a version."""

    VERIFY = "verify"
    ACTIVATE = "activate"
    RETIRE = "retire"
    ROLL_BACK = "roll_back"
    REVOKE = "revoke"
    DESTROY = "destroy"


USABLE = frozenset({State.ACTIVE, State.RETIRING})

_NEXT: Mapping[Move, tuple[frozenset[State], State]] = {
    Move.VERIFY: (frozenset({State.STAGED}), State.VERIFIED),
    Move.ACTIVATE: (frozenset({State.VERIFIED}), State.ACTIVE),
    Move.RETIRE: (frozenset({State.RETIRING}), State.REVOKED),
    Move.ROLL_BACK: (frozenset({State.ACTIVE}), State.REVOKED),
    Move.REVOKE: (frozenset({State.VERIFIED, State.ACTIVE, State.RETIRING}), State.REVOKED),
    Move.DESTROY: (frozenset({State.STAGED, State.VERIFIED, State.REVOKED}), State.DESTROYED),
}


@dataclass(frozen=True, slots=True)
class Unlawful:
    """A move that was refused.

    ``name`` is stable, such as ``activate_from_staged`` or ``unknown_version``.
    """

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
    before = [other for other, state in versions.items() if state is State.RETIRING]
    if step is Move.ACTIVATE:
        if before:
            return Unlawful("activate_while_retiring")
        replaced = {other: State.RETIRING for other, state in versions.items() if state is State.ACTIVE}
        return {number: target} | replaced
    if step is Move.ROLL_BACK and not before:
        return Unlawful("roll_back_without_retiring")
    if present is State.ACTIVE:  # revoked or rolled back: the previous key, if it is still there, serves again
        return {number: target} | dict.fromkeys(before, State.ACTIVE)
    return {number: target}
