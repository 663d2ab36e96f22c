"""One issuer's own documents: what it says of itself, and its keys.

They are those of OpenID Connect Discovery 1.0.  However many tokens come, and whatever they name, an issuer is asked
once a minute at most.  What it answered well is kept until a better answer comes, for a day at most.  A file with keys
is read for each token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from broker.base.clock import DAY_MS, Clock, Millis
from broker.base.errors import Unavailable
from broker.base.outbound import Outbound
from broker.issuers import fetching, published
from broker.issuers.declared import Declared
from broker.issuers.fetching import NotHad
from broker.issuers.published import Key, Published

_FRESH_MS: Final = 3_600_000
_FRESH_LEAST_MS: Final = 300_000
_AHEAD: Final = 0.8
_AGAIN_MS: Final = 60_000
_STALE_MS: Final = DAY_MS

_log = structlog.get_logger()


class IssuerUnreachable(Unavailable):
    """An issuer gave no usable answer, so nobody can tell whether a token is its own."""

    code = "issuer_unreachable"
    title = "An identity provider can't be reached"

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "The identity provider gives no usable answer just now, so what it says can't be checked. Try again later; "
            "if it lasts, the broker's log says what is wrong.",
            retry_after=seconds,
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    metadata: Mapping[str, Any]
    published: Published
    at: Millis
    fresh_ms: int


@dataclass(frozen=True, slots=True)
class Heard:
    """When an issuer last answered well, and since when it fails; None for never."""

    at: Millis | None
    failing_since: Millis | None


class Issuer:
    """One declared issuer, and what it said last."""

    def __init__(self, declared: Declared, outbound: Outbound, clock: Clock) -> None:
        self.declared = declared
        self._outbound = outbound
        self._clock = clock
        self._kept: _Kept | None = None
        self._tried_at: Millis | None = None
        self._failing_since: Millis | None = None
        self._asking: asyncio.Task[None] | None = None
        # A file costs little, and its change is to count at once.
        self._again_ms = 0 if declared.keys_file else _AGAIN_MS

    @property
    def away(self) -> bool:
        """Whether it fails and nothing is left that it said; nobody is asked."""
        age = self._age()
        return self._failing_since is not None and (age is None or age >= _STALE_MS)

    @property
    def key_set(self) -> str:
        """A short name of the keys that it had last, empty for none; nobody is asked."""
        return "" if self._kept is None else self._kept.published.digest

    def renew(self) -> None:
        """Have it asked again at the next need, however fresh what it said is."""
        self._tried_at = None
        if self._kept is not None:
            self._kept = replace(self._kept, fresh_ms=0)

    async def look(self) -> None:
        """Ask it if that is due; what came of it is in :attr:`heard`."""
        with suppress(IssuerUnreachable):
            await self._usable()

    @property
    def heard(self) -> Heard:
        """What there is of it; nobody is asked."""
        return Heard(None if self._kept is None else self._kept.at, self._failing_since)

    async def metadata(self) -> Mapping[str, Any]:
        """What the issuer says of itself; raises IssuerUnreachable."""
        return (await self._usable()).metadata

    async def ask(self) -> Published:
        """Its keys as it tells them now, whatever is kept, which stays; raises NotHad."""
        return (await self._documents(self._clock())).published

    async def candidates(self, kid: object, algorithm: str) -> Sequence[Key]:
        """The keys that could have signed; none if the issuer has none such.

        Raises:
            IssuerUnreachable: there may be one, and the issuer can't be asked.
        """
        found = (await self._usable()).published.candidates(kid, algorithm)
        if not found:
            await self._ask()
            found = (await self._usable()).published.candidates(kid, algorithm)
        if not found and self._failing_since is not None:
            raise IssuerUnreachable(self._seconds_left())
        return found

    async def _usable(self) -> _Kept:
        if self.declared.keys_file:
            await self._ask()
        age = self._age()
        if age is None or age >= self._fresh_ms():
            await self._ask()
        elif age >= self._fresh_ms() * _AHEAD:
            self._begin()
        age = self._age()
        if self._kept is None or age is None or age >= _STALE_MS:
            raise IssuerUnreachable(self._seconds_left())
        return self._kept

    def _age(self) -> int | None:
        return None if self._kept is None else abs(self._clock() - self._kept.at)

    def _fresh_ms(self) -> int:
        return self._kept.fresh_ms if self._kept else 0

    def _seconds_left(self) -> int:
        """Until the issuer may be asked again."""
        if self._tried_at is None:
            return 1
        return max(1, -(-(_AGAIN_MS - abs(self._clock() - self._tried_at)) // 1000))

    async def _ask(self) -> None:
        """Have the documents again, unless they were asked for within the last minute."""
        self._begin()
        while self._asking is not None:
            # The asking is everybody's: one caller who gives up ends it for nobody else.
            await asyncio.shield(self._asking)
            if self._tried_at is None:  # renewed meanwhile
                self._begin()

    def _begin(self) -> None:
        now = self._clock()
        if self._asking is not None or (self._tried_at is not None and abs(now - self._tried_at) < self._again_ms):
            return
        # Set before anything can fail: an issuer that is down is asked no more often than one that answers.
        self._tried_at = now
        self._asking = asyncio.create_task(self._fetch(now), name="issuer", context=Context())

    async def _fetch(self, now: Millis) -> None:
        try:
            had = await self._documents(now)
            # What was asked for before a renewal is none.
            self._keep(had if self._tried_at is not None else replace(had, fresh_ms=0))
            self._failing_since = None
        except NotHad as fault:
            if self._failing_since is None:
                self._failing_since = now
            _log.warning("issuer.unreachable", issuer=self.declared.issuer, why=str(fault))
        finally:
            self._asking = None

    def _keep(self, had: _Kept) -> None:
        if had.published.dropped and (self._kept is None or self._kept.published.dropped != had.published.dropped):
            _log.warning("issuer.keys_dropped", issuer=self.declared.issuer, **had.published.dropped)
        self._kept = had

    async def _documents(self, now: Millis) -> _Kept:
        """What it says of itself, and its keys; raises NotHad."""
        metadata: Mapping[str, Any] = {}
        if self.declared.keys_file:
            told = await fetching.read(self.declared.keys_file)
        elif self.declared.keys_url:
            told = await fetching.get(self._outbound, self.declared, self.declared.keys_url)
        else:
            metadata = await self._discovered()
            told = await fetching.get(self._outbound, self.declared, metadata["jwks_uri"])
        try:
            keys = published.read(told.document, self.declared.use)
        except published.NoKeys:
            raise NotHad("it publishes no key that may verify") from None
        fresh_ms = _FRESH_MS if told.max_age is None else min(max(told.max_age * 1000, _FRESH_LEAST_MS), _FRESH_MS)
        return _Kept(metadata, keys, now, fresh_ms)

    async def _discovered(self) -> Mapping[str, Any]:
        issuer = self.declared.issuer
        url = issuer.removesuffix("/") + "/.well-known/openid-configuration"
        metadata = (await fetching.get(self._outbound, self.declared, url)).document
        if metadata.get("issuer") != issuer:
            raise NotHad("it calls itself something else than what is declared; compare the trailing slash, too")
        if not isinstance(metadata.get("jwks_uri"), str):
            raise NotHad("it names no keys")
        return metadata
