"""What commands about keystores can be told: names, and how long to wait."""

from __future__ import annotations

from enum import StrEnum

# Sealing a value and the transaction that stores it take less.
SETTLE_S = 60.0


class Name(StrEnum):
    """Keystores by name."""

    LOCAL = "local"
    TRANSIT = "vault-transit"
    KV = "vault-kv"


class Act(StrEnum):
    """What to do with a value in Vault that no row refers to."""

    DESTROY = "destroy"
    ATTACH = "attach"
