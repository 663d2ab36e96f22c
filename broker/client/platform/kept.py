"""Tokens that the platform keeps for its job: in a file, or in a variable."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from broker.client.platform.claims import unverified
from broker.client.platform.source import TOKEN_MAX, addressed, jwt, no_token

# spiffe-helper empties its file and writes it again, so a reader may come between.
_LOOKS: Final = 5
_APART_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class InFile:
    """A file that the platform replaces in one step, as Kubernetes does with a projected volume."""

    path: str

    @property
    def withheld(self) -> frozenset[str]:
        """None: a file's permissions say who reads it."""
        return frozenset()

    def token(self, audience: str) -> str:
        """What the file holds now; raises CallFailed."""
        return addressed(jwt(_content(self.path), self.path), audience, self.path)


@dataclass(frozen=True, slots=True)
class InSpiffeFile:
    """The JWT-SVID that spiffe-helper writes, over what was there."""

    path: str
    wait: Callable[[float], None] = field(default=time.sleep, repr=False)

    @property
    def withheld(self) -> frozenset[str]:
        """None: as of any file."""
        return frozenset()

    def token(self, audience: str) -> str:
        """What the file holds once it is whole; raises CallFailed."""
        found = _content(self.path)
        for _ in range(_LOOKS):
            if unverified(found) is not None:
                break
            self.wait(_APART_S)
            found = _content(self.path)
        return addressed(jwt(found, self.path), audience, self.path)


@dataclass(frozen=True, slots=True)
class InVariable:
    """A variable of the job's environment."""

    name: str
    environment: Mapping[str, str] = field(repr=False)

    @property
    def withheld(self) -> frozenset[str]:
        """The variable."""
        return frozenset({self.name})

    def token(self, audience: str) -> str:
        """What the variable holds; raises CallFailed."""
        found = self.environment.get(self.name)
        if not found:
            raise no_token(f"The variable {self.name} is not set; the platform's token for this broker belongs there.")
        where = f"the variable {self.name}"
        return addressed(jwt(found, where), audience, where)


def _content(path: str) -> str:
    """The text of a file, if it is no longer than a token may be."""
    try:
        # A pipe that nobody writes to would be waited for without an end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise no_token(f"{path} is not a file; name the one that has the platform's token.")
            return os.read(descriptor, TOKEN_MAX + 2).decode("latin-1")
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "its name is none"
        raise no_token(f"{path}: {cause}; the platform's token for this broker belongs there.") from None
