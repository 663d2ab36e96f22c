"""What a witness does with a checkpoint: it cosigns what goes on from what it saw.

The rules are those of C2SP tlog-witness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from broker.base.clock import Clock
from broker.formats.checkpoint import Checkpoint, NoCheckpoint
from broker.formats.cosignature import Cosigner
from broker.formats.merkle import ProofRefused, check_consistency
from broker.formats.signed_note import Line, NoteRefused, Verifier, opened, taken_apart
from broker.formats.witness_request import NoWitnessRequest, WitnessRequest
from broker.witness.memory import Memory, Seen

_log = structlog.get_logger()

_LARGEST = 2**62


class NotCosigned(Exception):
    """A request gets no cosignature.

    ``status`` is HTTP's, the text says why.  ``size`` is the one that the witness has, if the log named another.
    """

    def __init__(self, status: int, why: str, *, size: int | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.size = size


class Witness:
    """A key that cosigns, the keys of the logs that it watches, and what it saw of these."""

    def __init__(
        self,
        cosigner: Cosigner,
        logs: Iterable[Verifier],
        memory: Memory,
        clock: Clock,
        found_out: Callable[[Checkpoint, bytes, bytes], None],
    ) -> None:
        """Watch ``logs``; the name of a log's key is its origin, and a log may have several.

        ``found_out`` is told of a checkpoint and two notes of its size that show two histories, both signed by the log.
        """
        self._cosigner = cosigner
        self._logs: Mapping[str, Sequence[Verifier]] = _by_name(logs)
        self._memory = memory
        self._clock = clock
        self._found_out = found_out

    async def add(self, body: bytes) -> Line:
        """The cosignature of a checkpoint, which is kept as the log's newest before it is signed.

        Raises:
            NotCosigned: it is not cosigned.
        """
        try:
            request = WitnessRequest.decode(body)
            checkpoint = Checkpoint.read(taken_apart(request.note)[0])
        except (NoWitnessRequest, NoteRefused, NoCheckpoint) as error:
            raise NotCosigned(400, f"{error}.") from None
        self._insist_on_signature(checkpoint, request.note)
        if request.old > checkpoint.size or checkpoint.size > _LARGEST:
            raise NotCosigned(400, "The old size is beyond the checkpoint's, or that is beyond what a log may have.")
        await self._memory.let_pass(checkpoint, request.note, lambda seen: self._compare(request, checkpoint, seen))
        return self._cosigner.sign(checkpoint.text(), self._clock() // 1000)

    def _insist_on_signature(self, checkpoint: Checkpoint, note: bytes) -> None:
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            raise NotCosigned(404, "This witness doesn't watch that log.")
        if not any(_is_signed(note, key) for key in keys):
            raise NotCosigned(403, "No key that this witness knows of that log signed the checkpoint.")

    def _compare(self, request: WitnessRequest, checkpoint: Checkpoint, seen: Seen) -> None:
        """Refuse what doesn't go on from what was seen."""
        if request.old != seen.size:
            raise NotCosigned(409, "This witness has another size of that log.", size=seen.size)
        if checkpoint.size == seen.size and checkpoint.root != seen.root:
            self._found_out(checkpoint, seen.note, request.note)
            raise NotCosigned(409, "This witness has another root of that log at this size.", size=seen.size)
        try:
            check_consistency(seen.size, seen.root, checkpoint.size, checkpoint.root, request.proof)
        except ProofRefused as error:
            _log.error("witness.not_proved", origin=checkpoint.origin, size=checkpoint.size, seen=seen.size)
            raise NotCosigned(422, f"The checkpoint doesn't go on from what this witness has: {error}.") from None


def _by_name(keys: Iterable[Verifier]) -> Mapping[str, Sequence[Verifier]]:
    found: dict[str, list[Verifier]] = {}
    for key in keys:
        found.setdefault(key.name, []).append(key)
    return found


def _is_signed(note: bytes, key: Verifier) -> bool:
    try:
        opened(note, key)
    except NoteRefused:
        return False
    return True
