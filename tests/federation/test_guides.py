"""Each platform's guide works as it stands: its trust takes the token that its example leads to, and nothing less."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker.base.clock import Millis, of_seconds
from broker.base.outbound import Outbound
from broker.formats import ids
from broker.formats.identity_file import IdentityFile
from broker.identity.federation import assertion
from broker.identity.federation.assertion import NotProved, Proof
from broker.identity.federation.tables import TrustRow
from broker.issuers.files import IssuerFile
from broker.issuers.issuer import Issuer
from broker.issuers.presets import PRESETS
from tests.federation.pages import GUIDES, INDEX, Guide
from tests.house.test_documents import options
from tests.issuers.shapes import AUDIENCE, T, changed
from tests.support.issuer import Pair, pair, signed

ROOT = Path(__file__).parents[2]
NOW = of_seconds(T + 10)
EACH = pytest.mark.parametrize("guide", GUIDES.values(), ids=GUIDES)
KEYS = {"RS256": pair("k1"), "ES256": pair("k1", "P-256")}


class Trusting:
    """The issuer of a guide's trust, with a key of ours, and a job that has this trust."""

    def __init__(self, guide: Guide, folder: Path, outbound: Outbound) -> None:
        self.issuer: IssuerFile = guide.trusted(folder)
        self.algorithm = self.issuer.algorithms[0]
        self.key: Pair = KEYS[self.algorithm]
        use = self.issuer.declared.use
        published = folder / "published.json"
        published.write_text(json.dumps({"keys": [{**self.key.as_dict(private=False), "use": use}]}))
        declared = replace(self.issuer.declared, keys_url="", keys_file=published, bearer_file=None)
        self.keys = Issuer(declared, outbound, lambda: NOW)
        _, rule = guide.trust
        self.trust = TrustRow(
            id=ids.new(ids.TrustId),
            workload_id=ids.new(ids.WorkloadId),
            issuer=self.issuer.id,
            claims=rule,
            networks=[],
            expires_at=None,
            note="",
            state="active",
            created_at=Millis(0),
            created_by="",
            revoked_at=None,
        )

    async def proof(self, claims: Mapping[str, Any]) -> Proof:
        """What a token with these claims proves; raises NotProved."""
        token = signed(self.key, claims, self.algorithm)
        assert assertion.issuer_of(token, [self.issuer]) is self.issuer
        verified = await assertion.verified(token, self.issuer, self.keys, AUDIENCE, NOW)
        return assertion.taken(self.issuer, [self.trust], verified, token, "203.0.113.7", NOW)

    async def refusal(self, claims: Mapping[str, Any]) -> NotProved:
        """Why such a token proves nothing."""
        with pytest.raises(NotProved) as refused:
            await self.proof(claims)
        return refused.value


@pytest.fixture
async def outbound() -> AsyncIterator[Outbound]:
    one = Outbound()
    yield one
    await one.close()


def test_every_platform_has_a_guide_and_the_list_has_every_guide() -> None:
    assert {guide.preset for guide in GUIDES.values()} == set(PRESETS)
    assert set(re.findall(r"^- \[.*?\]\((.+?)\.md\)", INDEX, re.MULTILINE)) == set(GUIDES)


@EACH
async def test_a_guides_trust_takes_the_token_of_its_example(guide: Guide, tmp_path: Path, outbound: Outbound) -> None:
    there = Trusting(guide, tmp_path, outbound)
    preset, rule = there.issuer.kind, there.trust.claims
    assert preset.faults(rule) == []
    assert preset.warnings(rule) == []
    assert all(rule.get(name) for name in there.issuer.required.claims)
    proof = await there.proof(guide.claims)
    assert proof.trust is there.trust
    assert proof.told


@EACH
async def test_and_no_token_without_a_claim_of_it_or_with_another(
    guide: Guide, tmp_path: Path, outbound: Outbound
) -> None:
    there = Trusting(guide, tmp_path, outbound)
    for name in there.trust.claims:
        claim = there.issuer.kind.claim(name)
        assert claim is not None
        (shown,) = claim.shown(guide.claims)
        for value in (..., None, "", [shown], f"{shown}0", "another"):
            less = changed(guide.claims, ">".join(claim.path), value)
            if there.issuer.preset == "spiffe":  # its issuer is known by that very claim
                with pytest.raises(NotProved):
                    assertion.taken(there.issuer, [there.trust], less, "a.b.c", "", NOW)
                continue
            refused = await there.refusal(less)
            assert refused.code in {"claim_missing", "claim_differs"}, (name, value)


@EACH
def test_each_issuer_of_a_guide_is_declared_as_it_stands(guide: Guide, tmp_path: Path) -> None:
    for one in guide.issuers(tmp_path):
        assert one.preset == guide.preset
        assert one.id.replace("-", "").isalnum()


