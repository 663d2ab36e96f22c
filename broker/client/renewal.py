"""A lease that lasts.

A thread of its own renews it ahead of time, so that nobody who uses it waits for that.  Each process holds a lease of
its own: threads don't survive a fork, and a lease that a child gave back would be its parent's.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
import weakref
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from broker.client.errors import AccessDenied, AccessEnded, CallFailed
from broker.client.forks import PerProcess
from broker.client.leases import Lease, LeaseState

if TYPE_CHECKING:
    from datetime import datetime

    from broker.client.client import Client

# This part of the time that is left passes before a renewal. The rest is for trying again.
EARLY = 2 / 3
_LEAST_S = 0.5
_BACKOFF_S = 0.25
_BACKOFF_CAP_S = 10.0
_RETRY_AFTER_CAP_S = 30.0
_GRACE_S = 30.0
# So often the broker is asked for another nonce; it takes one for five minutes.
_NONCE_S = 120.0


@dataclass(frozen=True, slots=True)
class _TimedLease:
    """A lease, timed by this machine's monotonic clock; its wall clock doesn't matter."""

    id: str
    url: str
    token: str = field(repr=False)
    asked_at: float
    expires_at: float
    final: bool  # no renewal makes it last longer
    bound: bool  # its token needs a proof with each call
    renewable_until: datetime

    @property
    def left(self) -> float:
        """Seconds until it expires."""
        return self.expires_at - time.monotonic()


# After these a key may be used again one day, without a new lease; or the job's platform has another token.
_RESTS = frozenset({"key_failing", "key_paused", "key_too_old", "no_platform_token", "token_over", "token_not_yet"})


class RenewingLease:
    """A lease of each process that uses this, kept until :meth:`close` or until access ends."""

    def __init__(self, client: Client, wanted: dict[str, Any], *, keep_token: bool) -> None:
        """Take this process's lease; a child of ``fork()`` takes its own when it first needs one.

        Args:
            client: calls the broker.
            wanted: the arguments of :meth:`~broker.client.client.Client.lease`.
            keep_token: never take a new lease in the old one's place.

        Raises:
            CallFailed: policy said no, or no answer came.
        """
        self._per_process = PerProcess(partial(_ProcessLease, client, wanted, keep_token=keep_token))
        # An end is for good. A child starts with its parent's value, and doesn't learn what becomes of that.
        self._ended: CallFailed | None = None
        self._client = client
        self.url = self._per_process().url  # the proxy's base URL for what is leased: the same for every lease

    def __repr__(self) -> str:
        return f"<RenewingLease {self.url}>"

    @property
    def token(self) -> str:
        """The token of this process's present lease.

        This waits for the network only if a child of ``fork()`` has no lease yet.

        Raises:
            AccessEnded, AccessDenied: the access was cut off, or can't be had any more; that is for good.
            CallFailed: the broker has been away for too long; once it is back, there is a token again.
        """
        self._check()
        kept = self._own()
        try:
            self._check()
        except CallFailed:
            kept.close()  # it was closed meanwhile, perhaps before there was a lease to give back
            raise
        return kept.token

    @property
    def bound(self) -> bool:
        """Whether calls under it need a proof of this process's key."""
        return self._own().bound

    def proof(self, method: str, url: str, token: str) -> str:
        """The proof for one call with its token."""
        return self._client.proof(method, url, token)

    def note(self, headers: Mapping[str, str]) -> None:
        """Keep the nonce of an answer for the next proof."""
        self._client.note(headers)

    @property
    def final_seconds(self) -> float | None:
        """Seconds until the end if nothing can put it off; None if something can."""
        kept = self._per_process.made
        return None if kept is None else kept.final_seconds

    def close(self) -> None:
        """Give this process's lease back; if no answer comes, it ends when it expires."""
        self._ended = self._ended or AccessEnded("This lease was given back; take another.", code="lease_over")
        if kept := self._per_process.made:
            kept.close()

    def _check(self) -> None:
        if self._ended is not None:
            raise copy(self._ended)  # a copy: the original must not gather every caller's frames

    def _own(self) -> _ProcessLease:
        try:
            return self._per_process()
        except CallFailed as failure:
            if _is_for_good(failure):
                self._ended = copy(failure)
            raise


