"""A partner's published keys.

They are fetched once an hour, and at most once a minute whatever strangers send.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from broker.base.clock import Clock
from broker.base.errors import Unavailable
from broker.base.outbound import Outbound, Unreachable
from broker.wire.client import Unreadable

_KEYS_MAX = 262_144
_FRESH_MS = 3_600_000
# After an unknown key id or a failure the list is fetched again, but not more often than this.
_AGAIN_MS = 60_000
# A partner that doesn't answer holds a report up for so long. Then the known list decides, or the report is sent again.
_PATIENCE_S = 5.0


class NotYet(Unavailable):
    """It can't be told yet if a report is the partner's."""

    code = "report_not_judged"
    title = "The report can't be judged yet"

    def __init__(self, seconds: int) -> None:
        super().__init__(
            "No key of this identifier is in the list that was fetched last; send the report again.",
            retry_after=seconds,
        )


class PartnerKeys:
    """Public keys by id (ECDSA P-256), in the form in which GitHub publishes them.

    ``private`` allows a private address, for development.
    """

    def __init__(self, outbound: Outbound, clock: Clock, url: str, *, private: bool) -> None:
        self._outbound = outbound
        self._clock = clock
        self._url = url
        self._private = private
        self._fetching: asyncio.Task[None] | None = None
        self._published: Mapping[str, str] = {}
        self._fetched_at = -_FRESH_MS
        self._tried_at = -_FRESH_MS

    async def published(self, key_id: str) -> str:
        """The key of that id, in PEM.

        An id that isn't listed is never refused for good, and isn't remembered.  The partner may have begun to use it
        just now, and a stranger's made-up id may have used up the fetch of this minute.

        Raises:
            NotYet: the id is not listed, or the list can't be had.
        """
        if self._wanted(key_id):
            if self._fetching is None and abs(self._clock() - self._tried_at) >= _AGAIN_MS:
                # A task of its own, so that the fetch goes on if the request that began it goes away.
                self._fetching = asyncio.create_task(self._fetch())
            if self._fetching is not None:
                await asyncio.wait({self._fetching}, timeout=_PATIENCE_S)
        # If no new list comes, the previous one holds: a leaked key must be cut off then too.
        key = self._published.get(key_id)
        if key is None:
            left = _AGAIN_MS - abs(self._clock() - self._tried_at)
            raise NotYet(max(1, -(-left // 1000)))
        return key

    def _wanted(self, key_id: str) -> bool:
        return key_id not in self._published or abs(self._clock() - self._fetched_at) >= _FRESH_MS

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        try:
            published = _read(await self._answer())
            if published is not None:
                self._published, self._fetched_at = published, self._tried_at
        finally:
            self._fetching = None

    async def _answer(self) -> bytes:
        """The partner's answer; empty if that is no list of keys."""
        headers = [("Accept", "application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "keybroker")]
        body = bytearray()
        try:
            async with self._outbound.call("GET", self._url, headers=headers, private=self._private) as response:
                if response.status != 200:
                    return b""
                async for part in response.chunks():
                    body += part
                    if len(body) > _KEYS_MAX:
                        return b""
        except (Unreachable, Unreadable):
            return b""
        return bytes(body)


def _read(body: bytes) -> Mapping[str, str] | None:
    """The keys by id; None if the answer lists none."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("public_keys"), list):
        return None
    return {
        str(one["key_identifier"]): str(one["key"])
        for one in document["public_keys"]
        if isinstance(one, dict) and "key_identifier" in one and "key" in one
    }


def signed(published: str, signature: str, body: bytes) -> bool:
    """Whether the published key made ``signature`` (base64) over ``body``."""
    try:
        key = serialization.load_pem_public_key(published.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, binascii.Error):
        return False
    return True
