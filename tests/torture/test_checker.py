"""The checker itself: silent about what may happen, and it names each thing that must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.torture.checker import Kept, violations
from tests.torture.history import Arrival, History, Op
from tests.torture.trial import CUTS, missing


def on_record(event: str, **subject: Any) -> dict[str, Any]:
    return {"event": event, "subject": subject}


def cut(what: str, event: str, at: float, **subject: Any) -> Op:
    return Op("cut", {"cut": what, **on_record(event, **subject)}, at, at + 0.1, "ok")


def lawful() -> tuple[History, dict[str, Any]]:
    """Leases of two versions, uses, a reveal, cuts, refusals, a submission; and what the database has of it."""
    history = History(
        [
            Op("lease", {"lease": "lse_1", "ends": 4.5, **on_record("lease.issued", lease="lse_1")}, 1.0, 1.1, "ok"),
            Op("use", use("p0"), 2.0, 2.2, "ok"),
            cut("grt_1", "grant.revoked", 3.0, grant="grt_1"),
            Op("use", use("p1"), 3.2, 3.3, "refused"),
            Op("reveal", {"lease": "lse_2", "relies_on": ["lse_2", "crd_1/2"]}, 4.0, 4.1, "ok"),
            Op("lease", {"lease": "lse_3", "ends": 100.0}, 5.0, 5.1, "ok"),
            Op("use", use("p2", "lse_3", "crd_1/2"), 5.2, 5.4, "ok"),
            Op("submit", {"intake": "int_1", **on_record("intake.submitted", intake="int_1")}, 6.0, 6.1, "ok"),
            Op("submit", {"intake": "int_1"}, 6.0, 6.2, "refused"),
            cut("crd_1/1", "credential.version.revoked", 6.5, credential="crd_1", version=1),
            cut("lse_2", "lease.revoked", 6.6, lease="lse_2"),
            Op("reveal", {"lease": "lse_2", "relies_on": ["lse_2", "crd_1/2"]}, 6.8, 6.9, "refused"),
            Op("use", use("p3"), 6.9, 7.0, "refused"),
            Op("token", {"offset": 3600}, 7.0, 7.1, "refused"),
            Op("token", {"offset": 0}, 7.0, 7.1, "ok"),
            Op("made", on_record("grant.created", grant="grt_2"), 8.0, 8.1, "ok"),
        ],
        [Arrival("p0", "key_1", "acme", 2.1), Arrival("p2", "key_2", "acme", 5.3)],
    )
    events = [
        {"kind": "lease.issued", "lease": "lse_1"},
        {"kind": "use.authorized", "lease": "lse_1"},
        {"kind": "grant.revoked", "grant": "grt_1"},
        {"kind": "use.authorized", "lease": "lse_3"},
        {"kind": "intake.submitted", "intake": "int_1"},
        {"kind": "credential.version.revoked", "credential": "crd_1", "version": 1},
        {"kind": "lease.revoked", "lease": "lse_2"},
        {"kind": "grant.created", "grant": "grt_2"},
    ]
    versions = [
        {"credential": "crd_1", "number": 1, "state": "revoked", "intake": None, "key": "key_1"},
        {"credential": "crd_1", "number": 2, "state": "active", "intake": "int_1", "key": "key_2"},
    ]
    over = {"grant.revoked": frozenset({"grt_1"}), "lease.revoked": frozenset({"lse_2"})}
    return history, {"size": 8, "indices": range(8), "events": events, "versions": versions, "over": over}


def use(probe: str, lease: str = "lse_1", *relies_on: str) -> dict[str, Any]:
    return {"probe": probe, "lease": lease, "organization": "acme", "relies_on": [lease, *(relies_on or ("grt_1",))]}


def op_of(history: History, **facts: Any) -> Op:
    return next(op for op in history.ops if facts.items() <= op.facts.items())


def test_a_lawful_history_has_no_violation() -> None:
    history, kept = lawful()
    assert violations(history, Kept(**kept)) == []


def test_a_request_without_an_answer_may_have_been_carried_out() -> None:
    history, kept = lawful()
    history.ops.append(Op("cut", {"cut": "lse_1", **on_record("lease.revoked", lease="lse_1")}, 2.5))
    history.ops.append(Op("lease", {}, 2.5))
    assert violations(history, Kept(**kept)) == []


def test_a_lease_whose_time_was_over_has_nothing_to_be_cut() -> None:
    history, kept = lawful()
    late = cut("lse_1", "lease.revoked", 200.0, lease="lse_1")
    late.facts["state"] = "expired"
    history.ops.append(late)
    assert violations(history, Kept(**kept)) == []


def test_versions_that_go_with_their_whole_credential_have_no_events_of_their_own() -> None:
    history, kept = lawful()
    kept["versions"][1]["state"] = "revoked"
    kept["events"][7] = {"kind": "credential.revoked", "credential": "crd_1"}
    history.ops.pop()
    assert violations(history, Kept(**kept)) == []


@pytest.mark.parametrize(
    "end",
    [{"kind": "credential.revoked"}, {"kind": "credential.version.retired", "version": 1}],
    ids=["with its whole credential", "by its rotation"],
)
def test_a_version_that_was_over_by_itself_is_cut_off_without_an_event_of_its_own(end: dict[str, Any]) -> None:
    history, kept = lawful()
    kept["events"][5] = {**end, "credential": "crd_1"}
    assert violations(history, Kept(**kept)) == []


def late_use(history: History, kept: dict[str, Any]) -> None:
    history.arrivals.append(Arrival("p1", "key_2", "acme", 3.25))
    kept["events"].append({"kind": "use.authorized", "lease": "lse_1"})


def late_arrival(history: History, kept: dict[str, Any]) -> None:
    history.arrivals[0] = Arrival("p0", "key_1", "acme", 3.1 + 1.6)


def use_under_a_grant_that_another_took_the_place_of(history: History, kept: dict[str, Any]) -> None:
    history.ops.append(Op("use", use("p9", "lse_3", "grt_1"), 8.5, 8.6, "ok"))
    history.arrivals.append(Arrival("p9", "key_2", "acme", 8.55))
    kept["events"].append({"kind": "use.authorized", "lease": "lse_3"})


def cut_key_under_another_versions_lease(history: History, kept: dict[str, Any]) -> None:
    history.ops.append(Op("use", use("p9", "lse_3", "crd_1/2"), 6.7, 6.8, "ok"))
    history.arrivals.append(Arrival("p9", "key_1", "acme", 6.75))
    kept["events"].append({"kind": "use.authorized", "lease": "lse_3"})


def revealed_again(history: History, kept: dict[str, Any]) -> None:
    history.ops[11].outcome = "ok"


def revealed_late(history: History, kept: dict[str, Any]) -> None:
    history.ops[4].ended = 6.7 + 1.9


def begun_after_its_time(history: History, kept: dict[str, Any]) -> None:
    op_of(history, probe="p0").began = 4.6
    op_of(history, cut="grt_1").ended = 5.0


def arrived_after_its_time(history: History, kept: dict[str, Any]) -> None:
    op_of(history, lease="lse_1").facts["ends"] = 0.5
    op_of(history, probe="p0").began = 0.4


def another_tenants_key(history: History, kept: dict[str, Any]) -> None:
    history.arrivals[0] = Arrival("p0", "key_9", "globex", 2.1)


def lost_lease(history: History, kept: dict[str, Any]) -> None:
    kept["events"][0] = {"kind": "lease.issued", "lease": "lse_9"}


def lost_cut(history: History, kept: dict[str, Any]) -> None:
    kept["events"][2] = {"kind": "grant.created", "grant": "grt_1"}
    kept["over"]["grant.revoked"] = frozenset()


def lost_cut_of_a_version(history: History, kept: dict[str, Any]) -> None:
    kept["events"][5] |= {"version": 3}
    kept["versions"][0] |= {"number": 3}


def lost_grant(history: History, kept: dict[str, Any]) -> None:
    kept["events"][7] = {"kind": "grant.created", "grant": "grt_3"}


def lost_submission(history: History, kept: dict[str, Any]) -> None:
    kept["events"][4] = {"kind": "intake.opened", "intake": "int_1"}


def row_that_was_not_cut(history: History, kept: dict[str, Any]) -> None:
    kept["over"]["grant.revoked"] = frozenset()


def row_that_was_cut_off_the_record(history: History, kept: dict[str, Any]) -> None:
    kept["over"]["lease.revoked"] |= {"lse_3"}


def version_that_was_not_cut(history: History, kept: dict[str, Any]) -> None:
    kept["versions"][0]["state"] = "retiring"


def version_that_was_cut_off_the_record(history: History, kept: dict[str, Any]) -> None:
    kept["versions"][1]["state"] = "destroyed"


def use_off_the_record(history: History, kept: dict[str, Any]) -> None:
    kept["events"][3] = {"kind": "use.completed", "lease": "lse_3"}


def link_used_twice(history: History, kept: dict[str, Any]) -> None:
    kept["events"].append({"kind": "intake.submitted", "intake": "int_1"})


def link_acknowledged_twice(history: History, kept: dict[str, Any]) -> None:
    second = history.ops[8]
    second.outcome = "ok"


def link_of_two_versions(history: History, kept: dict[str, Any]) -> None:
    kept["versions"][0]["intake"] = "int_1"


def hole(history: History, kept: dict[str, Any]) -> None:
    kept["indices"] = [0, 1, 3, 4, 5, 6, 7]


def double_index(history: History, kept: dict[str, Any]) -> None:
    kept["indices"] = [0, 1, 2, 2, 3, 4, 5, 6, 7]


def two_active(history: History, kept: dict[str, Any]) -> None:
    kept["versions"][0]["state"] = "active"
    kept["versions"][0]["credential"] = kept["versions"][1]["credential"] = "crd_2"


def wrong_clock_believed(history: History, kept: dict[str, Any]) -> None:
    op_of(history, offset=3600).outcome = "ok"


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        (late_use, "p1 used grt_1 0.150 s after it was cut"),
        (late_arrival, "p0 used grt_1 1.600 s after it was cut"),
        (use_under_a_grant_that_another_took_the_place_of, "p9 used grt_1 5.450 s after it was cut"),
        (cut_key_under_another_versions_lease, "p9 carried the key of crd_1/1 0.150 s after it was cut"),
        (revealed_again, "lease lse_2 revealed lse_2 0.200 s after it was cut"),
        (revealed_late, "lease lse_2 revealed lse_2 1.900 s after it was cut"),
        (begun_after_its_time, "p0 used lease lse_1 after its time"),
        (arrived_after_its_time, "p0 used lease lse_1 after its time"),
        (another_tenants_key, "p0 of acme carried a key of globex"),
        (lost_lease, "lease.issued of lse_1 was acknowledged and is not on the record"),
        (lost_cut, "grant.revoked of grt_1 was acknowledged and is not on the record"),
        (lost_cut_of_a_version, "credential.version.revoked of crd_1/1 was acknowledged and is not on the record"),
        (lost_grant, "grant.created of grt_2 was acknowledged and is not on the record"),
        (lost_submission, "intake.submitted of int_1 was acknowledged and is not on the record"),
        (row_that_was_not_cut, "grt_1: row and record disagree on grant.revoked"),
        (row_that_was_cut_off_the_record, "lse_3: row and record disagree on lease.revoked"),
        (version_that_was_not_cut, "crd_1/1: row (retiring) and record disagree"),
        (version_that_was_cut_off_the_record, "crd_1/2: row (destroyed) and record disagree"),
        (use_off_the_record, "lease lse_3: 1 uses reached upstream, 0 are on the record"),
        (link_used_twice, "the link of int_1 was used 2 times"),
        (link_acknowledged_twice, "the link of int_1 was acknowledged 2 times"),
        (link_of_two_versions, "the link of int_1 was made a version of 2 times"),
        (hole, "the record's 7 indices are not 0 to 7"),
        (double_index, "the record's 9 indices are not 0 to 7"),
        (two_active, "crd_2 has 2 active versions"),
        (wrong_clock_believed, "a token was given for an assertion that is 3600 s off"),
    ],
)
def test_each_violation_is_found_and_named(plant: Callable[[History, dict[str, Any]], None], named: str) -> None:
    history, kept = lawful()
    plant(history, kept)
    assert violations(history, Kept(**kept)) == [named]


def a_trial() -> tuple[History, list[tuple[str, float]]]:
    history, _ = lawful()
    history.ops += [cut("x", kind, 9.0) for kind in CUTS]
    history.ops += [Op("use", {**use("p8", "lse_3"), "replica": at}, 20.0, 20.1, "ok") for at in range(2)]
    return history, [("kill", 10.0), ("seal", 19.0)]


def test_a_trial_lacks_nothing() -> None:
    history, struck = a_trial()
    assert missing(history, struck, kinds=["kill", "seal"], replicas=2) == []


def test_what_makes_no_trial_is_named() -> None:
    history, struck = a_trial()
    history.ops = [op for op in history.ops if op.facts.get("event") != "workload.revoked"]
    found = missing(history, [*struck, ("seal", 21.0)], kinds=["kill", "seal", "kill_two"], replicas=2)
    assert found == [
        "there was no workload.revoked",
        "kill_two never struck",
        "replica 0 was not seen to recover",
        "replica 1 was not seen to recover",
    ]
    assert len(missing(History(), [], kinds=["kill"], replicas=2)) == 7 + len(CUTS) + 1 + 2
