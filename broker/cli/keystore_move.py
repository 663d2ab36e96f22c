"""A move between keystores, and its end.

The old master keys are destroyed once nothing can need them any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from broker import keystore_setup
from broker.app import Broker
from broker.cli.failing import fail
from broker.cli.keystore_names import Name
from broker.config import Settings
from broker.keystore.internal import INTERNAL_ROOT
from broker.keystore.keyring import name_of
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.local import MasterKeys
from broker.keystore.orphans import due, sweep
from broker.rewrap import Moved, held_by, note, used

Tell = Callable[[str], None]

_NAMED = 20


def refuse_if_stuck(done: Moved) -> None:
    """End the command if some values could not be moved; its text names them."""
    if not done.stuck:
        return
    named = "\n".join(f"  {one.where}: {one.why}" for one in done.stuck[:_NAMED])
    more = f"\n  and {len(done.stuck) - _NAMED} more" if len(done.stuck) > _NAMED else ""
    fail(
        f"{len(done.stuck)} values could not be moved; everything else is. Restore each, or ask the customer for a new "
        f"key, then run this again; no master key was destroyed.\n{named}{more}"
    )


async def open_local(broker: Broker, settings: Settings) -> None:
    """Make sure that there is a local keystore to move to.

    If it has no master key file, this makes the first one and ends the command.  Nothing is moved yet: running brokers
    need a copy of that file to open what is sealed there.
    """
    if Name.LOCAL in broker.keystores.stores:
        return
    path = settings.key_file()
    needed = {kek_id for kek_id in await held_by(broker.services.parts.db) if name_of(kek_id) == Name.LOCAL}
    if needed:
        fail(f"{path}: is missing, and values need its keys {sorted(needed)}; restore the file from your backup.")
    keystore_setup.local(settings, may_create=True)
    fail(
        f"local had no master key yet, so {path} was made; nothing is moved. Back it up apart from the database, give "
        "every broker a copy and restart it, then set BROKER_KEYSTORE=local on every broker, restart them again, and "
        "run this again."
    )


async def swept(broker: Broker) -> int:
    """Destroy every value in Vault that nothing refers to any more.

    Returns:
        How many could not be destroyed.
    """
    services = broker.services
    before = -1
    while (left := await due(services.parts.db, services.parts.clock())) not in {0, before}:
        before = left
        await sweep(services.parts.db, services.parts.keystore, services.parts.clock())
    return left


async def settled(broker: Broker, settle: float, keks: Callable[[str], bool], tell: Tell, fix: str) -> None:
    """End the command if a master key is still needed.

    Before it looks, it waits for what brokers had begun to store.

    Args:
        broker: a running one.
        settle: seconds to wait.
        keks: whether the master key of an id is to go.
        tell: says that it waits.
        fix: what to do if one of them is needed.
    """
    if settle:
        tell(f"Waiting {settle:g} seconds for what brokers began to store before.")
        await asyncio.sleep(settle)
    needed = {kek_id: count for kek_id, count in (await held_by(broker.services.parts.db)).items() if keks(kek_id)}
    if needed:
        which = ", ".join(f"{count} {kek_id!r}" for kek_id, count in sorted(needed.items()))
        fail(f"Sealed values still need master keys that were to go ({which}); none was destroyed. {fix}")


async def destroy_old_keys(broker: Broker, settings: Settings, to: Name, settle: float, tell: Tell) -> None:
    """Destroy the master keys of other keystores that this database needed.

    Old forms of values in backups can't be opened afterwards.
    """
    old = await used(broker.services.parts.db) - {to.value, INTERNAL_ROOT}
    files = Name.LOCAL in old and (settings.master_keys is not None or settings.key_file().exists())
    forms = Name.KV in old and await _kv_forms(broker)
    if to is not Name.LOCAL and not files and settings.key_file().exists():
        tell(
            f"{settings.key_file()} is left, as nothing tells that this database needed it: destroy it if nobody else "
            "does."
        )
    if not files and not forms:
        return
    await settled(
        broker,
        settle,
        lambda kek_id: name_of(kek_id) not in {to.value, INTERNAL_ROOT},
        tell,
        f"Some broker may still seal the old way: set BROKER_KEYSTORE={to} on every broker, restart each, and run this "
        "again.",
    )
    if forms:
        await _destroy_in_kv(broker, tell)
    if files:
        await _destroy_file(broker, settings, tell)


async def _kv_forms(broker: Broker) -> bool:
    """Whether there are master keys in KV; ends the command if that can't be seen."""
    kv_keys = broker.keystores.kv_keys
    if kv_keys is None:
        return False
    try:
        return await kv_keys.stored_forms() > 0
    except KeystoreUnavailable as problem:
        _not_destroyed(kv_keys.where, problem)


async def _destroy_in_kv(broker: Broker, tell: Tell) -> None:
    kv_keys = broker.keystores.kv_keys
    assert kv_keys is not None
    try:
        number = await kv_keys.end()
    except KeystoreUnavailable as problem:
        _not_destroyed(kv_keys.where, problem)
    await note(broker.services, "keystore.master_keys_destroyed", {Name.KV.value})
    tell(f"Destroyed the broker's master keys in Vault, {number} stored forms.")


def _not_destroyed(where: str, problem: KeystoreUnavailable) -> NoReturn:
    fail(
        f"Everything is moved, but the old master keys in Vault, at {where}, are not destroyed: {problem.public} Mend "
        f"that and run this again, or destroy them yourself:  bao kv metadata delete {where}"
    )


async def _destroy_file(broker: Broker, settings: Settings, tell: Tell) -> None:
    if settings.master_keys is not None:
        tell("Nothing needs BROKER_MASTER_KEYS any more: take it out of every broker's environment.")
        return
    path = settings.key_file()
    try:
        MasterKeys.destroy_file(path)
    except OSError as error:
        fail(
            f"Everything is moved, but {path} can't be destroyed from here ({error.strerror}): nothing needs it any "
            "more, so destroy it, and every copy of it, where it comes from."
        )
    await note(broker.services, "keystore.master_keys_destroyed", {Name.LOCAL.value})
    tell(f"Destroyed {path}. Destroy the copies that other machines and backups have.")
