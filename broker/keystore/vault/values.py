"""Values in KV v2 under one mount and prefix: read, put with check-and-set, described, destroyed by their number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import hvac
from hvac import exceptions as refused

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.server import Vault

# KV forgets the oldest version beyond this many; a credential's versions are people's rotations.
_VERSIONS = 10_000
_PROBE = ("organizations", "probe", "probe", "probe")
_NEEDED = {"data": {"create", "update", "read"}, "metadata": {"create", "update", "read"}, "destroy": {"update"}}


@dataclass(frozen=True, slots=True)
class Numbers:
    """KV's numbers of the values at a path: the newest there was (0: none), those it knows, and the destroyed ones."""

    newest: int = 0
    known: frozenset[int] = frozenset()
    destroyed: frozenset[int] = frozenset()


class Values:
    """The values under one mount and prefix."""

    def __init__(self, vault: Vault, mount: str, prefix: str) -> None:
        self._vault = vault
        self.mount = mount
        self.prefix = prefix

    def path(self, *parts: str) -> str:
        """Where something of that name is kept."""
        return "/".join((self.prefix, *parts))

    async def newest(self, path: str) -> int:
        """KV's number of the last value put there; 0 where there was none."""

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
            destroyed = frozenset(number for number, about in versions.items() if about["destroyed"])
            return Numbers(int(found["current_version"]), frozenset(versions), destroyed)

        return await self._vault.call(work)

    async def put(self, path: str, value: Mapping[str, str], after: int) -> bool:
        """Put a value there as number ``after + 1``; False where somebody else put one meanwhile."""

        def work(client: hvac.Client) -> bool:
            try:
                client.secrets.kv.v2.create_or_update_secret(
                    path, secret=dict(value), cas=after, mount_point=self.mount
                )
            except refused.InvalidRequest as error:
                if "check-and-set" in str(error):
                    return False
                raise
            return True

        return await self._vault.call(work)

    async def describe(self, path: str, about: Mapping[str, str]) -> None:
        """Set what people who browse Vault are told, and that every write checks and sets."""

        def work(client: hvac.Client) -> None:
            client.secrets.kv.v2.update_metadata(
                path,
                cas_required=True,
                max_versions=_VERSIONS,
                custom_metadata=dict(about),
                mount_point=self.mount,
            )

        await self._vault.call(work)

    async def get(self, path: str, number: int | None = None) -> dict[str, Any] | None:
        """The value of that number, or the newest; None where it is gone, or deleted so that people can restore it."""

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
        """That the mount is there, and the broker may put, read and destroy values; raises KeystoreUnavailable."""
        path = self.path(*_PROBE)
        needed = {f"{self.mount}/{part}/{path}": rights for part, rights in _NEEDED.items()}

        def work(client: hvac.Client) -> dict[str, list[str]]:
            return dict(client.sys.get_capabilities(list(needed))["data"])

        held = await self._vault.call(work)
        if not all("root" in held[where] or rights <= set(held[where]) for where, rights in needed.items()):
            raise KeystoreUnavailable("Vault's policy does not let the broker keep keys.", cause="permission")
        await self.numbers(path)


def _refuse_if_no_mount(error: refused.InvalidPath) -> None:
    """Vault answers 404 in no words where a mount has no such value; where there is no such mount, it says so."""
    if error.errors:
        raise error
