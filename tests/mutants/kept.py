"""The kept list: one file a room, ``[[mutant]]`` tables of what a line is, what it becomes, and who must see it."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent


class Stale(Exception):
    """The list doesn't fit the code any more."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one line.

    ``line`` is all or part of a line, present once in ``file``, or once behind ``after`` where it is in the file more
    often.  ``tests`` are files below ``tests``, or ``file::test``.  ``select`` is pytest's ``-k``.  ``survives`` says
    why no test can see it; empty where one must.
    """

    file: str
    line: str
    becomes: str
    tests: tuple[str, ...]
    after: str = ""
    select: str = "not postgresql"
    survives: str = ""

    @property
    def name(self) -> str:
        """What it is called: the file, and a few letters of its own."""
        told = "\0".join((self.file, self.after, self.line, self.becomes))
        place = self.file.removeprefix("broker/").removesuffix(".py")
        return f"{place}:{hashlib.sha256(told.encode()).hexdigest()[:6]}"

    def applied(self, text: str) -> str:
        """The file's text with the change; raises Stale where it can't be made in exactly one place."""
        if "\n" in self.line + self.becomes:
            raise Stale(f"{self.name}: is of more than one line")
        if self.after and text.count(self.after) != 1:
            raise Stale(f"{self.name}: {self.after!r} stands {text.count(self.after)} times in {self.file}")
        begin = text.index(self.after) + len(self.after) if self.after else 0
        found = text.count(self.line, begin)
        if found < 1 or (found > 1 and not self.after):
            raise Stale(f"{self.name}: {self.line!r} stands {found} times in {self.file}")
        at = text.index(self.line, begin)
        changed = text[:at] + self.becomes + text[at + len(self.line) :]
        try:
            compile(changed, self.file, "exec")
        except SyntaxError as error:
            raise Stale(f"{self.name}: {error.msg}") from None
        return changed

    @property
    def room(self) -> str:
        """Whose code it changes."""
        return self.file.split("/")[1]

    @property
    def control(self) -> Mutant:
        """No change at all, before the same tests: they have to pass."""
        return replace(self, becomes=self.line, survives="nothing is changed")

    def state(self) -> str:
        """What a result holds for: this change, the file's text and the tests'."""
        digest = hashlib.sha256(repr(asdict(self)).encode())
        for path in (ROOT / self.file, *dict.fromkeys(ROOT / "tests" / one.partition("::")[0] for one in self.tests)):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def kept() -> list[Mutant]:
    """Every mutant, in the lists' order."""
    given = [one for path in sorted(LISTS.glob("*.toml")) for one in tomllib.loads(path.read_text())["mutant"]]
    return [Mutant(**{**one, "tests": tuple(one["tests"])}) for one in given]
