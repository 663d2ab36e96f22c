"""Every list of the API, asked for with each of its filters, and for each with a hot, an ordinary and a rare value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, combinations
from typing import Any

from broker.base.clock import DAY_MS, now_ms
from broker.formats import ids
from tests.bench.growth.rows import Customers

AUDIT = "/v1/audit/events"
# Of what people make by hand, or files declare: there are few, whatever else grows.
FEW: Mapping[str, str] = {
    "/v1/operators": "people",
    "/v1/providers": "files",
    "/v1/webhooks": "made by hand",
    "/v1/sessions": "of one person",
    "/v1/passkeys": "of one person",
    "/v1/identities": "of one person",
    "/v1/sign-in-providers": "files",
    "/v1/credentials/{credential_id}/versions": "of one credential",
}
_OTHER = {"oldest": "newest", "newest": "oldest"}
# `after` is where to begin, as a cursor is, and `following` names another search.
_NO_FILTERS = {"limit", "cursor", "order", "after", "following", "Idempotency-Key"}

Filter = tuple[str, str, str]
"""A parameter, what kind of value it has, and the value."""


@dataclass(frozen=True, slots=True)
class PageAsked:
    """A page of a list: ``words`` say with which filters, and with what kind of value.

    ``order`` is empty where the list has one only, ``cursor`` on the first page.
    """

    path: str
    words: tuple[str, ...]
    filters: Mapping[str, str]
    order: str
    cursor: str = ""

    @property
    def name(self) -> str:
        """The path and what narrows it, in words that are the same for each database."""
        words = [*self.words, *(["newest"] if self.order == "newest" else []), *(["late"] if self.cursor else [])]
        return f"{self.path}?{'&'.join(words)}" if words else self.path

    @property
    def parameters(self) -> dict[str, str]:
        """What is sent."""
        more = {"order": self.order, "cursor": self.cursor}
        return {**self.filters, **{name: value for name, value in more.items() if value}}

    def late(self, following: str | None) -> PageAsked | None:
        """The page after this one, whose cursor that is, in the other order: the last but one.

        None where there is none, or no other order.
        """
        return replace(self, order=_OTHER[self.order], cursor=following) if self.order and following else None


def lists(openapi: Mapping[str, Any], customers: Customers) -> Iterator[PageAsked]:
    """The first pages of every list in an API's description.

    Each is asked for with each filter in each order, and with pairs of filters, the newest first.

    Raises:
        RuntimeError: a filter that nothing is known of.
    """
    for path, parameters in _lists(openapi):
        filters = [
            [(name, kind, value) for kind, value in _values(name, path, openapi, schema, customers)]
            for name, schema in parameters.items()
            if name not in _NO_FILTERS
        ]
        orders = _enum(parameters.get("order", {}), openapi) or [""]
        for order in orders:
            for chosen in ([], *([one] for one in chain(*filters))):
                yield _asked(path, chosen, order)
        for pair in _pairs(path, filters):
            yield _asked(path, pair, orders[-1])


def _pairs(path: str, filters: list[list[Filter]]) -> Iterator[list[Filter]]:
    """Each of the hot organization's; of the record each of any other."""
    for first, second in combinations(filters, 2):
        for pair in ([one, other] for one in first for other in second):
            if path == AUDIT or pair[0][:2] == ("organization", "hot"):
                yield pair


def _asked(path: str, chosen: list[Filter], order: str) -> PageAsked:
    words = tuple(f"{name}={kind}" for name, kind, _ in chosen)
    return PageAsked(path, words, {name: value for name, _, value in chosen}, order)


def _lists(openapi: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The paths of all that grow, and the schemas of their parameters."""
    for path, methods in openapi["paths"].items():
        parameters = {each["name"]: each["schema"] for each in methods.get("get", {}).get("parameters", ())}
        if "cursor" in parameters and path not in FEW:
            yield path, parameters


def _values(
    name: str, path: str, openapi: Mapping[str, Any], schema: Mapping[str, Any], customers: Customers
) -> Iterator[tuple[str, str]]:
    """Values that a filter is tried with, each with a word for it."""
    hot_organization, hot_credential = customers.hot
    known: Mapping[str, Mapping[str, str]] = {
        "organization": {"hot": hot_organization, "one": customers.slug(customers.ordinary)},
        "workload": {"hot": customers.job, "one": "job-00001"},
        "provider": {"hot": "raptor-comply", "one": "bench-b"},
        "issuer": {"hot": "github-actions", "none": "nobody"},
        "expiring_days": {"soon": "30"},
        "label": {"hot": "default", "one": "elsewhere"},
        "credential": {"hot": hot_credential, "one": customers.credential(customers.ordinary)},
        "lease": {"one": customers.leases[-1]},
        "operator": {"none": ids.new(ids.OperatorId)},
        "request": {"none": ids.new(ids.RequestId)},
        "actor": {"hot": customers.job, "none": ids.new(ids.OperatorId)},
        "name": {"many": "1", "none": "nobody has it"},
        "since": {"lately": _days_ago(1), "long": _days_ago(60)},
        "until": {"long_ago": _days_ago(80), "lately": _days_ago(1)},
    }
    if path == AUDIT and name == "kind":
        yield from {"hot": "use.authorized", "rare": "leak.found", "group": "lease.*", "rare_group": "leak.*"}.items()
        yield "empty_group", "webhook.*"
    elif enum := _enum(schema, openapi):
        yield from ((value, value) for value in (enum if len(enum) < 10 else [*enum[:1], "key_overdue"]))
    elif schema.get("type") == "boolean" or {"type": "boolean"} in schema.get("anyOf", ()):
        yield from (("true", "true"), ("false", "false"))
    elif name in known:
        yield from known[name].items()
    else:
        raise RuntimeError(f"{path}: {name} is a new filter; say here which values it is tried with")


def _enum(schema: Mapping[str, Any], openapi: Mapping[str, Any]) -> list[str]:
    if "$ref" in schema:
        schema = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "enum" in schema:
        return list(schema["enum"])
    return list(chain(*(_enum(each, openapi) for each in schema.get("anyOf", ()))))


def _days_ago(days: int) -> str:
    return datetime.fromtimestamp((now_ms() - days * DAY_MS) / 1000, UTC).isoformat()
