"""The one base of every error that a caller may see.

What a caller reads is written here on purpose.  A ``public`` text names the fix and never holds internal detail.  So
the edge can render any :class:`BrokerError` as RFC 9457 problem+json without looking inside.
"""

from __future__ import annotations

from typing import Any, ClassVar


class BrokerError(Exception):
    """A refusal: a stable ``code``, an HTTP ``status`` and a text that says what to fix."""

    status: ClassVar[int] = 400
    code: ClassVar[str] = "bad_request"
    title: ClassVar[str] = "The request can't be carried out"

    def __init__(self, public: str, **members: Any) -> None:
        super().__init__(public)
        self.public = public
        self.members = members


class Invalid(BrokerError):
    """The request is well-formed HTTP but a field is wrong."""

    status = 422
    code = "invalid"
    title = "A field is not valid"


class Unauthenticated(BrokerError):
    """No caller could be established.

    ``challenge`` is the answer's ``WWW-Authenticate`` (RFC 6750 §3).
    """

    status = 401
    code = "unauthenticated"
    title = "Authentication needed"
    challenge: ClassVar[str] = "Bearer"


class InvalidToken(Unauthenticated):
    """A token came along that is malformed, unknown, revoked or expired (RFC 6750 §3.1)."""

    challenge = 'Bearer error="invalid_token"'


class Forbidden(BrokerError):
    """The caller is known and may not do this."""

    status = 403
    code = "forbidden"
    title = "Not allowed"


class NotFound(BrokerError):
    """Nothing of that name is visible to this caller.

    The answer is the same for "exists elsewhere" and "exists nowhere".
    """

    status = 404
    code = "not_found"
    title = "Not found"


class Conflict(BrokerError):
    """The request contradicts the present state."""

    status = 409
    code = "conflict"
    title = "Contradicts the present state"


class Gone(BrokerError):
    """It was here and has ended."""

    status = 410
    code = "gone"
    title = "No longer available"


class TooLarge(BrokerError):
    """The body is over the cap."""

    status = 413
    code = "too_large"
    title = "The body is too large"


class TooMany(BrokerError):
    """A rate limit was met; ``retry_after`` is in seconds."""

    status = 429
    code = "too_many_requests"
    title = "Too many requests"


class Unavailable(BrokerError):
    """A part that the answer needs is down; nothing was revealed or used."""

    status = 503
    code = "unavailable"
    title = "Not available just now"
