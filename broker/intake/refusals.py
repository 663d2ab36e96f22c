"""What the holder of a one-time link is told if the link takes no key.

Only :class:`LinkInvalid` is told to strangers.  The others say something about a link, so the caller has to have
proved first that they hold it.
"""

from __future__ import annotations

from broker.base.errors import Conflict, Gone, NotFound


class LinkInvalid(NotFound):
    """The link is unknown or its secret wrong: one answer, which tells a stranger nothing."""

    code = "link_invalid"

    def __init__(self) -> None:
        super().__init__("This link does not work. Open the whole link as it was sent to you, or ask for a new one.")


class LinkSpent(Conflict):
    """A key was submitted over this link before."""

    code = "intake_spent"

    def __init__(self) -> None:
        super().__init__(
            "A key was submitted over this link before. To send another one, ask the vendor for a new link."
        )


class LinkExpired(Gone):
    """The link has expired."""

    code = "intake_expired"

    def __init__(self) -> None:
        super().__init__("This link has expired. Ask the vendor for a new one.")


class LinkCancelled(Gone):
    """The vendor took the request back."""

    code = "intake_cancelled"

    def __init__(self) -> None:
        super().__init__("This request was cancelled. Nothing needs to be done; the vendor can send a new link.")


class KeyGiven(Conflict):
    """The first key that the link asks for came over another link, or from an operator."""

    code = "key_given"

    def __init__(self) -> None:
        super().__init__("A key was already given; nothing to do.")
