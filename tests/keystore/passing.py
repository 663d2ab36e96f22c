"""Time that passes for what keeps the broker's token, and for nothing else: not for Vault, nor for the token there."""

from __future__ import annotations

from broker.keystore.vault.server import Vault


def time_passes(vault: Vault, seconds: float) -> None:
    """Move the clock of ``vault``'s token, and let its keeper see what is due now."""
    clock = vault.tokens.clock
    vault.tokens.clock = lambda: clock() + seconds
    vault.tokens.changed()
