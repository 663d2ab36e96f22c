"""The checker itself: silent about what may happen, and it names each thing that must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.torture.checker import Kept, violations
from tests.torture.history import Arrival, History, Op


def lawful() -> tuple[History, dict[str, Any]]:
    """A lease, a use, a cut, a refused use, a submission; and what the database has of it."""
    history = History(
        [
            Op("lease", {"lease": "lse_1", "ends": 100.0}, 1.0, 1.1, "ok"),
            Op("use", use("p0"), 2.0, 2.2, "ok"),
            Op("cut", {"cut": "grt_1", "event": "grant.revoked"}, 3.0, 3.1, "ok"),
            Op("use", use("p1"), 3.2, 3.3, "refused"),
            Op("restore", {"cut": "grt_1"}, 4.0),
            Op("use", use("p2"), 5.0, 5.1, "ok"),
            Op("submit", {"intake": "int_1"}, 6.0, 6.1, "ok"),
            Op("token", {"offset": 3600}, 7.0, 7.1, "refused"),
            Op("token", {"offset": 0}, 7.0, 7.1, "ok"),
        ],
        [Arrival("p0", "key_1", "acme", 2.1), Arrival("p2", "key_1", "acme", 5.05)],
    )
    events = [
        {"kind": "lease.issued", "lease": "lse_1"},
        {"kind": "use.authorized", "lease": "lse_1"},
        {"kind": "grant.revoked", "grant": "grt_1"},
        {"kind": "use.authorized", "lease": "lse_1"},
        {"kind": "intake.submitted", "intake": "int_1"},
    ]
    versions = [
        {"credential": "crd_1", "number": 1, "state": "revoked"},
        {"credential": "crd_1", "number": 2, "state": "active"},
    ]
    return history, {"size": 5, "indices": range(5), "events": events, "versions": versions}


def use(probe: str) -> dict[str, Any]:
    return {"probe": probe, "lease": "lse_1", "organization": "acme", "relies_on": ["lse_1", "grt_1"]}


def test_a_lawful_history_has_no_violation() -> None:
    history, kept = lawful()
    assert violations(history, Kept(**kept)) == []


def test_a_request_without_an_answer_may_have_been_carried_out() -> None:
    history, kept = lawful()
    history.ops.append(Op("cut", {"cut": "lse_1", "event": "lease.revoked"}, 2.5))
    history.ops.append(Op("lease", {}, 2.5))
    assert violations(history, Kept(**kept)) == []


def test_a_lease_whose_time_was_over_has_nothing_to_be_cut() -> None:
    history, kept = lawful()
    history.ops.append(Op("cut", {"cut": "lse_1", "event": "lease.revoked", "state": "expired"}, 200.0, 200.1, "ok"))
    assert violations(history, Kept(**kept)) == []


def late_use(history: History, kept: dict[str, Any]) -> None:
    history.arrivals.append(Arrival("p1", "key_1", "acme", 3.25))
    kept["events"].append({"kind": "use.authorized", "lease": "lse_1"})


def late_arrival(history: History, kept: dict[str, Any]) -> None:
    history.arrivals[0] = Arrival("p0", "key_1", "acme", 3.1 + 1.6)
    history.ops = [op for op in history.ops if op.kind != "restore" and op.facts.get("probe") != "p2"]


def beyond_its_time(history: History, kept: dict[str, Any]) -> None:
    history.ops[0].facts["ends"] = 4.5


def another_tenants_key(history: History, kept: dict[str, Any]) -> None:
    history.arrivals[0] = Arrival("p0", "key_9", "globex", 2.1)


def lost_lease(history: History, kept: dict[str, Any]) -> None:
    kept["events"][0] = {"kind": "lease.issued", "lease": "lse_2"}


def lost_cut(history: History, kept: dict[str, Any]) -> None:
    kept["events"][2] = {"kind": "grant.created", "grant": "grt_1"}


def lost_submission(history: History, kept: dict[str, Any]) -> None:
    kept["events"][4] = {"kind": "intake.opened", "intake": "int_1"}


def use_off_the_record(history: History, kept: dict[str, Any]) -> None:
    kept["events"][3] = {"kind": "use.completed", "lease": "lse_1"}


def link_used_twice(history: History, kept: dict[str, Any]) -> None:
    kept["events"].append({"kind": "intake.submitted", "intake": "int_1"})


def hole(history: History, kept: dict[str, Any]) -> None:
    kept["indices"] = [0, 1, 3, 4]


def double_index(history: History, kept: dict[str, Any]) -> None:
    kept["indices"] = [0, 1, 2, 2, 3, 4]


def two_active(history: History, kept: dict[str, Any]) -> None:
    kept["versions"][0]["state"] = "active"


def wrong_clock_believed(history: History, kept: dict[str, Any]) -> None:
    history.ops[7].outcome = "ok"


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (late_use, "p1 used grt_1 0.150 s after it was cut"),
        (late_arrival, "p0 used grt_1 1.600 s after it was cut"),
        (beyond_its_time, "p2 used lease lse_1 after its time"),
        (another_tenants_key, "p0 of acme carried a key of globex"),
        (lost_lease, "lease lse_1 was acknowledged and is not on the record"),
        (lost_cut, "the cut of grt_1 was acknowledged and is not on the record"),
        (lost_submission, "a submission to int_1 was acknowledged and is not on the record"),
        (use_off_the_record, "lease lse_1: 2 uses reached upstream, 1 are on the record"),
        (link_used_twice, "the link of int_1 was used 2 times"),
        (hole, "the record's 4 indices are not 0 to 4"),
        (double_index, "the record's 6 indices are not 0 to 4"),
        (two_active, "crd_1 has 2 active versions"),
        (wrong_clock_believed, "a token was given for an assertion that is 3600 s off"),
    ],
)
def test_each_violation_is_found_and_named(plant: Callable[[History, dict[str, Any]], None], named: str) -> None:
    history, kept = lawful()
    plant(history, kept)
    assert violations(history, Kept(**kept)) == [named]
