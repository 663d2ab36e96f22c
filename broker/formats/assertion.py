"""What a job signs to prove who it is: a JWT (RFC 7519) that the token endpoint takes once.

::

    header     {"typ": "client-authentication+jwt", "alg": …, "kid": …}
    claims     {"iss": ID, "sub": ID, "aud": BROKER, "iat": now - 60, "nbf": now - 60, "exp": now + 60, "jti": …}
    assertion  base64url(header) "." base64url(claims) "." base64url(signature of all before this point)

Its form is RFC 7523 §2.2's, as RFC 7523bis has it.  ``alg`` and ``kid`` are the key's in the identity file
(:mod:`broker.formats.identity_file`); ID and BROKER are its ``client_id`` and ``broker``.
"""

from __future__ import annotations

from typing import Any, Final

# The value of client_assertion_type, beside which an assertion is sent.
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# It holds for so long before and after now: the broker's clock may be that far off the signer's.
SPAN_S: Final = 60


def header(algorithm: str, key_id: str) -> dict[str, str]:
    """The header of an assertion under that key."""
    return {"typ": "client-authentication+jwt", "alg": algorithm, "kid": key_id}


def claims(client_id: str, broker: str, *, now: int, jti: str) -> dict[str, Any]:
    """What an assertion says.

    Args:
        client_id: who signs.
        broker: the address that it is sent to, and no other: nobody else can use it there.
        now: seconds since the epoch.
        jti: at least 128 random bits, never used again.
    """
    return {
        "iss": client_id,
        "sub": client_id,
        "aud": broker,
        "iat": now - SPAN_S,
        "nbf": now - SPAN_S,
        "exp": now + SPAN_S,
        "jti": jti,
    }
