"""The token endpoint: OAuth 2.0 ``client_credentials`` with ``private_key_jwt``.

See RFC 6749 §4.4 and RFC 7523.  A platform's token does as well (:mod:`broker.identity.federation`).  authlib checks
the request.  This module gives it beforehand what it needs (its hooks are synchronous, our database is not).  It
commits the assertion's ``jti`` together with the event before the token leaves.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authlib.oauth2.rfc6749 import AuthorizationServer, InvalidClientError, OAuth2Error, OAuth2Request
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc7523 import JWTBearerClientAssertion
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, OKPKey
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event
from broker.audit.record import record
from broker.base.clock import of_seconds, rfc3339
from broker.base.db import EVERY_TENANT
from broker.base.recent import Recent
from broker.base.strangers import Tally, network
from broker.base.validity import Validity
from broker.formats import dpop, ids, token
from broker.formats.ids import NoId, WorkloadId
from broker.identity.access_tokens import AccessTokenGenerator, make
from broker.identity.dpop import spent
from broker.identity.dpop.proof import Proof
from broker.identity.federation.assertion import NotProved
from broker.identity.federation.exchange import Federation, is_foreign
from broker.identity.signing import SigningKeys
from broker.identity.tables import AssertionRow, WorkloadRow
from broker.identity.workloads import keys_at
from broker.issuers.unverified import peek
from broker.notifications.altered import report
from broker.parts import Parts

ALGORITHMS = ["EdDSA", "Ed25519", "ES256", "RS256"]
# The same at both ends: `exp` may be so long ago, and `iat` and `nbf` so far ahead (RFC 7519 §4.1.4–6).
LEEWAY_S = 10
ASSERTION_LIFETIME_S = 300
_JTI_MAX = 256
# So many refusals of one process go on the record in ten minutes; those beyond are only counted.
RECORDED = {"address": 60, "workload": 60}
_LOOKING = 2
_REMEMBERED = 10_000
# What an assertion may say that it is (RFC 7515 §4.1.9): RFC 7523bis names the first, older clients say the second.
# Anything else is a token for another purpose, which its signer may have given out.
_TYPES = frozenset({"client-authentication+jwt", "jwt"})

_ADVICE = (
    "Client authentication failed. Check the client id, that the assertion is signed with the registered key "
    "(EdDSA, ES256 or RS256), names the issuer {issuer} as its only audience, has the type client-authentication+jwt, "
    "is fresh, lasts at most five minutes and has a jti that was not used before. Check the clock that dated it, too: "
    "iat and nbf may be at most ten seconds ahead, and exp less than ten seconds ago. The broker's clock reads {now}."
)
# Nor does this one say why: it is the same for a job that there isn't, and for a trust that there isn't.
_OF_A_PLATFORM = (
    "The platform's token was not taken. Check that client_id is this job's, and that the token is fresh and just as "
    "the platform gave it. An operator sees why with `broker trust explain` and such a token. The broker's clock reads "
    "{now}."
)
_NAME_IT = "A platform's token doesn't say whose it is: send client_id=wkl_… (`broker workload list` shows it)."


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """What the endpoint answers: RFC 6749 §5.1 or §5.2."""

    status: int
    body: dict[str, Any]


class TokenEndpoint:
    """Answers token requests.

    ``refused`` counts refusals of strangers that are not on the record.  A request that names an unknown workload goes
    the way of all others, with keys that nobody has.  Neither the answer nor its time tells which workloads exist.
    """

    def __init__(
        self,
        parts: Parts,
        keys: SigningKeys,
        *,
        issuer: str,
        allow_client_secrets: bool,
        federation: Federation,
    ) -> None:
        self._db, self._audit, self._clock = parts.db, parts.audit, parts.clock
        self._keys = keys
        self._issuer = issuer
        self._hash_key = parts.keys.token_hash
        self._allow_client_secrets = allow_client_secrets
        self._federation = federation
        self._tally = Tally(parts.clock)
        # Whoever comes has to be looked up, but never on all connections: uses need some.
        self._looking = asyncio.Semaphore(_LOOKING)
        self._used = Recent[tuple[WorkloadId, str], int](_REMEMBERED)
        self._nobodys: dict[str, Any] = {"keys": [OKPKey.generate_key("Ed25519", auto_kid=True).as_dict(private=False)]}
        self.refused = 0

    @property
    def auth_methods(self) -> list[str]:
        """The client authentication methods on offer, by their registered names."""
        return ["private_key_jwt"] + (["client_secret_basic"] if self._allow_client_secrets else [])

    async def answer(
        self, form: Mapping[str, str], headers: Mapping[str, str], address: str, proof: Proof | None = None
    ) -> TokenAnswer:
        """Check a token request and answer it; the token leaves only after its event is durable.

        Args:
            form: the parameters.
            headers: its Authorization, if it has one.
            address: where it came from.
            proof: of the key that the token is to be bound to; None binds it to none.

        Raises:
            IssuerUnreachable: it came with a platform's token, whose issuer can't be asked.
            ProofUsed: the proof was used already.
        """
        jkt = "" if proof is None else proof.jkt
        try:
            if (unverified := form.get("client_assertion")) and is_foreign(unverified):
                return await self._of_platform(form, address, proof)
            client_id = _unverified_client_id(form, headers)
        except ValueError:  # authlib would read it again, without a bound
            return self._invalid_client()
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.get(WorkloadRow, client_id) if client_id else None
        altered = row is not None and not row.genuine
        exchange = _Exchange(self, self._nobody(client_id) if row is None or altered else row, jkt)
        try:
            status, body = exchange.create_token_response(_request(form, headers))
        except OAuth2Error as error:  # authlib answers most errors itself, but not those of a missing grant
            status, body = error.status_code, dict(error.get_body())
        if row is not None and altered:
            await report(self._db, row, self._clock())
            return self._refused(401, {"error": "invalid_client"}, row, "rights_altered", address)
        if status != 200 or row is None:
            return self._refused(status, body, row, exchange.why, address, exchange.detail)
        if row.state != Validity.ACTIVE:
            return self._refused(401, {"error": "invalid_client"}, row, "workload_revoked", address)
        actor = Actor("workload", row.id, row.name, address)
        if not await self._spent(actor, exchange, proof):
            return self._refused(401, {"error": "invalid_client"}, row, "assertion_replayed", address)
        return TokenAnswer(200, {**body, "token_type": _type(proof)})

    async def _of_platform(self, form: Mapping[str, str], address: str, bound: Proof | None) -> TokenAnswer:
        """The answer to a platform's token, which proves what a workload's trusts say."""
        if form.get("grant_type") != "client_credentials":
            return TokenAnswer(400, {"error": "unsupported_grant_type"})
        named = form.get("client_id", "")
        if not ids.is_id(named, WorkloadId):
            return self._not_proved(None, NotProved("client_id_needed", _NAME_IT), address)
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            row = await session.get(WorkloadRow, named)
        if row is not None and not row.genuine:
            await report(self._db, row, self._clock())
            return self._not_proved(row, NotProved("rights_altered"), address)
        try:
            proof, via = await self._federation.prove(named, form, address)
            assert row is not None, "a trust is a workload's"
            if row.state == Validity.REVOKED:
                raise NotProved("workload_revoked", "This workload was revoked. An operator can register it again.")
            if bound is not None:
                await spent.spend(self._db, bound, self._clock())
            await self._federation.spend(row, proof, Actor("workload", row.id, row.name, address))
        except NotProved as refused:
            self._federation.count(form["client_assertion"], refused.code)
            return self._not_proved(row, refused, address)
        self._federation.count(form["client_assertion"], "taken")
        lasts = self._federation.lasts_s(proof)
        now_s = self._clock() // 1000
        jkt = "" if bound is None else bound.jkt
        made = make(self._issuer, self._keys, row.id, row.name, now_s, lasts_s=lasts, via=via, jkt=jkt)
        return TokenAnswer(200, {"access_token": made, "token_type": _type(bound), "expires_in": lasts})

    def _not_proved(self, row: WorkloadRow | None, refused: NotProved, address: str) -> TokenAnswer:
        answer = self._refused(401, {"error": "invalid_client"}, row, refused.code, address, refused.public)
        if refused.public:
            answer.body.update(error_description=refused.public, code=refused.code)
        else:
            answer.body.update(error_description=_OF_A_PLATFORM.format(now=rfc3339(self._clock())))
        return answer

    def _nobody(self, client_id: str) -> WorkloadRow:
        """Stands in for a workload that there isn't: it has a key, as others have."""
        secret_hash = secrets.token_bytes(32) if self._allow_client_secrets else None
        return WorkloadRow(id=client_id, name="", jwks=self._nobodys, secret_hash=secret_hash, state=Validity.REVOKED)

    async def _spent(self, actor: Actor, exchange: _Exchange, proof: Proof | None) -> bool:
        """Put the token on the record with the assertion that it was given for, and the proof.

        False if the assertion was used already; raises ProofUsed.
        """
        assertion = (exchange.workload, exchange.jti)
        if (self._used.get(assertion) or 0) > self._clock():  # a repeated one takes no writer
            return False
        try:
            async with self._db.write(EVERY_TENANT) as session:
                await self._commit(session, actor, exchange, proof)
        except IntegrityError:
            fresh = False
        else:
            fresh = True
        if exchange.jti:
            self._used[assertion] = exchange.jti_expires_ms
        return fresh

    async def _commit(self, session: AsyncSession, actor: Actor, exchange: _Exchange, proof: Proof | None) -> None:
        workload = exchange.workload
        if exchange.jti:
            session.add(AssertionRow(workload_id=workload, jti=exchange.jti, expires_at=exchange.jti_expires_ms))
        if proof is not None:
            await spent.take(session, proof, self._clock())
        event = Event(kind="auth.token_issued", time=self._clock(), actor=actor, workload=workload)
        await record(session, event)

    def _refused(
        self, status: int, body: dict[str, Any], row: WorkloadRow | None, why: str, address: str, detail: str = ""
    ) -> TokenAnswer:
        if row is not None:
            self._note(row, why or str(body.get("error", "invalid_request")), address, detail)
        if body.get("error") == "invalid_client":
            return self._invalid_client()
        return TokenAnswer(status, body)

    def _note(self, row: WorkloadRow, why: str, address: str, detail: str) -> None:
        """Put a refusal on the record, within limits.

        It isn't waited for, as strangers would see that it is.
        """
        names = {f"address {network(address)}": RECORDED["address"], f"workload {row.id}": RECORDED["workload"]}
        if any(self._tally.count(name) >= limit for name, limit in names.items()):
            self.refused += 1
            return
        for name in names:
            self._tally.add(name)
        stranger = Actor("stranger", "unverified", address=address)
        event = Event.about(
            row, "auth.token_refused", stranger, self._clock(), decision="denied", reason=why, note=detail
        )
        self._audit.post(event)

    def _invalid_client(self) -> TokenAnswer:
        # One text for every cause: a stranger must not learn which workloads exist. The record holds the cause.
        # The time is in every HTTP answer's Date; here whoever has to compare clocks reads it.
        advice = _ADVICE.format(issuer=self._issuer, now=rfc3339(self._clock()))
        return TokenAnswer(401, {"error": "invalid_client", "error_description": advice})


