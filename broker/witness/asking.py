"""Ask a witness to cosign a checkpoint (C2SP tlog-witness)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from broker.base.outbound import Outbound, Unreachable
from broker.formats.cosignature import cosigned_at
from broker.formats.signed_note import Line, NoteRefused, taken_apart
from broker.formats.witness_request import SIZE_MEDIA_TYPE, NoWitnessRequest, WitnessRequest, size_of
from broker.wire.client import Unreadable
from broker.witness.listed import Listed

# A witness that takes longer is asked again at the next turn.
_PATIENCE_S = 5.0
_ANSWER_MOST = 65_536
# It may have another size than was thought, and get another one while it is asked.
_TRIES = 3


class Silent(Exception):
    """A witness didn't cosign, and doesn't say that it has another history; the text says why."""


class Contradicts(Exception):
    """A witness has another history of the log than this one, at ``size``, or a larger one."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


@dataclass(frozen=True, slots=True)
class Shown:
    """A checkpoint that is shown to witnesses.

    ``proof`` gives what proves that it goes on from a size.
    """

    size: int
    note: bytes
    proof: Callable[[int], Awaitable[Sequence[bytes]]]


async def cosigned(outbound: Outbound, witness: Listed, shown: Shown, old: int) -> Line:
    """The witness's cosignature, verified; ``old`` is the size that it is taken to have.

    Raises:
        Silent: it gave none. Contradicts: it has another history.
    """
    try:
        async with asyncio.timeout(_PATIENCE_S):
            for _ in range(_TRIES):
                answer = await _ask(outbound, witness, shown, old)
                if isinstance(answer, Line):
                    return answer
                if answer > shown.size or answer == old == shown.size:
                    raise Contradicts(answer)
                old = answer
    except TimeoutError:
        raise Silent("it took too long") from None
    raise Silent("its size changes all the time")


async def size_at(outbound: Outbound, witness: Listed, shown: Shown) -> int:
    """The size that the witness has; raises Silent if it doesn't say."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            answer = await _ask(outbound, witness, shown, 0)
    except TimeoutError:
        raise Silent("it took too long") from None
    return shown.size if isinstance(answer, Line) else answer


async def _ask(outbound: Outbound, witness: Listed, shown: Shown, old: int) -> Line | int:
    """The witness's cosignature, or the size that it has.

    Raises:
        Silent: it answered something else. Contradicts: the proof from ``old`` doesn't hold for it.
    """
    body = WitnessRequest(old, tuple(await shown.proof(old)), shown.note).encode()
    status, media_type, answer = await _posted(outbound, witness, body)
    if status == 200:
        return _own_line(witness, shown.note, answer)
    if status == 409 and media_type == SIZE_MEDIA_TYPE:
        try:
            return size_of(answer)
        except NoWitnessRequest:
            raise Silent("it answered 409 without a size") from None
    if status == 409 and old == shown.size:
        return old
    if status == 422 and old:
        raise Contradicts(old)
    raise Silent("it doesn't watch this log" if status == 404 else f"it answered {status}")


async def _posted(outbound: Outbound, witness: Listed, body: bytes) -> tuple[int, str, bytes]:
    headers = [("Accept-Encoding", "identity"), ("Content-Type", "text/plain"), ("User-Agent", "keybroker")]
    url, answer = f"{witness.url}/add-checkpoint", bytearray()
    try:
        async with outbound.call("POST", url, headers=headers, body=body, private=witness.private) as response:
            async for part in response.chunks():
                answer += part
                if len(answer) > _ANSWER_MOST:
                    raise Silent("it answered too much")
            return response.status, response.headers.get("content-type", ""), bytes(answer)
    except (Unreachable, Unreadable) as error:
        raise Silent(f"it can't be reached ({error})") from None


def _own_line(witness: Listed, note: bytes, answer: bytes) -> Line:
    """The one line of its own that a witness sent; those of others are ignored."""
    try:
        cosigned_at(note + answer, witness.key)
        lines = taken_apart(note + answer)[1]
    except NoteRefused as error:
        raise Silent(f"it sent no cosignature of its own ({error})") from None
    return next(line for line in reversed(lines) if (line.name, line.id) == (witness.key.name, witness.key.id))
