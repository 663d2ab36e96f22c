"""Same-organization evidence: what overlapping ids prove."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.credentials.evidence import Evidence, judge

ids = st.frozensets(st.sampled_from("abcdef"))


@given(seen=ids, owners=st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["acme", "globex"])))
def test_an_id_of_another_organization_always_decides(seen: frozenset[str], owners: dict[str, str]) -> None:
    found = judge("acme", seen, owners, known_before=True)
    foreign = any(owners.get(each) == "globex" for each in seen)
    own = any(owners.get(each) == "acme" for each in seen)
    assert (found is Evidence.OTHER) == foreign
    if not foreign:
        assert found is (Evidence.SAME if own else Evidence.UNPROVEN)


@given(seen=ids)
def test_a_first_key_has_nothing_to_compare_with(seen: frozenset[str]) -> None:
    assert judge("acme", seen, {}, known_before=False) is Evidence.FIRST