class _ProcessLease:
    """One lease of one process.

    Only the thread changes what is held.  Everybody else reads it, and never waits.  The thread doesn't keep the object
    alive: if the object is abandoned, its lease expires.
    """

    def __init__(self, client: Client, wanted: dict[str, Any], *, keep_token: bool) -> None:
        self._client = client
        self._wanted = wanted
        self._keep_token = keep_token
        self._lease = self._taken()
        self._ended: CallFailed | None = None
        self._trouble: CallFailed | None = None
        self._failures = 0
        self._due_at = 0.0
        self._stop = threading.Event()
        due = self._until(self._due())
        self._thread = threading.Thread(
            target=_keep_renewing, args=(weakref.ref(self), self._stop, due), name="lease-renewal", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        return self._lease.url

    @property
    def bound(self) -> bool:
        return self._lease.bound

    @property
    def token(self) -> str:
        lease, ended = self._lease, self._ended
        if ended is None and lease.left > 0:
            return lease.token
        raise copy(ended or self._trouble or _expired())

    @property
    def final_seconds(self) -> float | None:
        return self._lease.left if self._keep_token and self._lease.final else None

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._ended is None:
            self._ended = _expired()
            self._give_back(self._lease)

    def advance(self) -> float | None:
        """Renew, or take a new lease; only the thread calls this.

        Returns:
            Seconds until that is due again; None once access has ended.
        """
        if self._due_at > time.monotonic():  # it woke for a nonce
            with contextlib.suppress(CallFailed):
                self._client.find(self._lease.id)
            return self._until(self._due_at - time.monotonic())
        due = self._advanced()
        return None if due is None else self._until(due)

    def _advanced(self) -> float | None:
        before = self._lease
        try:
            self._go_on(before)
        except CallFailed as failure:
            if _is_for_good(failure):
                self._ended = failure
                return None
            self._trouble = failure
            self._failures += 1
            return self._pause(failure)
        self._trouble, self._failures = None, 0
        if self._lease.id != before.id and self._lease.renewable_until == before.renewable_until:
            # The grant itself ends then, so another lease would not last longer. Ask again once it has ended.
            return self._lease.left + _LEAST_S
        return self._due()

    def _until(self, seconds: float) -> float:
        """How long the thread may sleep if the next renewal is due in so many seconds."""
        self._due_at = time.monotonic() + seconds
        return min(seconds, _NONCE_S) if self._lease.bound else seconds

    def _due(self) -> float:
        return max(self._lease.left * EARLY, _LEAST_S)

    def _pause(self, failure: CallFailed) -> float:
        ceiling = min(_BACKOFF_S * 2 ** min(self._failures, 10), _BACKOFF_CAP_S)
        if self._lease.left > 0:  # not past the expiry: an earlier try might prevent it
            ceiling = min(ceiling, max(self._lease.left / 2, _LEAST_S))
        backoff = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads callers, guards nothing
        return max(backoff, min(failure.retry_after, _RETRY_AFTER_CAP_S))

    def _go_on(self, lease: _TimedLease) -> None:
        if not self._keep_token and (lease.final or lease.left <= 0):
            self._replace(lease)
            return
        try:
            self._lease = self._renewed(lease)
        except AccessEnded as ended:
            if self._keep_token or not self._replaceable(lease, ended):
                raise
            try:
                self._replace(lease)
            except AccessDenied:
                raise ended from None

    def _replaceable(self, lease: _TimedLease, ended: AccessEnded) -> bool:
        """Whether a new lease may well be had.

        It may if a new key or trust took the old one's place, or if this machine's clock stood still.
        """
        if ended.code == "lease_over":
            return self._client.find(lease.id).state == LeaseState.EXPIRED
        return ended.code in {"key_revoked", "trust_over"}

    def _replace(self, old: _TimedLease) -> None:
        self._lease = self._taken()
        # Calls under the old lease may finish. close() doesn't wait for them.
        self._stop.wait(min(max(old.left, 0) / 2, _GRACE_S))
        self._give_back(old)

    def _taken(self) -> _TimedLease:
        asked_at = time.monotonic()
        issued = self._client.lease(**self._wanted)
        return _timed(issued, issued.proxy_url, issued.token, asked_at)

    def _renewed(self, lease: _TimedLease) -> _TimedLease:
        renewed = self._client.renew(lease.id, self._wanted["ttl"])
        return _timed(renewed, lease.url, lease.token, lease.asked_at)

    def _give_back(self, lease: _TimedLease) -> None:
        with contextlib.suppress(CallFailed):
            self._client.end(lease.id)


def _timed(told: Lease, url: str, token: str, asked_at: float) -> _TimedLease:
    return _TimedLease(
        id=told.id,
        url=url,
        token=token,
        asked_at=asked_at,
        # Counted from the question, so rather too short.
        expires_at=asked_at + (told.expires_at - told.issued_at).total_seconds(),
        final=told.expires_at == told.renewable_until,
        bound=told.bound,
        renewable_until=told.renewable_until,
    )


def _is_for_good(failure: CallFailed) -> bool:
    return not failure.transient and failure.code not in _RESTS


def _expired() -> AccessEnded:
    return AccessEnded("The lease ran out and nobody renewed it; take another.", code="lease_over")


def _keep_renewing(reference: weakref.ref[_ProcessLease], stop: threading.Event, due: float | None) -> None:
    while due is not None and not stop.wait(due):
        kept = reference()
        due = kept.advance() if kept is not None else None
        del kept
