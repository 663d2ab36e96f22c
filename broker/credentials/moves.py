"""Moves of a credential's versions, on their rows, as the lifecycle allows.

A move alone leaves a customer's request behind: who decides goes by ``rotations/commands``, and a contract keeps these
to ``credentials`` and ``rotations``.
"""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import object_session

from broker.base.clock import Millis, later
from broker.base.errors import Conflict, NotFound
from broker.credentials.age import date
from broker.credentials.lifecycle import Move, State, Unlawful, move
from broker.credentials.tables import FingerprintRow, VersionRow
from broker.credentials.versions import Versions, first_check_ms
from broker.keystore import orphans


class UnlawfulMove(Conflict):
    """The lifecycle refuses the move; ``move`` names it."""

    code = "unlawful_move"


def apply_move(versions: Versions, number: int, step: Move, now: Millis) -> None:
    """Carry a lawful move out on the rows.

    Raises:
        UnlawfulMove: the lifecycle refuses it. NotFound: no such version.
    """
    changes = move({n: State(row.state) for n, row in versions.items()}, number, step)
    if isinstance(changes, Unlawful):
        if changes.name == "unknown_version":
            raise NotFound("This credential has no such version; `broker key list` shows those it has.")
        raise UnlawfulMove(f"A version that is {versions[number].state} can't be moved by '{step}'.", move=changes.name)
    # rotation (8) a new key comes into use and the old one is retiring, at once
    for changed, state in changes.items():
        versions[changed].state = state
        _date(versions[changed], state, now)
    if step is Move.RETIRE:
        versions[number].retired_at = now
    if versions.credential is not None:
        date(versions.credential, versions.values())


def _date(row: VersionRow, state: State, now: Millis) -> None:
    """Note when a state began, and when the upstream is asked about the key next."""
    if state is State.VERIFIED:
        row.verified_at = now
    elif state is State.ACTIVE:
        # The upstream was not asked about one that serves again for a while.
        row.next_probe_at, row.probes = now if row.activated_at else later(now, first_check_ms(row.credential_id)), 0
        row.activated_at = row.activated_at or now
    elif state is State.RETIRING:
        row.next_probe_at = None
    elif state is State.REVOKED:
        # At once: it may have been revoked upstream too, and then that can be confirmed.
        row.revoked_at, row.next_probe_at, row.probes = now, now, 0
    elif state is State.DESTROYED:
        destroy(row, now)


async def revoke_or_purge(session: AsyncSession, versions: Versions, number: int, *, now: Millis) -> None:
    """Take a version out of use for good.

    A key that was never verified is of no more use: it is destroyed at once.

    Raises:
        UnlawfulMove, NotFound: as :func:`apply_move`.
    """
    row = versions.get(number)
    if row is not None and row.state == State.STAGED:
        await purge(session, versions, number, now=now)
    else:
        apply_move(versions, number, Move.REVOKE, now)


async def purge(session: AsyncSession, versions: Versions, number: int, *, now: Millis) -> None:
    """Destroy a key that was never verified, and forget whose it is.

    It may be submitted again, wherever it belongs.

    Raises:
        UnlawfulMove, NotFound: as :func:`apply_move`.
    """
    apply_move(versions, number, Move.DESTROY, now)
    row = versions[number]
    await session.execute(
        delete(FingerprintRow).where(
            FingerprintRow.fingerprint == row.fingerprint, FingerprintRow.owner == row.organization_id
        )
    )


def destroy(row: VersionRow, now: Millis) -> None:
    """Destroy the key material.

    The row's goes with the commit.  What of it lies elsewhere goes right after it.
    """
    session = object_session(row)
    if session is not None:
        orphans.discard(session, row.sealed, now)
    row.destroyed_at, row.sealed, row.next_probe_at = now, None, None
