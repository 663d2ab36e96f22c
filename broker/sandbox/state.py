"""The sandbox's data, in memory: organizations, their keys (digests only) and what they own."""

from __future__ import annotations

import hashlib
import itertools
import secrets
import string
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.sandbox.faults import Faults

__all__ = ["PREFIXES", "READ_ONLY", "Faults", "Key", "Organization", "State"]

_ALPHABET = string.ascii_letters + string.digits
READ_ONLY = ("facilities", "control-centers", "cyber-systems")
PREFIXES = {"facilities": "fac", "control-centers": "cc", "cyber-systems": "cs", "cyber-assets": "ca"}
_NAMES = {
    "facilities": ("Riverside Substation", "North Ridge Solar", "Harbor Switchyard"),
    "control-centers": ("Primary Control Center", "Backup Control Center"),
    "cyber-systems": ("EMS", "Protection Relays"),
    "cyber-assets": ("RTU 1", "Firewall A"),
}


@dataclass(slots=True)
class Organization:
    """One tenant and what it owns, by kind and id."""

    id: str
    name: str
    owned: dict[str, dict[str, dict[str, Any]]]


@dataclass(slots=True)
class Key:
    """An API key: never its text."""

    id: str
    organization: Organization
    name: str = ""
    last4: str = ""
    state: str = "active"
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))


class State:
    """Everything that the sandbox knows."""

    def __init__(self) -> None:
        self.organizations: dict[str, Organization] = {}
        self.keys: dict[str, Key] = {}
        self._by_digest: dict[bytes, Key] = {}
        self.faults = Faults()
        self.refuse_new_keys = False
        self.requests: deque[dict[str, Any]] = deque(maxlen=1_000)
        self._count = itertools.count(1)

    def new_id(self, prefix: str) -> str:
        """A fresh id such as ``fac_01hq…``."""
        return f"{prefix}_{next(self._count):04d}{secrets.token_hex(6)}"

    def add_organization(self, name: str, facilities: int = 3) -> Organization:
        """Add a tenant with some of everything."""
        owned: dict[str, dict[str, dict[str, Any]]] = {}
        for kind, names in _NAMES.items():
            count = facilities if kind == "facilities" else len(names)
            items = [{"id": self.new_id(PREFIXES[kind]), "name": names[i % len(names)]} for i in range(count)]
            owned[kind] = {item["id"]: item for item in items}
        organization = Organization(self.new_id("org"), name, owned)
        self.organizations[organization.id] = organization
        return organization

    def organization_named(self, name: str) -> Organization:
        """The tenant of that name, in whatever case; it is added if there is none."""
        found = (one for one in self.organizations.values() if one.name.casefold() == name.casefold())
        return next(found, None) or self.add_organization(name)

    def add_key(self, organization: Organization, name: str = "") -> tuple[Key, str]:
        """Add a key; returns it and its text, which is shown this once.  Older keys stay valid."""
        text = "rc_live_" + "".join(secrets.choice(_ALPHABET) for _ in range(64))
        key = Key(self.new_id("key"), organization, name, text[-4:])
        self.keys[key.id] = key
        self._by_digest[_digest(text)] = key
        return key, text

    def key_of(self, text: str) -> Key | None:
        """The key with that text, whatever its state."""
        return self._by_digest.get(_digest(text))

    def document(self) -> dict[str, Any]:
        """What outlives the process, as JSON: tenants, what they own, and their keys' digests."""
        return {
            "organizations": [
                {"id": one.id, "name": one.name, "owned": one.owned} for one in self.organizations.values()
            ],
            "keys": [
                {
                    "id": key.id,
                    "organization": key.organization.id,
                    "name": key.name,
                    "last4": key.last4,
                    "state": key.state,
                    "sha256": digest.hex(),
                }
                for digest, key in self._by_digest.items()
            ],
        }

    @classmethod
    def restored(cls, document: Mapping[str, Any]) -> State:
        """The state that :meth:`document` described.

        Raises:
            LookupError, TypeError or ValueError: it is no such document.
        """
        state = cls()
        for one in document["organizations"]:
            state.organizations[one["id"]] = Organization(one["id"], one["name"], one["owned"])
        for one in document["keys"]:
            organization = state.organizations[one["organization"]]
            key = Key(one["id"], organization, one["name"], one["last4"], one["state"])
            state.keys[key.id] = key
            state._by_digest[bytes.fromhex(one["sha256"])] = key
        owned = (items for one in state.organizations.values() for items in one.owned.values())
        state._count = itertools.count(1 + len(state.organizations) + len(state.keys) + sum(map(len, owned)))
        return state


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
