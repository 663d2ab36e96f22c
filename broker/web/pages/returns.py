"""Where people are led once they have signed in: to a page of ours, whatever a link says."""

from __future__ import annotations

import re
from typing import Final

HOME: Final = "/console"
_LONGEST: Final = 500
# Pages of the console, and those that let a command line in; the one at this machine with what it was opened with.
_OURS: Final = re.compile(r"/console(?:/[A-Za-z0-9_-]+)*|/login/device|/login/cli\?[A-Za-z0-9_=&.~-]+")


def target(asked: str) -> str:
    """The path to lead to: ``asked`` if it is of a page of ours, else the console's first."""
    return asked if len(asked) <= _LONGEST and _OURS.fullmatch(asked) else HOME
