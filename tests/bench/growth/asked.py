"""Every list of the API, asked for with each of its filters, and for each with a hot, an ordinary and a rare value."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, combinations
from typing import Any

from broker.base.clock import DAY_MS, now_ms
from broker.formats import ids
from tests.bench.growth.rows import Customers

AUDIT = "/v1/audit/events"
# What has a cursor of the id of its last row: the lists, with the kind of their rows' ids.
_KINDS: Mapping[str, Any] = {
    "/v1/organizations": ids.OrganizationId,
    "/v1/credentials": ids.CredentialId,
    "/v1/grants": ids.GrantId,
    "/v1/leases": ids.LeaseId,
    "/v1/intakes": ids.IntakeId,
    "/v1/rotations": ids.RotationId,
    "/v1/exposures": ids.ExposureId,
    "/v1/workloads": ids.WorkloadId,
    "/v1/notices": ids.NoticeId,
    "/v1/notices/deliveries": ids.DeliveryId,
    "/v1/leaks/findings": ids.FindingId,
}
# Of what people make by hand, or files declare: there are few, whatever else grows.
FEW: Mapping[str, str] = {
    "/v1/operators": "people",
    "/v1/providers": "files",
    "/v1/webhooks": "made by hand",
    "/v1/credentials/{credential_id}/versions": "of one credential",
}
_NO_FILTERS = {"limit", "cursor", "order", "Idempotency-Key"}

Filter = tuple[str, str, str]
"""A parameter, what kind of value it has, and the value."""


@dataclass(frozen=True, slots=True)
class PageAsked:
    """One page of a list: ``name`` says with which filters, ``parameters`` are what is sent."""

    path: str
    name: str
    parameters: Mapping[str, str]


def lists(openapi: Mapping[str, Any], customers: Customers) -> Iterator[PageAsked]:
    """Every list in an API's description.

    It is asked for with each filter, first and late, in each order; and with pairs of filters, the newest first.

    Raises:
        RuntimeError: a list or a filter that nothing is known of.
    """
    for path, methods in openapi["paths"].items():
        parameters = {each["name"]: each["schema"] for each in methods.get("get", {}).get("parameters", ())}
        if "cursor" not in parameters or path in FEW:
            continue
        if path != AUDIT and path not in _KINDS:
            raise RuntimeError(f"{path}: is a new list; say here what its rows' ids are, or that they are few")
        filters = [
            [(name, kind, value) for kind, value in _values(name, path, openapi, schema, customers)]
            for name, schema in parameters.items()
            if name not in _NO_FILTERS
        ]
        orders = _enum(parameters.get("order", {}), openapi) or [""]
        for order in orders:
            for chosen in ([], *([one] for one in chain(*filters))):
                yield _asked(path, chosen, order, "")
                yield _asked(path, chosen, order, _late(path, order, customers))
        for pair in _pairs(path, filters):
            yield _asked(path, pair, orders[-1], "")


def _pairs(path: str, filters: list[list[Filter]]) -> Iterator[list[Filter]]:
    """Each of the hot organization's; of the record each of any other."""
    for first, second in combinations(filters, 2):
        for pair in ([one, other] for one in first for other in second):
            if path == AUDIT or pair[0][:2] == ("organization", "hot"):
                yield pair


def _asked(path: str, chosen: list[Filter], order: str, cursor: str) -> PageAsked:
    words = [f"{name}={kind}" for name, kind, _ in chosen]
    words += ["newest"] if order == "newest" else []
    words += ["late"] if cursor else []
    parameters = {name: value for name, _, value in chosen}
    parameters |= {"order": order} if order else {}
    parameters |= {"cursor": cursor} if cursor else {}
    return PageAsked(path, f"{path}?{'&'.join(words)}" if words else path, parameters)


def _late(path: str, order: str, customers: Customers) -> str:
    """The cursor of a page that is one of the last."""
    if path == AUDIT:
        place = str(1_000 if order == "newest" else customers.events - 1_000)
    elif path == "/v1/leases":
        place = customers.leases[100 if order == "newest" else -100]
    else:
        at = now_ms() - (375 * DAY_MS if order == "newest" else 0)
        place = ids.of(_KINDS[path], at.to_bytes(6) + b"\x70\0\x80" + bytes(7))
    return base64.urlsafe_b64encode(place.encode()).decode()


def _values(
    name: str, path: str, openapi: Mapping[str, Any], schema: Mapping[str, Any], customers: Customers
) -> Iterator[tuple[str, str]]:
    """Values that a filter is tried with, each with a word for it."""
    hot_organization, hot_credential = customers.hot
    known: Mapping[str, Mapping[str, str]] = {
        "organization": {"hot": hot_organization, "one": customers.slug(customers.ordinary)},
        "workload": {"hot": customers.job, "one": "job-00001"},
        "provider": {"hot": "raptor-comply", "one": "bench-b"},
        "label": {"hot": "default", "one": "elsewhere"},
        "credential": {"hot": hot_credential, "one": customers.credential(customers.ordinary)},
        "lease": {"one": customers.leases[-1]},
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
