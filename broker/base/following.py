"""Find a secret in a stream however its characters are escaped.  Pure.

All ways of reading the text are followed at once, by shift-and (Baeza-Yates and Gonnet, 1992).  The state at each place
is a set of bits, one for each byte of each encoding of the secret.  A bit says that the text up to there may end with
that encoding up to that byte.  So the time is linear in the text, whatever the text is.

Only text that is near an escape, or that goes on from what was held back, is followed.  For the rest see
:meth:`broker.base.spellings.Spellings.unescaped`.
"""

from __future__ import annotations

from collections.abc import Sequence

from broker.base.escapes import ESCAPE, LONGEST, MARK, Reading, is_cut, readings
from broker.base.spellings import Span, Spellings
from broker.base.stretches import Stretch

_MARKS = frozenset(b"%\\&")


def found_in(text: bytes, spellings: Spellings) -> list[Span]:
    """Where a secret stands in a whole text."""
    stretches = spellings.near_escapes(text)
    escaped, _ = Following(spellings).look(text, 0, stretches)
    return [*escaped, *spellings.unescaped(text, stretches)]


class Following:
    """What one stream has shown of a secret so far.

    Each place from ``_begin`` on has three things: its state; how far before it the first of those spellings begins
    that it is within; and the escapes that end there, if any, with their length and reading.
    """

    def __init__(self, spellings: Spellings) -> None:
        self._of = spellings
        self._begin = 0
        self._states: list[int] = []
        self._back: list[int] = []
        self._escapes: list[list[Reading] | None] = []
        self._cut: list[int] = []  # where escapes begin that have not come whole

    def look(self, data: bytes, known: int, stretches: Sequence[Stretch]) -> tuple[list[Span], int]:
        """Read on.

        Args:
            data: what was held back, then what has come.
            known: how many bytes were held back.
            stretches: those of what has come, by :meth:`broker.base.spellings.Spellings.near_escapes`.

        Returns:
            Where in ``data`` the secret stands, other than unescaped in what has come.  And how many bytes at the end
            could be its beginning: they are held back.
        """
        found: list[Span] = []
        low = at = known
        if self._states:
            cut, self._cut = self._cut, []
            for begun in cut:
                self._branch(data, begun, found)
            low = self._followed(data, known, found)
            at = low + 1
        for begin, end in stretches:
            at = max(at, known + begin)
            while not self._states and at < known + end:
                at = self._entered(data, low, at, known + end)
                if self._states:
                    low = self._followed(data, at, found)
                    at = low + 1
        while not self._states:
            at = self._ending(data, low) if stretches else self._start(data, low, len(data))
            if not self._states:
                return found, 0
            low = self._followed(data, at, found)
        return found, self._held_back(len(data))

    def half(self) -> int | None:
        """Where the part of a spelling begins with which the stream ends.

        It lies in what is held back.  None if it is less than half of the spelling.
        """
        for at in (self._begin + len(self._states) - 1, *self._cut) if self._states else ():
            if self._states[at - self._begin] & self._of.halves:
                return max(at - self._back[at - self._begin], 0)
        return None

    def _entered(self, data: bytes, low: int, at: int, end: int) -> int:
        """The first place from ``at`` to ``end`` at which there is something to follow.

        That began at ``low`` or later.
        """
        places, escaped, firsts, since = self._of.places, self._of.escaped, self._of.firsts, low
        for found in (MARK if self._of.holds_marks else ESCAPE).finditer(data, at, end):
            if bits := escaped[found[0]]:
                here = found.start()
                # The byte before it shows of most escapes that they are not within a spelling.
                if (firsts | places[data[here - 1]] << 1 if here > since else firsts) & bits:
                    return self._start(data, since, here)
                since = here + 1
        return end

    def _ending(self, data: bytes, low: int) -> int:
        """The first place to follow at the end, where an escape may have come in part."""
        for mark in MARK.finditer(data, max(low, len(data) - LONGEST)):
            if is_cut(data, mark.start()):
                return self._start(data, low, mark.start())
        return self._start(data, low, len(data))

    def _start(self, data: bytes, low: int, at: int) -> int:
        """Begin to follow at ``at``.

        The text is unescaped up to there.  Encodings whose beginnings end there, if any, are followed.
        """
        if at == len(data) and (at == low or data[-1] not in self._of.joined):  # most texts end so
            return at
        begun, longest, length, alive = 0, 0, 0, -1
        while at - length > low:
            alive &= self._of.places[data[at - 1 - length]] << length
            if not alive:
                break
            whole = alive & (self._of.firsts << length)
            alive ^= whole
            length += 1
            if whole := whole & ~self._of.lasts:
                begun, longest = begun | whole, length
        if begun or at < len(data):
            self._begin, self._states, self._back, self._escapes = at, [begun], [longest], [None]
        return at

    def _followed(self, data: bytes, since: int, found: list[Span]) -> int:
        """Follow to the end of ``data``, or until nothing goes on; returns where.

        Nothing goes on if no spelling that began before the byte at that place may continue.
        """
        places, openings, states = self._of.places, self._of.openings, self._states
        index = since - self._begin
        for at in range(since, len(data)):
            here, state = data[at], states[index]
            goes_on = state << 1 & places[here] if state else 0
            bits = goes_on | openings[here]
            index += 1
            if bits:
                self._reach(index, 1, bits, self._back[index - 1] if goes_on else 0, data, found)
            if here in _MARKS:
                self._branch(data, at, found)
            if index >= len(states) - 1:
                self._extend(index)
                if not (self._cut or (states[index] and (goes_on or self._escapes[index]))):
                    self._states = []
                    return at
        return len(data)

    def _branch(self, data: bytes, at: int, found: list[Span]) -> None:
        """Read an escape in every way."""
        index, places = at - self._begin, self._of.places
        goes_on, firsts = self._states[index] << 1, self._of.firsts
        for reading in readings(data, at):
            value, size = reading
            if bits := (goes_on | firsts) & places[value]:
                to = index + size
                self._extend(to)
                self._escapes[to] = [*(self._escapes[to] or ()), reading]
                self._reach(to, size, bits, self._back[index] if goes_on & bits else 0, data, found)
        if len(data) - at < LONGEST and is_cut(data, at):
            self._cut.append(at)

    def _extend(self, to: int) -> None:
        more = to + 1 - len(self._states)
        if more > 0:
            self._states += [0] * more
            self._back += [0] * more
            self._escapes += [None] * more

    def _reach(self, to: int, size: int, bits: int, back: int, data: bytes, found: list[Span]) -> None:
        """Enter the state ``bits`` at ``to``, to which ``size`` bytes lead.

        ``back`` is how far before those bytes a spelling began.
        """
        self._extend(to)
        ended = bits & self._of.lasts
        self._states[to] |= bits ^ ended
        self._back[to] = max(self._back[to], back + size)
        while ended:
            bit = ended.bit_length() - 1
            ended ^= 1 << bit
            found.append((self._begin + self._source(data, bit, to), self._begin + to))

    def _source(self, data: bytes, bit: int, index: int) -> int:
        """Where the spelling that reaches ``bit`` at ``index`` begins, counted from ``_begin``."""
        firsts, joined, states = self._of.firsts, self._of.joined, self._states
        while index > 0:
            first = firsts >> bit & 1
            for read, size in (*(self._escapes[index] or ()), (data[self._begin + index - 1], 1)):
                before = index - size
                if read == joined[bit] and before >= 0 and (first or states[before] >> (bit - 1) & 1):
                    break
            else:
                break
            index = before
            if first:
                return index
            bit -= 1
        # Unescaped, and before what is followed.
        return index - bit - 2 + (firsts & ((2 << bit) - 1)).bit_length()

    def _held_back(self, size: int) -> int:
        """Keep what is within a spelling that may go on after ``size`` bytes, forget the rest."""
        begins = [at - self._back[at - self._begin] for at in self._cut]
        if self._states[-1]:
            begins.append(size - self._back[-1])
        kept = max(min(begins), size - self._of.longest)
        if kept > self._begin:
            for each in (self._states, self._back, self._escapes):
                del each[: kept - self._begin]
            self._begin = kept
        self._begin -= kept
        self._cut = [at - kept for at in self._cut]
        return size - kept
