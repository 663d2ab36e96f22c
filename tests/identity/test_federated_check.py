"""A platform's token is a job's if a trust takes it; who brought another one is told as much as they proved."""

from __future__ import annotations

from typing import Any

import pytest

from broker.base.clock import Millis, of_seconds
from broker.formats import ids
from broker.identity.federation import assertion
from broker.identity.federation.assertion import NotProved
from broker.identity.federation.tables import TrustRow
from broker.issuers.files import IssuerFile
from tests.issuers.shapes import BY_PRESET, SHAPES, Shape, T, changed
from tests.support.issuer import pair, signed

NOW = of_seconds(T + 10)


def issuer_for(shape: Shape, **more: Any) -> IssuerFile:
    text = {
        "id": "one",
        "version": 1,
        "preset": shape.preset,
        "issuer": shape.claims.get("iss", "spiffe://prod.vendor.example"),
    }
    return IssuerFile.model_validate({**text, **more})


def trust_for(shape: Shape, **more: Any) -> TrustRow:
    usual: dict[str, Any] = {
        "id": ids.new(ids.TrustId),
        "workload_id": ids.new(ids.WorkloadId),
        "issuer": "one",
        "claims": shape.rule,
        "networks": [],
        "expires_at": None,
        "note": "",
        "state": "active",
        "created_at": Millis(0),
        "created_by": "",
        "revoked_at": None,
    }
    return TrustRow(**{**usual, **more})


def refused(issuer: IssuerFile, trusts: list[TrustRow], claims: Any, address: str = "203.0.113.7") -> NotProved:
    with pytest.raises(NotProved) as found:
        assertion.taken(issuer, trusts, claims, "a.b.c", address, NOW)
    return found.value


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.preset)
def test_what_a_token_proves_goes_on_the_record_as_its_platform_names_it(shape: Shape) -> None:
    proof = assertion.taken(issuer_for(shape), [trust_for(shape)], shape.claims, "a.b.c", "203.0.113.7", NOW)
    assert proof.expires_s == shape.claims["exp"]
    assert proof.told
    assert all(len(value) <= 200 for value in proof.told.values())


def test_the_second_trust_is_taken_where_the_first_does_not_fit() -> None:
    shape = BY_PRESET["github-actions"]
    other = trust_for(shape, claims={**shape.rule, "environment": ["dev"]})
    mine = trust_for(shape)
    assert assertion.taken(issuer_for(shape), [other, mine], shape.claims, "a.b.c", "", NOW).trust is mine


def test_on_a_shared_issuer_only_who_proved_whose_run_it_is_learns_why() -> None:
    shape = BY_PRESET["github-actions"]
    shared, private = issuer_for(shape, shared=True), issuer_for(shape)
    strangers = changed(shape.claims, "repository_id", "1")
    mine = changed(shape.claims, "environment", "dev")
    assert refused(shared, [trust_for(shape)], strangers).public == ""
    assert refused(private, [trust_for(shape)], strangers).public == "repository_id is `1`; no trust takes it."
    assert refused(shared, [trust_for(shape)], mine).public == "environment is `dev`; no trust takes it."


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.preset)
def test_a_stranger_of_a_shared_issuer_learns_not_even_that_there_is_a_trust(shape: Shape) -> None:
    shared, private = issuer_for(shape, shared=True), issuer_for(shape)
    preset, trust = shared.kind, trust_for(shape)
    why = NotProved("token_over", "The token ended 9 s ago; bring a fresh one.")
    name = next(name for name in shape.rule if name in preset.identifying)
    claim = preset.claim(name)
    assert claim is not None
    strangers = changed(shape.claims, ">".join(claim.path), "another")
    assert assertion.discreet(why, shared, [trust], shape.claims) is why
    told = assertion.discreet(why, shared, [trust], strangers)
    assert (told.code, told.public) == ("token_over", "")
    assert assertion.discreet(why, private, [trust], strangers) is why
    assert refused(shared, [trust], strangers).public == ""


def test_a_trust_may_name_the_networks_that_tokens_come_from() -> None:
    shape = BY_PRESET["kubernetes"]
    trust = trust_for(shape, networks=["203.0.113.0/24", "2001:db8::/32"])
    for address in ("203.0.113.7", "2001:db8::7"):
        assertion.taken(issuer_for(shape), [trust], shape.claims, "a.b.c", address, NOW)
    for address in ("198.51.100.1", "", "no address"):
        assert refused(issuer_for(shape), [trust], shape.claims, address).code == "address_refused"


def test_a_token_that_is_good_once_has_a_name_of_its_own_and_others_go_by_what_was_signed() -> None:
    once, reused = BY_PRESET["github-actions"], BY_PRESET["gitlab"]
    for name in (None, "", "a\nb", 7, "x" * 257):
        claims = changed(once.claims, "jti", name)
        assert refused(issuer_for(once), [trust_for(once)], claims).code == "claim_missing"
    names = {
        assertion.taken(issuer_for(reused), [trust_for(reused)], reused.claims, f"a.b.{twin}", "", NOW).name
        for twin in ("c", "d")
    }
    assert len(names) == 1, "a twin of the signature is the same token"


def test_a_token_that_is_nearly_over_is_not_worth_an_access_token() -> None:
    shape = BY_PRESET["kubernetes"]
    claims = changed(shape.claims, "exp", T + 35)
    assert refused(issuer_for(shape), [trust_for(shape)], claims).code == "token_over"


def test_what_a_platform_wrote_stands_on_the_record_in_one_line() -> None:
    shape = BY_PRESET["hcp-terraform"]
    claims = changed(shape.claims, "sub", "a\r\nb" + "x" * 300)
    proof = assertion.taken(issuer_for(shape), [trust_for(shape)], claims, "a.b.c", "", NOW)
    assert proof.told["subject"] == ("a  b" + "x" * 300)[:200]


def test_an_issuer_is_found_by_its_exact_name_or_trust_domain() -> None:
    key = pair("k", "P-256")
    issuers = [issuer_for(BY_PRESET["aws"], id="a"), issuer_for(BY_PRESET["spiffe"], id="s")]

    def found(**claims: Any) -> str | None:
        one = assertion.issuer_of(signed(key, claims, "ES256"), issuers)
        return one.id if one else None

    name = BY_PRESET["aws"].claims["iss"]
    assert found(iss=name) == "a"
    assert found(iss=f"{name}/") is None
    assert found(iss=name.upper()) is None
    assert found(sub="spiffe://prod.vendor.example/ns/sync") == "s"
    assert found(sub="spiffe://prod.vendor.example.evil/ns/sync") is None
    assert found(sub=["spiffe://prod.vendor.example/ns/sync"]) is None
    with pytest.raises(NotProved):
        assertion.issuer_of("a.b", issuers)
