"""Where a text holds so many bytes of a spelling in a row that one may stand there.  Pure.

Binary data holds an escape's sign every hundred bytes, and hardly ever such a stretch.  So only every few bytes are
looked at, at the speed of searching for one byte.  The samples within a stretch find it.  It may be told longer than it
is by as much as lies between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# Of random bytes, one in three is among those of spellings.
_SAMPLES = 8


Stretch = tuple[int, int]


class Stretches:
    """Stretches of at least ``least`` bytes (one or more), each of them in ``alphabet``."""

    def __init__(self, alphabet: bytes, least: int) -> None:
        self._step = max(least // _SAMPLES, 1)
        self._enough = b"\1" * (least // self._step)
        table = bytearray(256)
        for byte in set(alphabet):
            table[byte] = 1
        self._table = bytes(table)

    def of(self, text: bytes) -> Sequence[Stretch]:
        """Where the stretches of ``text`` begin and end, in order.

        That with which ``text`` ends is among them, however short it is.
        """
        return list(self._of(text))

    def _of(self, text: bytes) -> Iterator[Stretch]:
        step, size = self._step, len(text)
        samples = text[::step].translate(self._table)
        end = 0
        while (begin := samples.find(self._enough, end)) >= 0:
            end = samples.find(b"\0", begin)
            if end < 0:
                yield max((begin - 1) * step + 1, 0), size
                return
            yield max((begin - 1) * step + 1, 0), end * step
        yield samples.rfind(b"\0") * step + 1 if b"\0" in samples else 0, size
