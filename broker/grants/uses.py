"""What a grant was used for, as the record has it; rules learnt from it and tried on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from broker.audit import archives, pruned
from broker.audit.inside import classes
from broker.audit.search import Filter, search
from broker.base.clock import DAY_MS, Millis, later
from broker.base.db import Database, Scope
from broker.base.errors import Conflict
from broker.formats.ids import UseId
from broker.grants.commands import grant_in
from broker.grants.learning import METHODS, Learning, Lost, lost
from broker.grants.policy import Grant, refuse_call
from broker.grants.tables import GrantRow
from broker.parts import Parts
from broker.providers.rule import Rule

DAYS = 90
# Events that are read at most, and so many at once.
EVENTS_MOST = 100_000
PAGE = 1_000
# A longer path was cut on the record.
_CUT = 1_000
EXAMPLES = 20


class GrantUnused(Conflict):
    """Nothing was done under the grant in these days, so there is nothing to narrow it to."""

    code = "grant_unused"


class RecordNotWhole(Conflict):
    """Some of what was done under the grant isn't in this database any more, or it is too much."""

    code = "record_not_whole"


class UsesRefused(Conflict):
    """The rules would have refused what the grant was used for."""

    code = "uses_refused"


class Use(NamedTuple):
    """A call that was made under the grant.

    ``path`` is below the base URL, None if nobody can tell it any more.  ``query`` has the names of its parameters.
    ``succeeded`` is False if the upstream refused it or didn't answer.
    """

    method: str
    path: str | None
    query: str
    succeeded: bool

    def call(self) -> _Call:
        """It, as rules look at it."""
        return _Call(self.method, self.path or "", self.query)


class _Call(NamedTuple):
    method: str
    path: str
    query: str


class Refused(NamedTuple):
    """A use that rules would have refused."""

    method: str
    path: str


@dataclass(slots=True)
class Trial:
    """What rules would have done to the uses of some days.

    ``uses`` succeeded, or nobody knows whether they did; of ``unreadable`` ones the path isn't known any more.  The
    rules would have refused ``refused`` of them, of which there are ``examples``.  Of ``failed`` uses they would have
    refused ``failed_refused``.
    """

    uses: int = 0
    unreadable: int = 0
    failed: int = 0
    refused: int = 0
    failed_refused: int = 0
    examples: list[Refused] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tightened:
    """Rules for a grant, and what they would have done to its uses since ``since``.

    ``present`` are the grant's own rules; ``lost`` has examples of what these allow and the new ones don't.
    """

    since: Millis
    present: tuple[Rule, ...]
    rules: tuple[Rule, ...]
    trial: Trial
    lost: Sequence[Lost]

    def insist_on_uses(self) -> None:
        """Refuse rules that would have refused a use; raises UsesRefused."""
        if self.trial.refused:
            first = self.trial.examples[0]
            raise UsesRefused(
                f"{self.trial.refused} uses would have been refused, the first of them {first.method} {first.path}. No "
                "rule can allow OPTIONS, or a parameter that names another method, such as `_method`; for all else, "
                "name wider rules."
            )


async def tightened(parts: Parts, row: GrantRow, days: int, rules: Sequence[Rule] | None = None) -> Tightened:
    """The smallest rules that cover the grant's uses of so many days, tried on these.

    If ``rules`` are given, these are tried instead.

    Raises:
        GrantUnused, RecordNotWhole: nothing can be said.
    """
    since = max(row.created_at, later(parts.clock(), -days * DAY_MS))
    history = _History(parts.db, row, _base_path(parts, row), since)
    await history.insist_on_whole(days)
    present = history.grant.rules
    proposed = tuple(rules) if rules is not None else await _learnt(history, present)
    if not proposed:
        raise GrantUnused(
            f"Nothing was done under this grant in the last {days} days, so nothing is left of it; take it back "
            f"(`broker grant revoke {row.id}`), or look at more days."
        )
    trial = await _tried(history, proposed)
    return Tightened(since, present, proposed, trial, lost(present, proposed))


