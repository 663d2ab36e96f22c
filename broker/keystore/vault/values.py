"""Values in KV v2 under one mount and prefix.

They are read, put with check-and-set, described, and destroyed by their number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hvac
from hvac import exceptions as refused

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.server import Vault

# KV forgets the oldest version beyond this many. A credential's versions are people's rotations: they are fewer.
_VERSIONS = 10_000
# Whether the mount keeps values is tried again after so long, sooner if it doesn't.
_KEPT_S = 600.0
_AGAIN_S = 5.0
_PROBE = ("organizations", "probe", "probe", "probe")
_NEEDED = {"data": {"create", "update", "read"}, "metadata": {"create", "update", "read"}, "destroy": {"update"}}


@dataclass(frozen=True, slots=True)
class Numbers:
    """KV's numbers of the values at a path.

    There are the newest that there was (0: none), those that KV knows, and the destroyed ones.
    """

    newest: int = 0
    known: frozenset[int] = frozenset()
    destroyed: frozenset[int] = frozenset()
    # The numbers of values that were deleted, or will be: KV says when.
    timed: frozenset[int] = frozenset()

    @property
    def standing(self) -> int:
        """The newest that is not destroyed; 0 if there is none."""
        return max(self.known - self.destroyed, default=0)


class Values:
    """The values under one mount and prefix."""

    def __init__(self, vault: Vault, mount: str, prefix: str) -> None:
        self._vault = vault
        # What the last value that was put there showed, and when that is tried again.
        self._forgets, self._look_at = False, -math.inf
        self.mount = mount
        self.prefix = prefix

    def path(self, *parts: str) -> str:
        """Where something of that name is kept."""
        return "/".join((self.prefix, *parts))

    async def newest(self, path: str) -> int:
        """KV's number of the last value that was put there; 0 if there was none."""

        return (await self.numbers(path)).newest

    async def numbers(self, path: str) -> Numbers:
        """KV's numbers of the values there."""

        def work(client: hvac.Client) -> Numbers:
            try:
                found = client.secrets.kv.v2.read_secret_metadata(path, mount_point=self.mount)["data"]
            except refused.InvalidPath as error:
                _refuse_if_no_mount(error)
                return Numbers()
            versions = {int(number): about for number, about in (found["versions"] or {}).items()}
            destroyed, timed = (
                frozenset(number for number, about in versions.items() if about[said])
                for said in ("destroyed", "deletion_time")
            )
            return Numbers(int(found["current_version"]), frozenset(versions), destroyed, timed)

        return await self._vault.call(work)

    async def described(self, path: str) -> dict[str, str]:
        """What people who browse Vault are told of a path (:meth:`describe`)."""

        def work(client: hvac.Client) -> dict[str, str]:
            found = client.secrets.kv.v2.read_secret_metadata(path, mount_point=self.mount)["data"]
            return dict(found["custom_metadata"] or {})

        return await self._vault.call(work)

    async def below(self, path: str) -> list[str]:
        """Every path with values below this one.

        That needs the right to list, which a broker has not.
        """

        def work(client: hvac.Client) -> list[str]:
            try:
                return list(client.secrets.kv.v2.list_secrets(path, mount_point=self.mount)["data"]["keys"])
            except refused.InvalidPath as error:
                _refuse_if_no_mount(error)
                return []

        found: list[str] = []
        for name in await self._vault.call(work):
            inner = f"{path}/{name.rstrip('/')}"
            found += await self.below(inner) if name.endswith("/") else [inner]
        return found

    async def put(self, path: str, value: Mapping[str, str], after: int) -> bool:
        """Put a value there as number ``after + 1``; False if somebody else put one meanwhile.

        Raises:
            KeystoreUnavailable: also if KV would delete it after a time; it is destroyed then.
        """

        def work(client: hvac.Client) -> bool | None:
            try:
                put = client.secrets.kv.v2.create_or_update_secret(
                    path, secret=dict(value), cas=after, mount_point=self.mount
                )
            except refused.InvalidRequest as error:
                if "check-and-set" in str(error):
                    return False
                raise
            if put["data"]["deletion_time"]:
                client.secrets.kv.v2.destroy_secret_versions(path, versions=[after + 1], mount_point=self.mount)
                return None
            return True

        done = await self._vault.call(work)
        self._forgets = done is None
        self._look_at = time.monotonic() + (_AGAIN_S if self._forgets else _KEPT_S)
        if done is None:
            raise forgets("what is put there")
        return done

    async def describe(self, path: str, about: Mapping[str, str]) -> None:
        """Set what people who browse Vault are told, and that every write checks and sets."""

        def work(client: hvac.Client) -> None:
            client.secrets.kv.v2.update_metadata(
                path,
                cas_required=True,
                max_versions=str(_VERSIONS),  # a text, as Vault's policies compare no numbers
                custom_metadata=dict(about),
                mount_point=self.mount,
            )

        await self._vault.call(work)

    async def get(self, path: str, number: int | None = None) -> dict[str, Any] | None:
        """The value of that number, or the newest.

        None if it is gone, or deleted so that people can restore it.
        """

        def work(client: hvac.Client) -> dict[str, Any] | None:
            try:
                found = client.secrets.kv.v2.read_secret_version(
                    path, version=number, mount_point=self.mount, raise_on_deleted_version=True
                )
            except refused.InvalidPath as error:
                _refuse_if_no_mount(error)
                return None
            return dict(found["data"]["data"])

        return await self._vault.call(work)

    async def destroy(self, path: str, number: int) -> None:
        """Destroy one value for good."""

        def work(client: hvac.Client) -> None:
            client.secrets.kv.v2.destroy_secret_versions(path, versions=[number], mount_point=self.mount)

        await self._vault.call(work)

    async def check(self) -> None:
        """Check that the mount is there and keeps values.

        The broker has to be able to put, read and destroy them.

        Raises:
            KeystoreUnavailable: named by its cause.
        """
        path = self.path(*_PROBE)
        needed = {f"{self.mount}/{part}/{path}": rights for part, rights in _NEEDED.items()}

        def work(client: hvac.Client) -> dict[str, list[str]]:
            return dict(client.sys.get_capabilities(list(needed))["data"])

        held = await self._vault.call(work)
        if not all("root" in held[where] or rights <= set(held[where]) for where, rights in needed.items()):
            raise KeystoreUnavailable("Vault's policy does not let the broker keep keys.", cause="permission")
        there = await self.numbers(path)
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _AGAIN_S  # however many ask, one tries
            if await self.put(path, {"kept_by": "keybroker"}, there.newest):
                await self.destroy(path, there.newest + 1)
        if self._forgets:
            raise forgets("what is put there")


def forgets(what: str) -> KeystoreUnavailable:
    """The problem that a mount, or a path, deletes values by itself."""
    return KeystoreUnavailable(
        f"Vault deletes {what} after a time, so no key is kept there; an operator must set delete_version_after of the "
        "KV mount, and of the path, to 0s.",
        cause="deletes",
    )


def _refuse_if_no_mount(error: refused.InvalidPath) -> None:
    """Refuse if there is no such mount.

    If a mount has no such value, Vault answers 404 without words.  If there is no such mount, it says so.
    """
    if error.errors:
        raise error