def _type(proof: Proof | None) -> str:
    """How a token is sent that is bound to the key of ``proof``, or to none (RFC 9449 §5)."""
    return "Bearer" if proof is None else dpop.HEADER


def _unverified_client_id(form: Mapping[str, str], headers: Mapping[str, str]) -> WorkloadId | NoId:
    """The client that the request claims to be, before anything is checked.

    Empty if it doesn't say.

    Raises:
        ValueError: the assertion is no token, or the Authorization header not of the scheme that it names.
    """
    if assertion := form.get("client_assertion"):
        subject = peek(assertion).claims.get("sub")
    else:
        subject, _ = extract_basic_authorization(headers)
    return subject if isinstance(subject, str) and ids.is_id(subject, ids.WorkloadId) else ""


def _request(form: Mapping[str, str], headers: Mapping[str, str]) -> OAuth2Request:
    # authlib insists on https in the URI; ours is decided by the edge (public_url), which config checks.
    request = _FormRequest("POST", "https://localhost/oauth/token", headers=dict(headers))
    request.payload = BasicOAuth2Payload(dict(form))
    return request


class _FormRequest(OAuth2Request):  # type: ignore[misc]  # authlib has no types
    @property
    def form(self) -> dict[str, str]:
        return dict(self.payload.data)

    @property
    def args(self) -> dict[str, str]:
        return {}


