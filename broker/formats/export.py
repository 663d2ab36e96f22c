"""Events in a file that shows that none is left out.

They are all of one organization's in a time, or all of the log.

::

    file     = header "\\n" begin "\\n" (event "\\n")… end "\\n"                  each line is JSON without spaces
    header   = {"format":"keybroker-export","v":1,"organization":"org_…"}      null: all of the log
    begin    = {"head":receipt,"edge":["…",…]}          what was before; null and [] where the log began
    event    = {"index":…,event}                        event: as in a receipt
             | {"index":…,"entry":"…"}                  one that the database holds no more, of a whole log
    end      = {"head":receipt}                         of one organization
             | {"checkpoint":"…"}                       of all of the log: the signed note

    head     = an event ``audit.head`` with the organization as its subject, and as its reason
               "count=" number ",root=" base64 ",to=" number

A head says that the organization has ``count`` events among the first ``to`` of the log, and the tree hash
(:mod:`broker.formats.merkle`) over their entries.  ``edge`` has the roots of whole subtrees of the tree of the first
head.  Adding the entries of all lines to these makes the root of the last head: so none is missing, and none is another
organization's.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from broker.formats.receipt import ShownEvent

_FORMAT: Final = "keybroker-export"
_REASON: Final = re.compile(r"count=(0|[1-9][0-9]{0,15}),root=([A-Za-z0-9+/]{43}=),to=(0|[1-9][0-9]{0,15})")

_encode = msgspec.json.Encoder().encode


class NoHead(ValueError):
    """Not what a head's event has as its reason."""


@dataclass(frozen=True, slots=True)
class OrganizationHead:
    """How many events an organization has among the first ``to`` of the log.

    ``root`` is the tree hash over their entries.
    """

    count: int
    root: bytes
    to: int

    def reason(self) -> str:
        """What the head's event has as its reason."""
        return f"count={self.count},root={base64.b64encode(self.root).decode()},to={self.to}"

    @classmethod
    def read(cls, reason: str) -> OrganizationHead:
        """The head of an event's reason.

        Raises:
            NoHead: it says something else.
        """
        match = _REASON.fullmatch(reason)
        if match is None:
            raise NoHead("not the reason of a head")
        return cls(int(match[1]), base64.b64decode(match[2]), int(match[3]))


def header(organization: str | None) -> bytes:
    """The first line."""
    return _line({"format": _FORMAT, "v": 1, "organization": organization})


def begin(head: bytes | None = None, edge: Sequence[bytes] = ()) -> bytes:
    """The second line: the receipt of the head that the events come after, and its tree's edge."""
    return _line({"head": head.decode() if head else None, "edge": [base64.b64encode(each).decode() for each in edge]})


def event(index: int, shown: ShownEvent) -> bytes:
    """The line of an event."""
    return _line({"index": index, **{name: value for name, value in msgspec.structs.asdict(shown).items() if value}})


def kept_no_more(index: int, entry: bytes) -> bytes:
    """The line of an event of which the database holds no more than its entry."""
    return _line({"index": index, "entry": base64.b64encode(entry).decode()})


def end(head: bytes) -> bytes:
    """The last line: the receipt of the head that has all of the events."""
    return _line({"head": head.decode()})


def end_of_log(checkpoint: bytes) -> bytes:
    """The last line of all of the log: the checkpoint that has all of the events."""
    return _line({"checkpoint": checkpoint.decode()})


def _line(value: object) -> bytes:
    return _encode(value) + b"\n"
