"""What browsers are asked for passkeys, and what their answers must hold (WebAuthn §7).

py_webauthn reads and verifies.  What it leaves to its caller is here: that the person was verified and not only there,
that the page was in no frame, whose account a passkey says that it is for, and what its counter tells.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import base64url_to_bytes, options_to_json_dict, parse_client_data_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from broker.base.errors import Unauthenticated
from broker.formats.ids import OperatorId
from broker.identity.challenges import LASTS_MS
from broker.identity.relying_party import RelyingParty

# What a browser answers, as its toJSON() has it.
Answer = Mapping[str, Any]

_ALGORITHMS = [
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
]
_ID_MOST = 1_023  # bytes of a credential's id (WebAuthn §4)
_KEY_MOST = 2_048


class PasskeyRefused(Unauthenticated):
    """The passkey is none of ours, was removed, or proves nothing.

    The answer is the same for all of them.
    """

    code = "passkey_refused"
    title = "This passkey is not accepted"

    def __init__(self) -> None:
        super().__init__(
            "This passkey is not accepted here. Choose another one, or unlock it with your PIN, finger or face. If you "
            "have none any more, ask an admin for a one-time link: `broker operator link NAME`."
        )


@dataclass(frozen=True, slots=True)
class Made:
    """A passkey that a browser has made: what is kept of it."""

    credential_id: bytes
    public_key: bytes
    sign_count: int
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Proved:
    """What a passkey's signature says."""

    sign_count: int
    backed_up: bool


@dataclass(frozen=True, slots=True)
class Known:
    """What is kept of a passkey, to verify it by."""

    account_id: OperatorId
    public_key: bytes
    sign_count: int


def asked(party: RelyingParty, challenge: bytes, allowed: Sequence[bytes] = ()) -> dict[str, Any]:
    """What a browser is asked to prove with a passkey, any or one of those ``allowed``."""
    options = generate_authentication_options(
        rp_id=party.id,
        challenge=challenge,
        timeout=LASTS_MS,
        allow_credentials=_described(allowed),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return options_to_json_dict(options)


def offered(
    party: RelyingParty, challenge: bytes, *, handle: bytes, name: str, vendor: str, has: Sequence[bytes]
) -> dict[str, Any]:
    """What a browser is asked to make: a passkey that names its account by itself.

    It is for a device that holds none of those that the account ``has``.
    """
    options = generate_registration_options(
        rp_id=party.id,
        rp_name=vendor,
        user_id=handle,
        user_name=name,
        challenge=challenge,
        timeout=LASTS_MS,
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=_described(has),
        supported_pub_key_algs=_ALGORITHMS,
    )
    return options_to_json_dict(options)


def _described(ids: Sequence[bytes]) -> list[PublicKeyCredentialDescriptor]:
    return [PublicKeyCredentialDescriptor(id=one) for one in ids]


def challenge_of(answer: Answer) -> bytes:
    """The challenge that an answer says that it answers; nothing of it is verified yet.

    Raises:
        PasskeyRefused: it can't be read, or the page was in another site's frame.
    """
    try:
        said = parse_client_data_json(base64url_to_bytes(answer["response"]["clientDataJSON"]))
    except Exception:  # noqa: BLE001 - whatever a stranger's bytes lead the reader to
        raise PasskeyRefused from None
    if said.cross_origin:
        raise PasskeyRefused
    return said.challenge


def credential_of(answer: Answer) -> bytes:
    """The id that an answer gives its passkey; raises PasskeyRefused if there is none."""
    try:
        found = base64url_to_bytes(answer["rawId"])
    except Exception:  # noqa: BLE001 - as above
        raise PasskeyRefused from None
    if not 0 < len(found) <= _ID_MOST:
        raise PasskeyRefused
    return found


def made(party: RelyingParty, answer: Answer, challenge: bytes) -> Made:
    """The passkey that a browser made; raises PasskeyRefused if it isn't as asked for."""
    try:
        verified = verify_registration_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            require_user_verification=True,
            supported_pub_key_algs=_ALGORITHMS,
        )
    except Exception:  # noqa: BLE001 - the library raises what its readers of CBOR, ASN.1 and keys raise
        raise PasskeyRefused from None
    if len(verified.credential_id) > _ID_MOST or len(verified.credential_public_key) > _KEY_MOST:
        raise PasskeyRefused
    return Made(
        verified.credential_id, verified.credential_public_key, verified.sign_count, verified.credential_backed_up
    )


def proved(party: RelyingParty, answer: Answer, challenge: bytes, known: Known, handle: bytes) -> Proved:
    """What a passkey proves about who holds it; its counter is for :func:`goes_on` to judge.

    ``handle`` is the user handle of the account that the passkey is of.

    Raises:
        PasskeyRefused: it proves nothing.
    """
    try:
        verified = verify_authentication_response(
            credential=dict(answer),
            expected_challenge=challenge,
            expected_rp_id=party.id,
            expected_origin=party.origin,
            credential_public_key=known.public_key,
            credential_current_sign_count=0,  # it would be compared before the signature, so anybody's would count
            require_user_verification=True,
        )
        named = base64url_to_bytes(answer["response"]["userHandle"])
    except Exception:  # noqa: BLE001 - as above
        raise PasskeyRefused from None
    if not hmac.compare_digest(named, handle):
        raise PasskeyRefused
    return Proved(verified.new_sign_count, verified.credential_backed_up)


def goes_on(before: int, after: int) -> bool:
    """Whether a counter is later than it was, or is none (§6.1.1).

    Passkeys that are synchronised don't count.
    """
    return after > before or before == after == 0
