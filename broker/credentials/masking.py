"""Mask keys in texts that people send along, such as where a key was found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from broker.base.errors import NotFound
from broker.base.secret import Secret
from broker.credentials.tables import VersionRow
from broker.keystore.internal import InternalKeys
from broker.providers.catalog import Catalog
from broker.providers.pattern import LONGEST
from broker.providers.recognition import MASK


@dataclass(frozen=True, slots=True)
class Masking:
    """Masks what looks like a declared provider's key, and keys that are known."""

    catalog: Catalog
    keys: InternalKeys

    def masked(self, text: str, about: Iterable[VersionRow]) -> str:
        """``text`` without keys: what looks like one, and those of the versions that it is about.

        Some providers' keys have a form that any word has.  Of these only the key itself is masked.
        """
        rows = list(about)
        while (shorter := self._once(text, rows)) != text:
            text = shorter
        return text

    def _once(self, text: str, rows: Iterable[VersionRow]) -> str:
        text = self.catalog.masked(text)
        for row in rows:
            text = self._without(text, row)
        return text

    def _without(self, text: str, row: VersionRow) -> str:
        """``text`` without the key of ``row``.

        The key is not known here: what ends as it does is compared by fingerprint.
        """
        end = _after(text, row.last4, 0)
        while end:
            found = (text[max(end - length, 0) : end] for length in self._lengths(row.provider, end))
            key = next((one for one in found if self._fingerprint(one) == row.fingerprint), "")
            if key:
                text, end = text.replace(key, MASK), 0
            end = _after(text, row.last4, end)
        return text

    def _lengths(self, provider: str, most: int) -> range:
        try:
            shape = self.catalog.get(provider).key.shape
        except NotFound:  # no longer declared
            return range(1, min(LONGEST, most) + 1)
        return range(shape.shortest, min(shape.longest, most) + 1)

    def _fingerprint(self, text: str) -> str:
        return self.keys.fingerprint(Secret(text))


def _after(text: str, ending: str, start: int) -> int:
    """Where the next ``ending`` ends that begins at ``start`` or later; 0 if there is none.

    Overlapping ones count too.
    """
    at = text.find(ending, max(start - len(ending) + 1, 0)) if ending else -1
    return at + len(ending) if at >= 0 else 0