async def _learnt(history: _History, present: tuple[Rule, ...]) -> tuple[Rule, ...]:
    learning, grant = Learning(present), history.grant
    async for use in history.uses():
        # What the grant doesn't allow any more, or no rule can, doesn't widen it.
        method = next((known for known in METHODS if known == use.method), None)
        if method is None or not use.succeeded:
            continue
        if use.path is None:
            learning.keep(method)
        elif refuse_call(grant, use.call()) is None:
            learning.add(method, use.path)
    return await asyncio.to_thread(learning.rules)


async def _tried(history: _History, rules: tuple[Rule, ...]) -> Trial:
    """Decide on every use under the rules, by the policy's own function."""
    trial, present = Trial(), history.grant
    grant = replace(present, rules=rules)
    async for use in history.uses():
        refused = use.path is not None and refuse_call(grant, use.call()) is not None
        if not use.succeeded:
            trial.failed += 1
            trial.failed_refused += refused
            continue
        trial.uses += 1
        trial.unreadable += use.path is None
        if refused and refuse_call(present, use.call()) is None:
            trial.refused += 1
            if len(trial.examples) < EXAMPLES:
                trial.examples.append(Refused(use.method, use.path or ""))
    return trial


@dataclass(frozen=True, slots=True)
class _History:
    """The uses of a grant since a time; they are read in pages and never held whole."""

    db: Database
    row: GrantRow
    base_path: str
    since: Millis

    @property
    def grant(self) -> Grant:
        """As policy sees it now."""
        return grant_in(self.row)

    async def insist_on_whole(self, days: int) -> None:
        """Refuse days of which not all uses are here; raises RecordNotWhole."""
        async with self.db.read(Scope.of(self.row.organization_id)) as session:
            elsewhere = await archives.elsewhere(session, self.since)
            gone = await pruned.any_of(session, "uses", self.since)
        if elsewhere is not None or gone:
            what = "archived" if elsewhere is not None else "pruned, as they are kept so many days"
            raise RecordNotWhole(
                f"Some uses of the last {days} days were {what}, so nobody can tell here what they needed; ask for "
                "fewer days (--days)."
            )

    async def uses(self) -> AsyncIterator[Use]:
        """All that is known of each use.

        One whose end isn't on the record counts as one that succeeded.
        """
        opened: dict[UseId, Use] = {}
        async for core, personal in self._events():
            kind, use = core["kind"], core["use"]
            if kind == "use.authorized":
                opened[use] = self._use(core, personal)
            elif (found := opened.pop(use, None)) is not None:
                yield found._replace(succeeded=kind != "use.completed" or _succeeded(core))
        for found in opened.values():
            yield found

    async def _events(self) -> AsyncIterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        scope, after, count = Scope.of(self.row.organization_id), None, 0
        while True:
            wanted = Filter(
                organization=self.row.organization_id,
                workload=self.row.workload_id,
                kind="use.*",
                since=self.since,
                after=after,
            )
            found = await search(self.db, scope, wanted, PAGE)
            for event in found:
                if event.core.get("grant") == self.row.id and event.core.get("use"):
                    yield event.core, event.personal or {}
            count += len(found)
            if len(found) < PAGE:
                return
            if count >= EVENTS_MOST:
                raise RecordNotWhole(f"There are more than {EVENTS_MOST:,} events of that time; ask for fewer days.")
            after = found[-1].index

    def _use(self, core: Mapping[str, Any], personal: Mapping[str, Any]) -> Use:
        target = core["target"]
        names = [*target.get("query", ()), *personal.get("query", "").split(", ")]
        query = "&".join(quote(name) for name in names if name)
        return Use(target["method"], self._below(personal.get("path", "")), query, succeeded=True)

    def _below(self, path: str) -> str | None:
        """The path below the base URL; None if it was erased or cut, or is of another URL."""
        if not path or len(path) >= _CUT or not path.startswith(self.base_path):
            return None
        below = path[len(self.base_path) :] or "/"
        return below if below.startswith("/") else None


def _succeeded(core: Mapping[str, Any]) -> bool:
    status = core.get("outcome", {}).get("status")
    return status is not None and f"{status // 100}xx" in classes("succeeded")


def _base_path(parts: Parts, row: GrantRow) -> str:
    return urlsplit(parts.catalog.get(row.provider).host.base_url).path
