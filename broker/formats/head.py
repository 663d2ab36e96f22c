"""How far the record was, kept outside of the database: it shows if one was restored.

::

    {"v": 1, "series": …, "size": …, "time": …, "entry": "…"}        JSON, members in this order

``series`` is when the present series of the index began, in milliseconds since the epoch; it is 0 in the first.
``size`` is how many events the database held.  ``time`` is that of the last one, in milliseconds.  ``entry`` is the
hexadecimal form of its commitment (:mod:`broker.formats.audit_event`): it tells apart two histories of one length.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

_VERSION = 1
_NAMES = ["v", "series", "size", "time", "entry"]
# No time that people name, nor number of events, is larger. Whoever writes where a head is kept may write any number.
_LARGEST = 2**47


class Unreadable(ValueError):
    """Not a head in this form."""

    @classmethod
    def kept_in(cls, where: str, fix: str) -> Unreadable:
        """The error for what is kept ``where``, in words for people.

        ``fix`` is what to do with it if nothing was restored.
        """
        return cls(
            f"{where} is not what the broker keeps there. It shows whether the database was restored from a backup. "
            f"Where you know that it was not, {fix}; where it was, run `broker restored`."
        )


@dataclass(frozen=True, slots=True)
class Head:
    """How far the record was."""

    series: int
    size: int
    time: int
    entry: bytes

    def is_after(self, other: Head) -> bool:
        """Whether more had happened by then than by ``other``."""
        return (self.series, self.size) > (other.series, other.size)

    def encode(self) -> str:
        """The text that is kept."""
        return json.dumps(
            dict(zip(_NAMES, (_VERSION, self.series, self.size, self.time, self.entry.hex()), strict=True))
        )

    @classmethod
    def decode(cls, text: str) -> Head:
        """The head of a kept text.

        Raises:
            Unreadable: the text is no head, is cut off, or is of an unknown version.
        """
        try:
            found = json.loads(text)
            if list(found) != _NAMES or found["v"] != _VERSION:
                raise Unreadable("not a head of a known version")
            series, size, time = (int(found[name]) for name in ("series", "size", "time"))
            if not all(0 <= number < _LARGEST for number in (series, size, time)):
                raise Unreadable("not a head that there can be")
            return cls(series, size, time, bytes.fromhex(found["entry"]))
        except (ValueError, TypeError) as error:
            raise Unreadable(f"not a head ({type(error).__name__})") from None
