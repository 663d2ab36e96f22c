"""Master keys held by the broker itself, by id.

They come from a file that is closed to others, or from the environment.

The file is TOML::

    active = "2026-11"

    [keys]
    2026-11 = "<base64 of 32 random bytes>"
    2025-10 = "<an older key, kept until `broker keystore rewrap` has moved everything off it>"

The same in one environment value: ``2026-11:<base64>,2025-10:<base64>`` with the active key first.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from broker.base import closed
from broker.base.secret import Secret
from broker.formats.envelope import NONCE_BYTES, Binding
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable

_log = structlog.get_logger()

_SHOWN_MAX = 32  # a key is 44 characters of base64
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class MasterKeysUnusable(Exception):
    """The declared master keys can't be used; the text names the place and the fix, never a key."""


class MasterKeys:
    """Master keys by id, one of them active."""

    def __init__(self, keys: Mapping[str, Secret], active: str) -> None:
        self.keys = dict(keys)
        self.active = active

    @classmethod
    def from_text(cls, text: str, where: str) -> MasterKeys:
        """Keys from ``id:base64,id:base64``, the active one first.

        ``where`` names the setting in errors.
        """
        pairs = [part.partition(":") for part in text.split(",") if part.strip()]
        keys = [(name.strip(), _key(value.strip(), f"{where}: key {_shown(name.strip())}")) for name, _, value in pairs]
        if not keys:
            raise MasterKeysUnusable(f"{where}: holds no key; write id:base64 pairs, the active one first")
        return cls(_checked(keys, where), keys[0][0])

    @classmethod
    def from_file(cls, path: Path) -> MasterKeys:
        """Keys from a TOML file.

        Raises:
            MasterKeysUnusable: missing, readable by others, or malformed.
        """
        try:
            data = closed.read(path)
        except OSError as error:
            raise MasterKeysUnusable(f"{path}: {error.strerror}; restore the file from your backup") from None
        except closed.OpenToOthers as error:
            raise MasterKeysUnusable(str(error)) from None
        try:
            document = tomllib.loads(data.decode())
        except ValueError:  # not UTF-8, or not TOML
            document = {}
        return cls.from_document(document, str(path))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> MasterKeys:
        """Keys from a document of the file's form; ``where`` names its place in errors."""
        form = MasterKeysUnusable(f'{where}: needs active = "ID" and a [keys] table of ID = "base64"')
        table, active = document.get("keys"), document.get("active")
        if not isinstance(table, dict) or not isinstance(active, str):
            raise form
        if not all(isinstance(value, str) for value in table.values()):
            raise form
        named = [(name, _key(value, f"{where}: keys.{_shown(name, bare=True)}")) for name, value in table.items()]
        keys = _checked(named, where)
        if active not in keys:
            raise MasterKeysUnusable(f"{where}: active names {_shown(active)}, which is not in [keys]")
        return cls(keys, active)

    def document(self) -> dict[str, Any]:
        """The keys in the form that :meth:`from_document` reads."""
        return {
            "active": self.active,
            "keys": {name: base64.b64encode(key.reveal()).decode() for name, key in self.keys.items()},
        }

    def write_file(self, path: Path) -> None:
        """Store the keys at ``path``, mode 0600, replacing the file in one step."""
        lines = [f'active = "{self.active}"', "", "[keys]"]
        lines += [f'"{name}" = "{key}"' for name, key in self.document()["keys"].items()]
        closed.replace(path, ("\n".join(lines) + "\n").encode())

    @staticmethod
    def destroy_file(path: Path) -> None:
        """Overwrite a key file and remove it.

        A file system that copies on write may keep the old blocks.
        """
        with path.open("r+b") as file:
            file.write(b"\0" * path.stat().st_size)
            file.flush()
            os.fsync(file.fileno())
        path.unlink()

    def with_new_key(self) -> MasterKeys:
        """These keys and a fresh active one, named by the present time."""
        name = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%S.%f")
        return MasterKeys({name: Secret(secrets.token_bytes(32)), **self.keys}, name)

    def without(self, kek_id: str) -> MasterKeys:
        """These keys without one that is not active."""
        if kek_id == self.active or kek_id not in self.keys:
            raise MasterKeysUnusable(f"{kek_id!r} is not an inactive key here; inactive: {self.inactive()}")
        return MasterKeys({name: key for name, key in self.keys.items() if name != kek_id}, self.active)

    def inactive(self) -> list[str]:
        """Ids of keys that nothing new is wrapped with."""
        return [name for name in self.keys if name != self.active]


