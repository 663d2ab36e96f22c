"""Jobs: register their public keys, end them.

The private key is made and stays on the job's side.  A keyless job has none.
"""

from __future__ import annotations

import math
from typing import Any

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, OKPKey, RSAKey
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.guards import raise_epoch
from broker.audit.record import record
from broker.base import validity
from broker.base.clock import Millis
from broker.base.errors import Conflict, Invalid, NotFound
from broker.base.validity import Validity
from broker.formats import ids, token
from broker.formats.ids import Reference
from broker.identity.tables import WorkloadRow

_MAX_KEYS = 5


class NoSuchWorkload(NotFound):
    """No job of that id or name is visible to this caller."""

    def __init__(self) -> None:
        super().__init__("There is no such workload for you; `broker workload list` shows those that are.")


async def create(
    session: AsyncSession,
    actor: Actor,
    *,
    name: str,
    jwks: dict[str, Any] | None,
    secret_hash_key: bytes | None,
    keyless: bool = False,
    now: Millis,
) -> tuple[WorkloadRow, str | None]:
    """Register a job: under public keys, with a development client secret, or without a key.

    There is a secret if ``secret_hash_key`` is given.  A ``keyless`` job proves itself by what its trusts say.

    Returns:
        The row, and the client secret if one was made: shown this once.

    Raises:
        Invalid: the key set is not usable, or the name has the form of an id. Conflict: the name is taken.
    """
    if [jwks is not None, secret_hash_key is not None, keyless].count(True) != 1:
        raise Invalid("jwks: register public keys, ask for a development client secret, or say keyless: one of these.")
    if ids.is_like_an_id(name):
        raise Invalid("name: has the form of an id; choose another.")
    taken = select(WorkloadRow.id).where(WorkloadRow.name == name, WorkloadRow.state == Validity.ACTIVE)
    if await session.scalar(taken):
        raise Conflict(f"name: a workload {name!r} exists already; choose another.")
    secret = token.new("kbc") if secret_hash_key is not None else None
    row = WorkloadRow(
        id=ids.new(ids.WorkloadId),
        name=name,
        jwks=public_key_set(jwks) if jwks is not None else {"keys": []},
        secret_hash=token.keyed_hash(secret_hash_key, secret) if secret_hash_key and secret else None,
        state=Validity.ACTIVE,
        created_at=now,
        created_by=actor.id,
        revoked_at=None,
    )
    session.add(row)
    await record(session, Event.about(row, "workload.created", actor, now, note=name))
    return row, secret


async def add_key(
    session: AsyncSession,
    actor: Actor,
    row: WorkloadRow,
    unverified_jwk: dict[str, Any],
    *,
    overlap_s: int,
    now: Millis,
) -> None:
    """Register another public key of a job.  Idempotent.

    The previous ones prove nothing once ``overlap_s`` seconds have passed.  If this key is the present one already, it
    ends none of them.

    Raises:
        Invalid: the key is not usable. RowAltered.
        Conflict: the job has ended, too many keys overlap, or the id is that of another key or of a previous one.
    """
    row.vouched_for()
    if row.state != Validity.ACTIVE:
        raise Conflict("This workload has ended; register a new one with `broker workload add`.")
    (fresh,) = public_key_set({"keys": [unverified_jwk]})["keys"]
    named = [key for key in row.jwks["keys"] if key["kid"] == fresh["kid"]]
    if named == [fresh]:
        return
    if named:
        raise Conflict("This workload has, or had, a key of that id; make a new key pair.")
    ends = now // 1000 + overlap_s
    kept = [{**key, "exp": min(ends, key.get("exp", ends))} for key in keys_at(row, now)["keys"]] if overlap_s else []
    if len(kept) >= _MAX_KEYS:
        raise Conflict(f"{_MAX_KEYS} keys of this workload overlap; wait until one has expired, or name no overlap.")
    row.jwks = {"keys": [*kept, fresh]}
    await record(session, Event.about(row, "workload.key_added", actor, now, note=fresh["kid"]))