class _Client:
    """A workload as authlib's ClientMixin wants to see it."""

    def __init__(self, endpoint: TokenEndpoint, row: WorkloadRow) -> None:
        self._endpoint = endpoint
        self.row = row

    def get_client_id(self) -> str:
        return self.row.id

    def get_allowed_scope(self, _scope: str) -> str:
        return ""

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        if method == "client_secret_basic":
            return self.row.secret_hash is not None and "client_secret_basic" in self._endpoint.auth_methods
        return method == str(JWTBearerClientAssertion.CLIENT_AUTH_METHOD)

    def check_client_secret(self, secret: str) -> bool:
        stored = self.row.secret_hash or b""
        presented = token.keyed_hash(self._endpoint._hash_key, secret)  # noqa: SLF001 - one unit
        return hmac.compare_digest(stored, presented)

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Grant(ClientCredentialsGrant):  # type: ignore[misc]  # authlib has no types
    TOKEN_ENDPOINT_AUTH_METHODS = [JWTBearerClientAssertion.CLIENT_AUTH_METHOD, "client_secret_basic"]  # noqa: RUF012 - authlib's


class _Exchange(AuthorizationServer):  # type: ignore[misc]  # authlib has no types
    """authlib's server for one request, with the claimed client at hand."""

    def __init__(self, endpoint: TokenEndpoint, row: WorkloadRow, jkt: str) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._row = row
        self.workload = row.id
        self.why = self.detail = ""
        self.jti = ""
        self.jti_expires_ms = of_seconds(0)
        self.register_grant(_Grant)
        self.register_client_auth_method(JWTBearerClientAssertion.CLIENT_AUTH_METHOD, _Assertion(self, endpoint))
        self.register_token_generator(
            "default",
            AccessTokenGenerator(endpoint._issuer, endpoint._keys, row.name, endpoint._clock, jkt),  # noqa: SLF001 - one unit
        )

    def query_client(self, client_id: str) -> _Client | None:
        return _Client(self._endpoint, self._row) if self._row.id == client_id else None

    def save_token(self, _token: object, _request: object) -> None:
        """Keep nothing: tokens are short-lived and checked against the workload's epoch."""

    def send_signal(self, *_args: object, **_kwargs: object) -> None:
        pass

    def create_oauth2_request(self, request: OAuth2Request) -> OAuth2Request:
        return request

    def handle_response(self, status: int, body: dict[str, Any], _headers: object) -> tuple[int, dict[str, Any]]:
        return status, dict(body)