def _shown(name: str, *, bare: bool = False) -> str:
    """A key's id for a message.

    It isn't shown if it is so long that it could be a key, put where the id belongs.
    """
    if len(name) > _SHOWN_MAX:
        return "(an id as long as a key: not shown)"
    return name if bare else repr(name)


def _key(value: object, where: str) -> Secret:
    try:
        key = base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except ValueError:
        key = b""
    if len(key) != 32:
        raise MasterKeysUnusable(f"{where}: must be base64 of 32 random bytes; make one with: openssl rand -base64 32")
    return Secret(key)


def _checked(keys: Sequence[tuple[str, Secret]], where: str) -> dict[str, Secret]:
    for name, _ in keys:
        if not _KEY_ID.fullmatch(name):
            raise MasterKeysUnusable(
                f"{where}: a key id is 1 to 64 letters, digits, dots or dashes, not {_shown(name)}"
            )
    found = dict(keys)
    if len(found) != len(keys):
        raise MasterKeysUnusable(f"{where}: two keys have the same id; give each its own")
    return found


class LocalKeyWrapper:
    """Wraps data keys with AES-256-GCM under local master keys.

    ``path`` is read again if a key id is unknown or the file has changed.  So a key that ``broker keystore rotate``
    added reaches running brokers without a restart.
    """

    def __init__(self, keys: MasterKeys, path: Path | None = None) -> None:
        self._keys = keys
        self._ciphers: dict[str, AESGCM] = {}  # of these keys, as they are asked for
        self._path = path
        # Of no version yet, so that the first use meets a change between reading the keys and now.
        self._stamp: tuple[int, int] | None = None

    @property
    def active(self) -> str:
        """The id of the key that new data keys are wrapped with."""
        self._reload()
        return self._keys.active

    def holds(self, kek_id: str) -> bool:
        """Whether a key of that id is loaded."""
        return kek_id in self._keys.keys

    async def newest(self) -> str:
        return self.active

    async def wrap(self, data_key: bytes, binding: Binding) -> tuple[str, bytes]:
        """Wrap a data key; refuses if the file is gone.

        What is sealed by a key that only this process still has would be lost with it.
        """
        if self._path is not None and _stamp(self._path) is None:
            raise KeystoreUnavailable(
                f"The master key file {self._path.name} is gone, so nothing new is sealed; an operator must restore "
                "it, or set BROKER_KEYSTORE to where everything was moved."
            )
        kek_id, nonce = self.active, os.urandom(NONCE_BYTES)
        kek = AESGCM(self._keys.keys[kek_id].reveal())
        return kek_id, nonce + kek.encrypt(nonce, data_key, _wrap_data(kek_id, binding))

    async def unwrap(self, kek_id: str, wrapped: bytes, binding: Binding) -> bytes:
        if kek_id not in self._keys.keys:
            self._reload()
        if kek_id not in self._keys.keys:
            raise KeystoreUnavailable(
                "The master key that sealed this value is not loaded; an operator must restore it."
            )
        kek = self._ciphers.get(kek_id)
        if kek is None:
            kek = self._ciphers[kek_id] = AESGCM(self._keys.keys[kek_id].reveal())
        try:
            return kek.decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _wrap_data(kek_id, binding))
        except (InvalidTag, ValueError):
            raise CannotOpen("a wrapped data key does not belong here") from None

    def _reload(self) -> None:
        stamp = _stamp(self._path)
        if self._path is None or stamp is None or stamp == self._stamp:
            return
        try:
            self._keys, self._ciphers = MasterKeys.from_file(self._path), {}
        except MasterKeysUnusable as error:  # the loaded keys still work; the text holds no key
            _log.error("keystore.file_unusable", error=str(error))
        self._stamp = stamp


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """What changes when the file is replaced.

    None if there is no file, so that loaded keys stay in use.
    """
    try:
        status = path.stat() if path else None
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_ino) if status else None


def _wrap_data(kek_id: str, binding: Binding) -> bytes:
    return b"wrap\0" + kek_id.encode() + b"\0" + binding.associated_data()