async def rotate_own(
    session: AsyncSession, actor: Actor, reference: str, unverified_jwk: dict[str, Any], *, overlap_s: int, now: Millis
) -> WorkloadRow:
    """As :func:`add_key`, by the job itself (``actor``).

    Raises:
        NoSuchWorkload: ``reference`` is not its own. And as ``add_key``.
    """
    if reference not in {actor.id, actor.name}:
        raise NoSuchWorkload
    row = await session.get_one(WorkloadRow, actor.id, with_for_update=True)
    await add_key(session, actor, row, unverified_jwk, overlap_s=overlap_s, now=now)
    return row


def keys_at(row: WorkloadRow, now: Millis) -> dict[str, Any]:
    """The job's public keys that prove something at ``now``, a JWK Set."""
    return {"keys": [key for key in row.jwks["keys"] if key.get("exp", math.inf) * 1000 > now]}


def public_key_set(unverified: dict[str, Any]) -> dict[str, Any]:
    """The public halves of a JWK Set (RFC 7517), each with a ``kid``.

    Keys are Ed25519, P-256 or RSA (2048 bits or more).

    Raises:
        Invalid: names what to fix; also for a private key, which belongs on the job's side only.
    """
    keys = unverified.get("keys")
    if not isinstance(keys, list) or not 0 < len(keys) <= _MAX_KEYS:
        raise Invalid(f'jwks: needs "keys" with 1 to {_MAX_KEYS} public keys.')
    return {"keys": [_public_key(key, index) for index, key in enumerate(keys)]}


def _public_key(unverified: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - whatever JSON a caller sent
    refusal = Invalid(f"jwks.keys[{index}]: is not a JWK of an Ed25519, P-256 or RSA public key; send one.")
    if not isinstance(unverified, dict) or unverified.get("kty") not in {"OKP", "EC", "RSA"}:
        raise refusal
    try:
        key: Key = KeySet.import_key_set({"keys": [unverified]}).keys[0]
        private = key.is_private
    except (JoseError, ValueError, TypeError, KeyError, AttributeError):
        raise refusal from None
    if private:
        raise Invalid(
            f"jwks.keys[{index}]: holds a private key. Keep it on the job's side and register the public part."
        )
    strong = (
        (isinstance(key, OKPKey) and key.curve_name == "Ed25519")
        or (isinstance(key, ECKey) and key.curve_name == "P-256")
        or (isinstance(key, RSAKey) and key.public_key.key_size >= 2048)
    )
    if not strong:
        raise Invalid(f"jwks.keys[{index}]: use Ed25519 (EdDSA), P-256 (ES256) or RSA of at least 2048 bits (RS256).")
    key.ensure_kid()
    return {name: value for name, value in key.as_dict(private=False).items() if name != "exp"}  # ours to set


async def find(session: AsyncSession, reference: Reference) -> WorkloadRow:
    """The workload of that id or name.  What has the form of an id is never a name.

    Of several with one name it is the active one, else the last that ended.

    Raises:
        NoSuchWorkload: there is none.
    """
    column = WorkloadRow.id if ids.is_id(reference, ids.WorkloadId) else WorkloadRow.name
    newest = (WorkloadRow.state != Validity.ACTIVE, WorkloadRow.created_at.desc(), WorkloadRow.id.desc())
    row = await session.scalar(select(WorkloadRow).where(column == reference).order_by(*newest).limit(1))
    if row is None:
        raise NoSuchWorkload
    return row


async def revoke(session: AsyncSession, actor: Actor, reference: Reference, *, reason: str, now: Millis) -> WorkloadRow:
    """End a workload: it gets no token, lease or use from the commit on.  Idempotent."""
    row = await find(session, reference)
    if validity.revoke(row, now):
        await raise_epoch(session, row.id)
        await record(session, Event.about(row, "workload.revoked", actor, now, note=reason))
    return row
