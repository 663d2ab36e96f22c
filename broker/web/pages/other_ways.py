"""Ways to sign in other than a passkey, each a button of the sign-in page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from broker.web.services import Services


@dataclass(frozen=True, slots=True)
class OtherWay:
    """A button: what stands on it, and the path that it leads to."""

    title: str
    path: str


def other_ways(_wired: Services, to: str, *, again: bool) -> Sequence[OtherWay]:
    """The ways there are, each back to the path ``to`` in the end.

    With ``again`` they are for somebody who is signed in, and proves that it is they.
    """
    del to, again
    return ()
