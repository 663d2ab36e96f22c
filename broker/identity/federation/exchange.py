"""The exchange of a platform's token for an access token of the broker.

It is RFC 6749 §4.4 with an assertion of RFC 7521.  The assertion doesn't name the workload as RFC 7523 §3 has it: the
platform knows none.  So the request does, by ``client_id``, and only that workload's trusts are looked at.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from broker.audit.events import Actor, Event, word
from broker.audit.record import record
from broker.base.clock import Millis, later, of_seconds
from broker.base.db import EVERY_TENANT, upsert
from broker.formats.assertion import ASSERTION_TYPE
from broker.formats.ids import WorkloadId
from broker.identity.access_tokens import LIFETIME_S
from broker.identity.federation import assertion, trusts
from broker.identity.federation.assertion import NotProved, Proof
from broker.identity.federation.tables import IssuerRow, TrustRow, UsedTokenRow
from broker.identity.principal import Via
from broker.identity.tables import WorkloadRow
from broker.issuers.files import SPIFFE, IssuerFile, Issuers
from broker.issuers.issuer import Issuer
from broker.issuers.unverified import OTHERS, NotAToken, peek
from broker.notifications.altered import report
from broker.notifications.notices import notify
from broker.parts import Parts

# draft-ietf-oauth-spiffe-client-auth has a name of its own for it.
SPIFFE_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
# How metadata names it. It is no private_key_jwt: the assertion's subject is not the client.
PLATFORM_METHOD: Final = "platform_jwt"
# A token that was used is kept this much longer than it could be taken.
_KEPT_MS: Final = 60_000
_PLAIN: Final = re.compile(r"[^\s\"=\\]+")
_LOOKING: Final = 2


def is_foreign(token: str) -> bool:
    """Whether a platform made this assertion, and not a job itself.

    A job's own names itself as the issuer.  There is no way from one path to the other.

    Raises:
        ValueError: it is no token.
    """
    try:
        claims = peek(token, OTHERS).claims
    except NotAToken:
        raise ValueError from None
    issuer, subject = claims.get("iss"), claims.get("sub")
    return (isinstance(issuer, str) and "://" in issuer) or (
        isinstance(subject, str) and subject.startswith("spiffe://")
    )


class Federation:
    """The declared issuers with their keys, and what they prove."""

    def __init__(self, parts: Parts, issuers: Issuers, audience: str) -> None:
        self._db, self._clock = parts.db, parts.clock
        # As with a job's own key: strangers leave connections to uses.
        self._looking = asyncio.Semaphore(_LOOKING)
        self._refreshed: dict[str, Millis | None] = {}
        self.brought = Counter[tuple[str, str]]()  # for metrics: by preset, and what came of it
        self.audience = audience
        self.issuers = issuers
        self._signers = {one.id: Issuer(one.declared, parts.outbound, parts.clock) for one in issuers}

    def signer(self, issuer: IssuerFile) -> Issuer:
        """What an issuer said of itself, and its keys."""
        return self._signers[issuer.id]

    async def prove(self, workload_id: WorkloadId, form: Mapping[str, str], address: str) -> tuple[Proof, Via]:
        """What the token of a request proves for a workload, and what an access token stands on.

        Raises:
            NotProved. IssuerUnreachable: its issuer can't be asked.
        """
        now, token = self._clock(), form["client_assertion"]
        issuer = assertion.issuer_of(token, self.issuers)
        if issuer is None or form.get("client_assertion_type") not in _types(issuer):
            raise NotProved("issuer_unknown")
        keys, said = self.signer(issuer), peek(token, OTHERS)
        if keys.heard.failing_since is not None:
            # Whoever is named: neither answer tells which workload trusts whom.
            await keys.candidates(said.header.get("kid"), str(said.header.get("alg")))
        own, state = await self._known(workload_id, issuer, now)
        if state is None:  # no workload ever trusted it
            raise NotProved("issuer_unknown")
        self.heed(issuer, state)
        # Whoever is named, trust or not: anybody may have a token of a shared issuer.
        try:
            claims = await assertion.verified(token, issuer, keys, self.audience, now)
            if state.suspended_at is not None:
                raise NotProved("issuer_suspended", f"The issuer {issuer.id} is suspended. An admin can resume it.")
            if not own:
                raise NotProved("issuer_unknown")
        except NotProved as refused:
            raise assertion.discreet(refused, issuer, own, said.claims) from None
        proof = assertion.taken(issuer, own, claims, token, address, now)
        return proof, (proof.trust.id, state.era)

    async def _known(
        self, workload_id: WorkloadId, issuer: IssuerFile, now: Millis
    ) -> tuple[list[TrustRow], IssuerRow | None]:
        """The workload's trusts in an issuer, and the issuer's state."""
        async with self._looking, self._db.read(EVERY_TENANT) as session:
            found = await trusts.of_workload(session, workload_id, now)
            state = await session.get(IssuerRow, issuer.id)
        for row in found:
            if not row.genuine:
                await report(self._db, row, now)
        return [row for row in found if row.genuine and row.issuer == issuer.id], state

    def count(self, token: str, outcome: str) -> None:
        """Count a token by its platform and what came of it."""
        issuer = assertion.issuer_of(token, self.issuers)
        self.brought[issuer.preset if issuer else "none", outcome] += 1

    async def state(self) -> str:
        """``ok``, or the id of an issuer with what is wrong.

        It is ``unreachable``, or its file ``differs`` from the worker's.
        """
        for one in self.issuers:
            if self.signer(one).away:
                return f"unreachable: {one.id}"
        async with self._db.read(EVERY_TENANT) as session:
            for row in await session.scalars(select(IssuerRow).order_by(IssuerRow.id)):
                own = self.issuers.get(row.id)
                if own is None or own.digest() != row.digest:
                    return f"differs: {row.id}"
        return "ok"

    def heed(self, issuer: IssuerFile, state: IssuerRow) -> None:
        """Ask for keys again if somebody wanted that since they were asked for here."""
        if self._refreshed.get(issuer.id) != state.refreshed_at:
            self._refreshed[issuer.id] = state.refreshed_at
            self.signer(issuer).renew()

    def lasts_s(self, proof: Proof) -> int:
        """How many seconds an access token lasts: no longer than what it is given for."""
        now, ends = self._clock(), of_seconds(int(proof.expires_s))
        if proof.trust.expires_at is not None:
            ends = min(ends, proof.trust.expires_at)
        return max(1, min(LIFETIME_S, (ends - now) // 1000))

    async def spend(self, workload: WorkloadRow, proof: Proof, actor: Actor) -> None:
        """Put an access token on the record, with the token that it is given for.

        Raises:
            NotProved: that is good once, and was used.
        """
        used = {
            "issuer": proof.issuer.id,
            "name": proof.name,
            "address": actor.address,
            "expires_at": later(of_seconds(int(proof.expires_s) + proof.issuer.tokens.leeway), _KEPT_MS),
        }
        try:
            async with self._db.write(EVERY_TENANT) as session:
                if proof.issuer.once:
                    session.add(UsedTokenRow(**used))
                    await session.flush()
                else:
                    await session.execute(upsert(session, UsedTokenRow).values(**used).on_conflict_do_nothing())
                    await self._compare(session, actor, workload, proof)
                told = " ".join(f"{name}={_apart(value)}" for name, value in proof.told.items())
                event = Event.about(
                    proof.trust, "auth.token_issued", actor, self._clock(), reason=_word(proof.name), note=told
                )
                await record(session, event)
        except IntegrityError:
            raise NotProved(
                "token_used", "The token was used already. Have your platform make a fresh one for each call."
            ) from None

    async def _compare(self, session: AsyncSession, actor: Actor, workload: WorkloadRow, proof: Proof) -> None:
        """Tell operators, once, of a token that came from another address before."""
        first = await session.get_one(UsedTokenRow, (proof.issuer.id, proof.name))
        if first.address == actor.address:
            return
        now = self._clock()
        facts = {"issuer": first.issuer, "workload": workload.name, "trust": proof.trust.id}
        dedup = f"elsewhere/{first.issuer}/{first.name}"
        told = await notify(session, "token_elsewhere", organization="", provider="", now=now, dedup=dedup, facts=facts)
        if told:
            note = f"first from {first.address}"
            await record(session, Event.about(proof.trust, "trust.token_elsewhere", actor, now, note=note))


def _word(name: str) -> str:
    """A token's name as the core of an event may hold it."""
    return word(name) or hashlib.sha256(name.encode()).hexdigest()


def _apart(value: str) -> str:
    """A value, in quotes if it could pass for more: some are chosen by who writes a workflow."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _types(issuer: IssuerFile) -> tuple[str, ...]:
    return (ASSERTION_TYPE, SPIFFE_TYPE) if issuer.preset == SPIFFE else (ASSERTION_TYPE,)