class _Assertion(JWTBearerClientAssertion):  # type: ignore[misc]  # authlib has no types
    """RFC 7523 client authentication, stricter than authlib's default.

    It names algorithms and types, bounds the lifetime, and takes one audience.  An assertion for others as well could
    be used here by each of them.  The issuer is that audience (RFC 7523bis); older clients send the endpoint's address.
    """

    def __init__(self, exchange: _Exchange, endpoint: TokenEndpoint) -> None:
        super().__init__(leeway=LEEWAY_S)
        self._exchange = exchange
        self._endpoint = endpoint

    def get_audiences(self) -> list[str]:
        issuer = self._endpoint._issuer  # noqa: SLF001 - one unit
        return [issuer, f"{issuer}/oauth/token"]

    def resolve_client_public_key(self, client: _Client) -> KeySet:
        known = keys_at(client.row, self._endpoint._clock())  # noqa: SLF001 - one unit
        if not known["keys"]:
            self._exchange.why, known = "no_public_key", self._endpoint._nobodys  # noqa: SLF001 - one unit
        return KeySet.import_key_set(known)  # type: ignore[arg-type]  # stored JSON

    def process_assertion_claims(self, assertion: str, resolve_key: KeySet) -> dict[str, Any]:
        try:
            verified = jwt.decode(assertion, resolve_key, algorithms=ALGORITHMS)
        except (JoseError, ValueError) as error:
            self._exchange.why = self._exchange.why or "bad_signature"
            raise InvalidClientError from error
        try:
            self._verify_purpose(verified)
            self.verify_claims(verified.claims)
        except InvalidClientError as error:
            self._exchange.why, self._exchange.detail = "bad_claim", error.description or ""
            raise
        return dict(verified.claims)

    def _verify_purpose(self, verified: jwt.Token) -> None:
        """Check that this was made to sign in here, and nowhere else."""
        if verified.header.get("typ", "JWT").lower().removeprefix("application/") not in _TYPES:
            raise InvalidClientError(description="another type of token")
        audience = verified.claims.get("aud")
        if isinstance(audience, list) and len(audience) != 1:
            raise InvalidClientError(description="several audiences")

    def verify_claims(self, claims: dict[str, Any]) -> None:
        """Check the claims as authlib does, but by the broker's time.

        authlib goes by the system's clock, also if that has jumped.
        """
        registry = jwt.JWTClaimsRegistry(
            now=self._endpoint._clock() // 1000,  # noqa: SLF001 - one unit
            leeway=LEEWAY_S,
            iss={"essential": True},
            sub={"essential": True},
            aud={"essential": True, "values": self.get_audiences()},
            exp={"essential": True},
            jti={"essential": True},
        )
        try:
            registry.validate(claims)
        except JoseError as error:
            raise InvalidClientError(description=error.description) from error
        if claims["sub"] != claims["iss"]:
            raise InvalidClientError(description="sub and iss differ")
        if not self.validate_jti(claims, claims["jti"]):
            raise InvalidClientError(description="jti is too long or empty")

    def validate_jti(self, claims: dict[str, Any], jti: object) -> bool:
        """Note the ``jti`` for the commit; bound its size and how long it must be remembered."""
        expires_s = int(claims["exp"])
        if expires_s > self._endpoint._clock() // 1000 + ASSERTION_LIFETIME_S + LEEWAY_S:  # noqa: SLF001 - one unit
            raise InvalidClientError(description="lasts longer than five minutes")
        if not isinstance(jti, str) or not 0 < len(jti) <= _JTI_MAX:
            return False
        self._exchange.jti = jti
        self._exchange.jti_expires_ms = of_seconds(expires_s + LEEWAY_S)
        return True