# What leads to each refusal that a guide shows: the claim that is another, and what the broker says then.
_REFUSED: list[tuple[str, str, Any]] = [
    ("kubernetes", "aud", "https://kubernetes.default.svc"),
    ("kubernetes", "exp", T + 31_536_000),
    ("kubernetes", "kubernetes.io>pod", ...),
    ("kubernetes", "kubernetes.io>serviceaccount>name", "default"),
    ("github-actions", "aud", "https://github.com/acme"),
    ("github-actions", "environment", "dev"),
    ("github-actions", "environment", ...),
    ("github-actions", "event_name", "pull_request_target"),
    ("gitlab", "aud", "https://vault.vendor.example"),
    ("gitlab", "ref_protected", "false"),
    ("gitlab", "pipeline_source", "merge_request_event"),
    ("gitlab", "job_project_id", "29"),
    ("gitlab", "ref", "feature"),
    ("spiffe", "aud", ["https://keys.vendor.example", "https://other.example"]),
    ("spiffe", "sub", "spiffe://prod.vendor.example/ns/sync/sa/other"),
    ("aws", "aud", "https://api.other.example"),
    ("aws", "sub", "arn:aws:iam::123456789012:role/other"),
    ("google", "aud", "32555940559.apps.googleusercontent.com"),
    ("google", "azp", "32555940559.apps.googleusercontent.com"),
    ("azure", "aud", "https://management.azure.com/"),
    ("azure", "oid", "88888888-9999-2222-3333-444444444444"),
    ("azure", "idtyp", "user"),
    ("hcp-terraform", "aud", "aws.workload.identity"),
    ("hcp-terraform", "terraform_run_phase", "plan"),
    ("buildkite", "aud", "https://buildkite.com/acme"),
    ("buildkite", "build_branch", "feature"),
    ("buildkite", "exp", T + 86_400),
    ("circleci", "aud", "0a1b2c3d-0b1c-4d2e-8f30-1a2b3c4d5e6f"),
    ("circleci", "oidc.circleci.com/vcs-origin", "github.com/mallory/sync"),
    ("circleci", "oidc.circleci.com/vcs-origin", ...),
    ("circleci", "oidc.circleci.com/ssh-rerun", True),
    ("any-oidc-issuer", "aud", ["https://keys.vendor.example", "account"]),
    ("any-oidc-issuer", "sub", "8f1d2c3b-other"),
    ("any-oidc-issuer", "azp", ...),
    ("any-oidc-issuer", "exp", T + 36_000),
]
# What a trust that binds more than the guide's says.
_BINDS_MORE = {("google", "The token has no project_number")}


@EACH
async def test_a_guide_shows_what_the_broker_says_to_what_goes_wrong(
    guide: Guide, tmp_path: Path, outbound: Outbound
) -> None:
    there = Trusting(guide, tmp_path, outbound)
    told = []
    for name, path, value in _REFUSED:
        if name == guide.name:
            told.append((await there.refusal(changed(guide.claims, path, value))).public)
    shown = {one for one in guide.said() if (guide.name, one) not in _BINDS_MORE}
    assert [one for one in shown if not any(text.startswith(one) for text in told)] == []
    assert [text for text in told if not any(text.startswith(one) for one in shown)] == []


@EACH
def test_a_guides_examples_for_its_platform_can_be_read_and_call_what_there_is(guide: Guide) -> None:
    for text in guide.blocks("yaml"):
        assert list(yaml.safe_load_all(text))
        for audience in re.findall(r"aud(?:ience)?: (\S+)", text):
            assert audience == AUDIENCE
        words = " ".join(re.sub(r"[\[\],]|command:|args:", " ", text).split())
        for given in re.findall(r"\bbroker exec (.*?) -- ?", words):
            assert set(re.findall(r"--[a-z][a-z-]+", given)) <= options()["broker exec"]


def test_the_identity_file_that_the_list_shows_is_one() -> None:
    (text,) = re.findall(r"^```json\n(.*?)^```$", INDEX, re.MULTILINE | re.DOTALL)
    assert IdentityFile.decode(text.encode()).client_id == "wkl_019ab3d4e5f678899aabbccddeeff001"


def test_codes_that_the_list_explains_are_codes_of_the_broker() -> None:
    sources = [*(ROOT / "broker/issuers").rglob("*.py"), *(ROOT / "broker/identity").rglob("*.py")]
    text = "".join(path.read_text() for path in sources)
    table = INDEX.partition("| code |")[2]
    codes = [code for row in re.findall(r"^\| (`.*?) \| ", table, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)]
    assert len(codes) > 10
    assert [code for code in codes if f'"{code}"' not in text] == []
