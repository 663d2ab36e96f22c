"""A partner's published keys: fetched once an hour, and not more often than once a minute whatever strangers send."""

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
# An unknown key id makes the list be fetched anew, as does a failure, but not more often than this.
_AGAIN_MS = 60_000


class PartnerKeys:
    """Public keys by id (ECDSA P-256), in the form that GitHub publishes them; ``private`` is for development."""

    def __init__(self, outbound: Outbound, clock: Clock, url: str, *, private: bool) -> None:
        self._outbound = outbound
        self._clock = clock
        self._url = url
        self._private = private
        self._fetching = asyncio.Lock()
        self._published: Mapping[str, str] = {}
        self._fetched_at = -_FRESH_MS
        self._tried_at = -_FRESH_MS
        self._failed = False

    async def signed(self, key_id: str, signature: str, body: bytes) -> bool:
        """Whether ``signature`` (base64) over ``body`` is of the key of that id.

        Raises:
            Unavailable: the id is not known, and the list can't be fetched just now.
        """
        if not key_id or not signature:
            return False
        published = await self._key(key_id)
        if published is None:
            return False
        try:
            key = serialization.load_pem_public_key(published.encode())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                return False
            key.verify(base64.b64decode(signature, validate=True), body, ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, binascii.Error):
            return False
        return True

    async def _key(self, key_id: str) -> str | None:
        if key_id not in self._published or self._due(key_id):
            async with self._fetching:  # those who wait find what the first one fetched
                if self._due(key_id):
                    await self._fetch()
        # While no new list comes the last one holds: a leaked key must be cut off also then.
        if key_id not in self._published and self._failed:
            raise Unavailable("The partner's public keys can't be fetched just now; send the report again.")
        return self._published.get(key_id)

    def _due(self, key_id: str) -> bool:
        now = self._clock()
        if abs(now - self._tried_at) < _AGAIN_MS:
            return False
        return self._failed or key_id not in self._published or abs(now - self._fetched_at) >= _FRESH_MS

    async def _fetch(self) -> None:
        self._tried_at = self._clock()
        published = _read(await self._answer())
        self._failed = published is None
        if published is not None:
            self._published, self._fetched_at = published, self._tried_at

    async def _answer(self) -> bytes:
        """What the partner answered; empty where that is no list of keys."""
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
    """The keys by id; None where the answer lists none."""
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
