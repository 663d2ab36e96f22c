"""What doesn't change between two calls under one lease on one snapshot.

It is found once.  Nothing here lets a call through: each is decided on its lease and snapshot, and its guards are
compared with what is stored.  A plan holds no opened key, and nothing that is made of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from broker.audit import quota
from broker.audit.events import Fields
from broker.audit.quota import Quota
from broker.base.recent import Recent
from broker.credentials.cooldown import cooldown_id
from broker.formats.ids import CredentialId, LeaseId
from broker.grants.policy import Grant, Mode
from broker.leases.lease import Lease
from broker.leases.leasing import Leasing
from broker.leases.snapshot import AccessSnapshot, SealedKey
from broker.providers.catalog import Catalog
from broker.providers.definition import Definition

PLANS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Way:
    """A key, still sealed, and where it goes.

    ``host`` and ``path`` are those of its ``base`` URL.
    """

    key: SealedKey
    base: str
    host: str
    path: str

    @classmethod
    def of(cls, key: SealedKey, definition: Definition) -> Way:
        """The way of this key; raises Invalid if a part of its host is none."""
        base = definition.url(key.variables)
        parts = urlsplit(base)
        return cls(key, base, parts.hostname or "", parts.path)


@dataclass(frozen=True, slots=True)
class Plan:
    """One lease on one snapshot.

    ``usual`` is the way of the key that uses take, ``fallback`` the previous one's, if a rotation's grace window still
    holds it.  A use takes one of each of ``quotas``; ``taken`` is the number of uses among them, "" if the grant has
    none.  ``retries`` says whether grant and provider let a call be tried again.  ``fields`` are those of every event
    about such a use.
    """

    lease: Lease
    snapshot: AccessSnapshot
    definition: Definition
    grant: Grant
    usual: Way
    fallback: Way | None
    guards: dict[str, int]
    quotas: tuple[Quota, ...]
    taken: str
    retries: bool
    fields: Fields


class Plans:
    """The plans of the leases that were used last.

    Each is used for as long as its lease and snapshot are those that calls are decided on, and dropped with them.
    """

    def __init__(self, catalog: Catalog, leasing: Leasing) -> None:
        self._catalog, self._leasing = catalog, leasing
        self.kept = Recent[LeaseId, Plan](PLANS_MAX)

    def of(self, lease: Lease, snapshot: AccessSnapshot) -> Plan:
        """The plan of calls that are decided on these two."""
        definition = self._catalog.get(lease.provider)
        kept = self.kept.get(lease.id)
        if kept is not None and kept.snapshot is snapshot and kept.lease is lease and kept.definition is definition:
            return kept
        self.kept.pop(lease.id)
        made = self._made(lease, snapshot, definition)
        self.kept[lease.id] = made
        return made

    def _made(self, lease: Lease, snapshot: AccessSnapshot, definition: Definition) -> Plan:
        grant, key, fallback = snapshot.grant(lease.grant_id), snapshot.key, snapshot.keys.fallback
        assert grant is not None
        assert key is not None
        return Plan(
            lease,
            snapshot,
            definition,
            grant,
            Way.of(key, definition),
            Way.of(fallback, definition) if fallback is not None else None,
            self._leasing.guards_of(lease, snapshot),
            tuple(quotas_of(grant, key.credential, definition)),
            _uses_of(grant),
            grant.retries and definition.retry.retries,
            {**lease.event_fields(), "mode": Mode.USE},
        )


def quotas_of(grant: Grant, credential: CredentialId, definition: Definition) -> list[Quota]:
    """What a use takes from: the upstream's patience, and the grant's rate and number of uses."""
    quotas: list[Quota] = [quota.Cooldown(cooldown_id(credential), definition.retry.cap_seconds * 1000)]
    if grant.rate is not None:
        quotas.append(quota.Rate(f"{grant.id}/rate", grant.rate.uses, grant.rate.seconds * 1000))
    if grant.max_uses is not None:
        quotas.append(quota.Total(_uses_of(grant), grant.max_uses))
    return quotas


def _uses_of(grant: Grant) -> str:
    """The id of the grant's number of uses; "" if it has none."""
    return f"{grant.id}/uses" if grant.max_uses is not None else ""
