"""Same-organization evidence: what overlapping ids prove."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.evidence import TenantEvidence, assess
from broker.formats.ids import OrganizationId

ACME, GLOBEX = OrganizationId("acme"), OrganizationId("globex")
ids = st.frozensets(st.sampled_from("abcdef"))


owners = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([ACME, GLOBEX]))


@given(seen=ids, owners=owners, before=ids)
def test_an_id_of_another_organization_always_decides(
    seen: frozenset[str], owners: dict[str, OrganizationId], before: frozenset[str]
) -> None:
    found = assess(ACME, seen, owners, before=before, known_before=True)
    assert (found is TenantEvidence.OTHER) == any(owners.get(each) == GLOBEX for each in seen)


@given(seen=ids, others=ids, before=ids.filter(bool))
def test_only_ids_of_the_key_before_prove_a_new_one(
    seen: frozenset[str], others: frozenset[str], before: frozenset[str]
) -> None:
    """``others`` are ids that the organization's other credentials have shown."""
    found = assess(ACME, seen, dict.fromkeys(others, ACME), before=before, known_before=True)
    assert found is (TenantEvidence.SAME if seen & before else TenantEvidence.UNPROVEN)


@given(seen=ids, others=ids)
def test_a_credentials_first_key_is_proven_by_the_organizations_other_ones(
    seen: frozenset[str], others: frozenset[str]
) -> None:
    found = assess(ACME, seen, dict.fromkeys(others, ACME), before=frozenset(), known_before=True)
    assert found is (TenantEvidence.SAME if seen & others else TenantEvidence.UNPROVEN)


@given(seen=ids)
def test_a_first_key_has_nothing_to_compare_with(seen: frozenset[str]) -> None:
    assert assess(ACME, seen, {}, before=frozenset(), known_before=False) is TenantEvidence.FIRST


@given(seen=ids, owners=owners, before=ids)
def test_of_a_part_of_the_ids_nothing_follows_but_what_is_in_it(
    seen: frozenset[str], owners: dict[str, OrganizationId], before: frozenset[str]
) -> None:
    known = bool(before)
    part = assess(ACME, seen, owners, before=before, known_before=known, whole=False)
    whole = assess(ACME, seen, owners, before=before, known_before=known)
    assert part is (TenantEvidence.UNPROVEN if whole is TenantEvidence.FIRST else whole)
