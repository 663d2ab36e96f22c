"""A job without a key: its platform's token proves who it is.

The broker's trusts say what that is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from broker.base import variables
from broker.client.platform.source import Source
from broker.formats.assertion import ASSERTION_TYPE


class Addressed:
    """Who calls a broker, at an address that somebody named."""

    __slots__ = ()

    broker: str
    client_id: str
    moved_from: str

    @property
    def named_by(self) -> str:
        """Who names the broker's address: a sentence for errors."""
        return _named_by_file(self.moved_from)

    @property
    def audiences(self) -> frozenset[str]:
        """Whom a token is for that proves who this is."""
        return frozenset({self.broker, self.moved_from} - {""})

    @property
    def withheld(self) -> frozenset[str]:
        """Variables with which somebody else could prove to be this."""
        return frozenset()

    def proof(self) -> dict[str, str]:
        """What the token endpoint takes for who this is."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class KeylessIdentity(Addressed):
    """Who a job is, and where its platform has a token that says so.

    The token is for ``audience`` alone; left out, for the address that the job calls.  So what was sent to one address
    is worth nothing at another.  ``of_file`` is False where no identity file names the address.
    """

    broker: str
    client_id: str
    source: Source
    audience: str = ""
    moved_from: str = ""
    of_file: bool = True

    @property
    def named_by(self) -> str:
        """Who names the broker's address: a sentence for errors."""
        return _named_by_file(self.moved_from) if self.of_file else f"The address is {variables.URL}'s."

    @property
    def audiences(self) -> frozenset[str]:
        """Whom its tokens are for."""
        return frozenset({self.broker, self.moved_from, self.audience} - {""})

    @property
    def withheld(self) -> frozenset[str]:
        """What its source reads."""
        return self.source.withheld

    def proof(self) -> dict[str, str]:
        """What the token endpoint takes: the platform's token as it is now, and whose it is.

        Raises:
            CallFailed: the platform gives none.
        """
        token = self.source.token(self.audience or self.broker)
        return {
            "client_id": self.client_id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": token,
        }


def _named_by_file(moved_from: str) -> str:
    if moved_from:
        return f"The address is {variables.URL}'s; the identity file names {moved_from}."
    return f"The address is the identity file's; {variables.URL} names the one of a broker that moved."
