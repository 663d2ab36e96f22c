"""What can be wrong with a Vault.

Every error of hvac, requests or an answer's form becomes one named cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import requests
from hvac import exceptions as refused

from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.connection import Redirected

T = TypeVar("T")

_TOLD: Final = {
    "unreachable": "Vault can't be reached.",
    "certificate": "Vault's certificate is not one that BROKER_VAULT_CA_FILE vouches for, or that file can't be read.",
    "redirected": "Vault sends calls on to another host: name that one in BROKER_VAULT_URL, or Vault's own authority "
    "in BROKER_VAULT_CA_FILE.",
    "slow": "Vault did not answer in time.",
    "busy": "Too many calls wait for Vault.",
    "sealed": "Vault is sealed.",
    "standby": "Vault has no active node just now.",
    "failing": "Vault answers with errors.",
    "permission": "Vault's policy does not let the broker do this.",
    "token": "Vault takes neither the broker's token nor its sign-in.",
    "not_set_up": "Vault has no such mount, namespace, key or role.",
}
# Causes that say nothing of the broker's rights: Vault is not there for anybody.
DOWN: Final = frozenset({"unreachable", "certificate", "redirected", "slow", "sealed", "standby", "failing"})

# What each error means, by the first that fits. Some are told apart only by their text.
_MEANINGS: Final[Sequence[tuple[type[Exception], Callable[[str], str]]]] = (
    (Redirected, lambda _: "redirected"),
    (requests.exceptions.SSLError, lambda _: "certificate"),
    (requests.Timeout, lambda _: "slow"),
    (requests.RequestException, lambda _: "unreachable"),
    (OSError, lambda _: "certificate"),  # how requests says that the authority's file is missing
    (refused.VaultDown, lambda text: "sealed" if "sealed" in text else "standby"),
    (refused.RateLimitExceeded, lambda _: "busy"),
    # A policy's refusal is one error within a list; a token that doesn't hold is refused before any policy.
    (refused.Forbidden, lambda text: "permission" if "1 error occurred" in text else "token"),
    (refused.InvalidRequest, lambda text: "token" if "/login" in text else "not_set_up"),
    (refused.InvalidPath, lambda _: "not_set_up"),
    (refused.VaultError, lambda text: "standby" if "standby" in text else "failing"),
    (Exception, lambda _: "failing"),  # an answer that is not Vault's
)
# What reading an answer of another form than Vault's raises, in hvac or in what asked.
_MISREAD = (LookupError, TypeError, ValueError, AttributeError)


def unavailable(cause: str) -> KeystoreUnavailable:
    """The one problem for a cause."""
    return KeystoreUnavailable(
        f"The keystore is not available: {_TOLD[cause]} Nothing was revealed or used; try again shortly.",
        cause=cause,
        retry_after=2,
    )


def translated(call: Callable[[], T]) -> T:
    """Return what ``call`` returns; it asks Vault and reads the answer.

    Raises:
        KeystoreUnavailable: for whatever was wrong, by its cause and without the error's own words. What ``call``
            itself raises as KeystoreUnavailable or CannotOpen passes.
    """
    try:
        return call()
    except (OSError, refused.VaultError, *_MISREAD) as error:
        cause = next(meaning(str(error)) for kind, meaning in _MEANINGS if isinstance(error, kind))
    raise unavailable(cause)
