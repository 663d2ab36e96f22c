"""Policy as a state machine and by its table of refusals."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from broker.base.clock import Millis
from broker.formats.ids import GrantId, Reference, WorkloadId
from broker.grants.policy import (
    DEFAULT_TTL_S,
    AccessRequest,
    AccessTarget,
    Allowed,
    Denied,
    Grant,
    Mode,
    PolicyInput,
    decide,
)
from broker.providers.rule import Rule

NOW = Millis(1_000_000)
GRANT = Grant(GrantId("grt_1"), "raptor-comply", None, frozenset({Mode.USE}), 900, False, None, True)
INPUT = PolicyInput(True, True, True, 1, (GRANT,))
REQUEST = AccessRequest(AccessTarget(WorkloadId("wkl_1"), Reference("acme"), "raptor-comply", "default"), Mode.USE)

grants = st.builds(
    Grant,
    st.sampled_from(["grt_1", "grt_2", "grt_3"]),
    st.sampled_from(["raptor-comply"] * 3 + ["github"]),
    st.sampled_from([None, "default", "other"]),
    st.frozensets(st.sampled_from(Mode)),
    st.integers(1, 86_400),
    st.booleans(),
    st.one_of(st.none(), st.integers(NOW - 10, NOW + 10)),
    st.sampled_from([True] * 3 + [False]),
)
inputs = st.builds(
    PolicyInput,
    st.sampled_from([True] * 9 + [False]),
    st.sampled_from([True] * 8 + [False, None]),
    st.sampled_from([True] * 8 + [False, None]),
    st.sampled_from([1, 2, 3, None]),
    st.lists(grants, min_size=1, max_size=4).map(tuple),
)
requests = st.builds(
    AccessRequest,
    st.builds(
        AccessTarget,
        st.just("wkl_1"),
        st.just("acme"),
        st.sampled_from(["raptor-comply"] * 3 + ["github", "stripe"]),
        st.sampled_from(["default", "other"]),
    ),
    st.sampled_from(Mode),
    st.sampled_from(["", " ", "audit"]),
    st.one_of(st.none(), st.integers(1, 90_000)),
)


def reason(decision: Allowed | Denied) -> str:
    return decision.reason if isinstance(decision, Denied) else "allowed"


def test_what_is_allowed_is_covered_by_one_standing_grant() -> None:
    allowed = 0

    @settings(max_examples=300)
    @given(request=requests, known=inputs)
    def every(request: AccessRequest, known: PolicyInput) -> None:
        nonlocal allowed
        decision = decide(request, known, NOW)
        assert decide(request, known, NOW) == decision, "pure"
        if isinstance(decision, Denied):
            assert decision.reason
            assert decision.need
        else:
            allowed += 1
            covered(request, known, decision)

    every()
    assert allowed >= 5, "of three hundred examples; where there is none, nothing above is judged"


def covered(request: AccessRequest, known: PolicyInput, decision: Allowed) -> None:
    grants = [grant for grant in known.grants if grant.id == decision.grant]
    assert any(
        grant.active
        and grant.provider == request.target.provider
        and grant.label in {None, request.target.label}
        and request.mode in grant.modes
        and (grant.expires_at is None or grant.expires_at > NOW)
        and (request.purpose.strip() or not grant.purpose_required)
        and decision.ttl <= grant.max_ttl
        for grant in grants
    )
    assert known.workload_active
    assert known.organization_active
    assert known.credential_active
    assert known.version is not None
    assert 0 < decision.ttl <= (request.ttl or DEFAULT_TTL_S)


def test_each_refusal_has_its_name() -> None:
    assert reason(decide(REQUEST, INPUT, NOW)) == "allowed"
    assert reason(decide(REQUEST, replace(INPUT, workload_active=False), NOW)) == "workload_revoked"
    assert reason(decide(REQUEST, replace(INPUT, grants=()), NOW)) == "no_grant"
    assert reason(decide(REQUEST, replace(INPUT, grants=(replace(GRANT, active=False),)), NOW)) == "no_grant"
    assert reason(decide(REQUEST, replace(INPUT, grants=(replace(GRANT, expires_at=NOW),)), NOW)) == "no_grant"
    assert reason(decide(REQUEST, replace(INPUT, grants=(replace(GRANT, label="other"),)), NOW)) == "no_grant"
    assert reason(decide(REQUEST, replace(INPUT, organization_active=False), NOW)) == "organization_revoked"
    assert reason(decide(replace(REQUEST, mode=Mode.REVEAL), INPUT, NOW)) == "mode_not_granted"
    needs_purpose = replace(INPUT, grants=(replace(GRANT, purpose_required=True),))
    assert reason(decide(REQUEST, needs_purpose, NOW)) == "purpose_required"
    assert reason(decide(replace(REQUEST, purpose=" "), needs_purpose, NOW)) == "purpose_required"
    assert reason(decide(replace(REQUEST, purpose="nightly sync"), needs_purpose, NOW)) == "allowed"
    assert reason(decide(REQUEST, replace(INPUT, credential_active=None), NOW)) == "no_active_key"
    assert reason(decide(REQUEST, replace(INPUT, version=None), NOW)) == "no_active_key"


def test_without_a_grant_an_unknown_organization_looks_like_a_known_one() -> None:
    known = decide(REQUEST, replace(INPUT, grants=()), NOW)
    unknown = decide(REQUEST, PolicyInput(True, None, None, None, ()), NOW)
    cut_off = decide(REQUEST, replace(INPUT, grants=(), organization_active=False), NOW)
    assert known == unknown == cut_off


def test_time_is_capped_by_the_grant() -> None:
    assert decide(replace(REQUEST, ttl=7200), INPUT, NOW) == Allowed(GrantId("grt_1"), 900, None)
    assert decide(REQUEST, INPUT, NOW) == Allowed(GrantId("grt_1"), 300, None)


def test_of_several_grants_the_least_restricted_counts_and_then_the_longest() -> None:
    rules = (Rule(methods=("GET",), paths=("/**",)),)
    grants = (
        replace(GRANT, id=GrantId("grt_1"), max_ttl=60),
        replace(GRANT, id=GrantId("grt_2"), max_ttl=600),
        replace(GRANT, id=GrantId("grt_3"), max_ttl=60),
        replace(GRANT, id=GrantId("grt_4"), max_ttl=6_000, rules=rules),
    )
    for known in (grants, grants[::-1]):
        assert decide(REQUEST, replace(INPUT, grants=known), NOW) == Allowed(GrantId("grt_2"), DEFAULT_TTL_S, None)


class Granting(RuleBasedStateMachine):
    """Grants come and go: taking one back never allows more, adding one never allows less."""

    def __init__(self) -> None:
        super().__init__()
        self.grants: list[Grant] = []

    def allowed(self, request: AccessRequest) -> bool:
        return isinstance(decide(request, replace(INPUT, grants=tuple(self.grants)), NOW), Allowed)

    @rule(grant=grants, request=requests)
    def give(self, grant: Grant, request: AccessRequest) -> None:
        before = self.allowed(request)
        self.grants.append(grant)
        assert self.allowed(request) or not before

    @rule(request=requests, index=st.integers(0, 10))
    def take_back(self, request: AccessRequest, index: int) -> None:
        if self.grants:
            before = self.allowed(request)
            index %= len(self.grants)
            self.grants[index] = replace(self.grants[index], active=False)
            assert before or not self.allowed(request)


TestGranting = Granting.TestCase
