"""Each platform's job, from its token to the customer's data: declared, trusted, exchanged, leased and recorded."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from broker.formats import ids
from broker.formats.assertion import ASSERTION_TYPE
from broker.identity.federation.exchange import SPIFFE_TYPE
from broker.issuers.presets import PRESETS
from tests.federation.pages import GUIDES
from tests.identity.test_federation import resume, suspend
from tests.issuers.shapes import T, changed
from tests.support.certificates import certify
from tests.support.issuer import FakeIssuer, fake_issuer, in_tls, pair, signed
from tests.support.platform import ACTIONS, CLUSTER, RULES, Platform
from tests.support.world import WorldClock, running_world, settings_for, upstream

OF_CLUSTERS: Final = "https://kubernetes.default.svc.cluster.local"
# What of each guide's token goes on the record.
TOLD: Final = {
    "kubernetes": "pod=nightly-29384-x7k2p",
    "github-actions": "run_id=8812",
    "gitlab": "job_id=1123",
    "spiffe": "subject=spiffe://prod.vendor.example/ns/sync/sa/nightly",
    "aws": "subject=arn:aws:iam::123456789012:role/nightly",
    "google": "email=nightly@acme.iam.gserviceaccount.com",
    "azure": "resource=/subscriptions/55555555-1111-2222-3333-444444444444/",
    "hcp-terraform": "run_id=run-X3n1AUXNGWbfECsJ",
    "buildkite": "job_id=0184990a-477b-4fa8-9968-496074483cef",
    "circleci": "vcs_origin=github.com/acme/sync",
    "any-oidc-issuer": "subject=8f1d2c3b-nightly",
}


@dataclass
class Declared:
    """Who signs, and a broker's files that say so."""

    folder: Path
    signer: FakeIssuer
    clock: WorldClock

    def add(self, issuer: str, preset: str, url: str, more: str) -> None:
        """Write a file."""
        self.folder.mkdir(exist_ok=True)
        text = f'id = "{issuer}"\nversion = 1\npreset = "{preset}"\nissuer = "{url}"\n{more}'
        (self.folder / f"{issuer}.toml").write_text(text)

    @asynccontextmanager
    async def broker(self, database_url: str) -> AsyncIterator[Platform]:
        """A broker that has read them, with a customer whose key is active."""
        async with upstream() as (state, url):
            settings = settings_for(self.folder.parent, database_url, url, issuers_dir=self.folder)
            async with running_world(settings, state, url, clock=self.clock) as world:
                await world.key_for("acme")
                yield Platform(world, self.signer, self.signer)


@pytest.fixture
async def declared(tmp_path: Path) -> AsyncIterator[Declared]:
    clock = WorldClock()
    async with fake_issuer(clock) as signer:
        yield Declared(tmp_path / "issuers", signer, clock)


async def job_of(there: Platform, name: str, issuer: str, claims: Mapping[str, list[str]]) -> str:
    """A job that trusts an issuer's tokens with these claims, and may read."""
    job = await there.world.job(name)
    await there.trust(job.id, issuer, claims=claims)
    await there.world.grant(job, "acme")
    return job.id


async def read(there: Platform, headers: dict[str, str]) -> dict[str, Any]:
    """Take a lease and read the customer's data; the lease."""
    wanted = {"organization": "acme", "provider": "raptor-comply"}
    lease: dict[str, Any] = await there.world.call("POST", "/v1/leases", as_=headers, status=201, json=wanted)
    await reads(there, lease)
    return lease


async def reads(there: Platform, lease: dict[str, Any]) -> None:
    assert (await there.world.proxied(lease, "/facilities")).status_code == 200


async def refused(there: Platform, job: str, token: str) -> dict[str, Any]:
    answer = await there.exchange(job, token)
    assert answer.status_code == 401, answer.text
    said: dict[str, Any] = answer.json()
    return said


def now_on(claims: Mapping[str, Any], second: int) -> dict[str, Any]:
    """The claims of a guide, at another time."""
    return {name: value - T + second if name in {"iat", "nbf", "exp"} else value for name, value in claims.items()}


async def test_each_guides_job_reads_a_customers_data_and_the_record_has_its_run(
    declared: Declared, database_url: str, tmp_path: Path
) -> None:
    signer = declared.signer
    signer.keys = [pair("r"), *(pair(f"e{n}", "P-256") for n in range(3))]
    for guide in GUIDES.values():
        issuer = guide.trusted(tmp_path / guide.name)
        where = "bundle" if guide.name == "spiffe" else "jwks"
        audience = guide.claims["aud"] if isinstance(guide.claims["aud"], str) else guide.claims["aud"][0]
        more = f'audience = "{audience}"\nshared = {str(issuer.shared).lower()}\n'
        more += f'[tokens]\nalgorithms = ["RS256", "ES256"]\nlifetime_max = {issuer.lifetime_s}\n'
        more += f'[keys]\nfrom = "url"\nurl = "{signer.url}/{where}"\nprivate = true\n'
        declared.add(issuer.id, issuer.preset, issuer.issuer, more)
    async with declared.broker(database_url) as there:
        for guide in GUIDES.values():
            issuer_id, rule = guide.trust
            job = await job_of(there, guide.name, issuer_id, rule)
            claims = now_on(guide.claims, signer.second)
            # a mesh's token names none of the three keys
            mesh = guide.name == "spiffe"
            token = signed(signer.keys[3], claims, "ES256", kid=None) if mesh else signer.sign(claims)
            await read(there, await there.headers(job, token))
            (issued,) = [
                one for one in await there.world.events(kind="auth.token_issued") if one["core"]["workload"] == job
            ]
            assert issued["core"]["provider"] == issuer_id
            assert TOLD[guide.name] in issued["personal"]["note"]
            for name in rule:
                claim = PRESETS[guide.preset].claim(name)
                assert claim is not None
                other = changed(claims, ">".join(claim.path), f"{rule[name][0]}0")
                await refused(there, job, signer.sign({**other, "jti": f"another for {name}"}))
        assert signer.asked["/jwks"] == len(GUIDES) - 1
        assert signer.asked["/bundle"] == 1


async def test_a_cluster_that_answers_to_its_own_alone_is_asked_in_tls_with_the_token_of_the_moment(
    declared: Declared, database_url: str, tmp_path: Path
) -> None:
    signer, clock = declared.signer, declared.clock
    certify(tmp_path)
    bearer = tmp_path / "token"
    bearer.write_text("of the broker's own account, first hour\n")
    signer.bearer = "of the broker's own account, first hour"
    async with in_tls(signer.url, tmp_path) as api:
        keys = f'[keys]\nfrom = "url"\nurl = "{api}/openid/v1/jwks"\nprivate = true\n'
        declared.add(
            CLUSTER, "kubernetes", OF_CLUSTERS, f'{keys}ca_file = "{tmp_path}/ca.pem"\nbearer_file = "{bearer}"\n'
        )
        async with declared.broker(database_url) as there:
            job = await job_of(there, "nightly", CLUSTER, RULES[CLUSTER])
            first = there.pod_token(iss=OF_CLUSTERS, exp=signer.second + 7_200)
            lease = await read(there, await there.headers(job, first))
            # when the cluster gets another key, and the broker's own account another token
            signer.keys = [pair("k2"), *signer.keys]
            bearer.write_text("second hour")
            signer.bearer = "second hour"
            clock.forward(seconds=61)
            await read(there, await there.headers(job, there.pod_token(iss=OF_CLUSTERS)))
            await read(there, await there.headers(job, first))
            await reads(there, lease)
            # then the old key is withdrawn: within the hour nobody takes what it signed
            signer.keys = signer.keys[:1]
            clock.forward(hours=1)
            assert (await refused(there, job, first)).get("code") is None
            await read(there, await there.headers(job, there.pod_token(iss=OF_CLUSTERS)))
    assert set(signer.bearers) == {"Bearer of the broker's own account, first hour", "Bearer second hour"}
    assert signer.asked["/.well-known/openid-configuration"] == 0


@pytest.mark.parametrize("fault", ["another authority's", "no bearer"])
async def test_a_cluster_that_is_not_the_declared_one_or_refuses_is_no_reason_to_refuse_the_job(
    declared: Declared, database_url: str, tmp_path: Path, fault: str
) -> None:
    signer = declared.signer
    signer.bearer = "of the broker's own account"
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        certify(tmp_path / name)
    whose = "theirs" if fault == "another authority's" else "ours"
    (tmp_path / "token").write_text("of the broker's own account" if whose == "theirs" else "of somebody else")
    async with in_tls(signer.url, tmp_path / whose) as api:
        keys = f'[keys]\nfrom = "url"\nurl = "{api}/openid/v1/jwks"\nprivate = true\n'
        files = f'ca_file = "{tmp_path}/ours/ca.pem"\nbearer_file = "{tmp_path}/token"\n'
        declared.add(CLUSTER, "kubernetes", OF_CLUSTERS, keys + files)
        async with declared.broker(database_url) as there:
            job = await job_of(there, "nightly", CLUSTER, RULES[CLUSTER])
            answer = await there.exchange(job, there.pod_token(iss=OF_CLUSTERS))
            assert (answer.status_code, answer.json()["code"]) == (503, "issuer_unreachable")
    assert signer.bearers == ([] if whose == "theirs" else ["Bearer of somebody else"])


async def test_a_cluster_that_nobody_can_reach_is_known_by_a_file_that_counts_at_once(
    declared: Declared, database_url: str, tmp_path: Path
) -> None:
    signer, file = declared.signer, tmp_path / "edge.jwks"
    file.write_text(json.dumps(signer.jwks()))
    declared.add(CLUSTER, "kubernetes", OF_CLUSTERS, f'[keys]\nfrom = "file"\nfile = "{file}"\n')
    async with declared.broker(database_url) as there:
        job = await job_of(there, "nightly", CLUSTER, RULES[CLUSTER])
        first = there.pod_token(iss=OF_CLUSTERS)
        lease = await read(there, await there.headers(job, first))
        signer.keys = [pair("k2")]
        second = there.pod_token(iss=OF_CLUSTERS)
        await refused(there, job, second)
        file.write_text(json.dumps(signer.jwks()))
        await read(there, await there.headers(job, second))
        await refused(there, job, first)
        await reads(there, lease)
    assert not signer.asked


async def test_no_name_that_a_run_gave_itself_passes_for_another_fact_on_the_record(
    declared: Declared, database_url: str
) -> None:
    keys = f'[keys]\nfrom = "url"\nurl = "{declared.signer.url}/jwks"\nprivate = true\n'
    declared.add(ACTIONS, "github-actions", declared.signer.url, keys)
    async with declared.broker(database_url) as there:
        job = await job_of(there, "nightly", ACTIONS, RULES[ACTIONS])
        names = ('acme/sync run_id=1 actor="eve"', "a=b", "c\\ d", "\N{NO-BREAK SPACE}run_id=1")
        for name in names:
            await there.headers(job, there.run_token(repository=name, actor="ada"))
        notes = [event["personal"]["note"] for event in await there.world.events(kind="auth.token_issued")]
        facts = [dict(re.findall(r'(\w+)=((?:"(?:[^"\\]|\\.)*")|\S+)(?: |$)', note)) for note in notes]
        assert [(one["run_id"], one["actor"]) for one in facts] == [("8812", "ada")] * len(names)
        assert [json.loads(one["repository"]) for one in facts] == list(names)


async def test_a_stranger_on_the_same_platform_gets_the_answer_of_a_job_that_there_is_not(
    declared: Declared, database_url: str
) -> None:
    signer = declared.signer
    keys = f'[keys]\nfrom = "url"\nurl = "{signer.url}/jwks"\nprivate = true\n'
    declared.add(ACTIONS, "github-actions", signer.url, f"shared = true\n{keys}")
    faults: list[dict[str, Any]] = [
        {},
        {"aud": "https://else.example"},
        {"exp": 1_000, "iat": 10},
        {"exp": signer.second + 9_000},
    ]
    async with declared.broker(database_url) as there:
        job, nobody = await job_of(there, "nightly", ACTIONS, RULES[ACTIONS]), ids.new(ids.WorkloadId)
        for fault in faults:
            for suspended in (False, True):
                if suspended:
                    await suspend(there, ACTIONS)
                stranger = there.run_token(repository_id="1", **fault)
                mine, none = await refused(there, job, stranger), await refused(there, nobody, stranger)
                assert mine.keys() == none.keys() == {"error", "error_description"}
            await resume(there, ACTIONS)
        said = [(await refused(there, job, there.run_token(**fault)))["code"] for fault in faults[1:]]
        assert said == ["wrong_audience", "token_over", "lives_too_long"], "but whose run it is learns what to do"
        reasons = {event["core"]["reason"] for event in await there.world.events(kind="auth.token_refused")}
        assert {"claim_differs", "wrong_audience", "token_over", "lives_too_long", "issuer_suspended"} <= reasons


@pytest.mark.parametrize("kind", [ASSERTION_TYPE, SPIFFE_TYPE])
async def test_a_mesh_is_known_by_its_bundle_and_its_trust_domain(
    declared: Declared, database_url: str, kind: str
) -> None:
    signer = declared.signer
    signer.keys = [pair(f"e{n}", "P-256") for n in range(3)]
    sub = "spiffe://prod.vendor.example/ns/sync/sa/nightly"
    keys = f'[keys]\nfrom = "url"\nurl = "{signer.url}/bundle"\nprivate = true\n'
    declared.add("mesh", "spiffe", "spiffe://prod.vendor.example", f'audience = "us"\n{keys}')
    async with declared.broker(database_url) as there:
        job = await job_of(there, "nightly", "mesh", {"sub": [sub]})
        claims = {"sub": sub, "aud": ["us"], "exp": signer.second + 300}
        for key in signer.keys:
            for kid in (None, key.kid):
                answer = await there.exchange(job, signed(key, claims, "ES256", kid=kid), client_assertion_type=kind)
                assert answer.status_code == 200, answer.text
        foreign = signed(pair("e0", "P-256"), claims, "ES256", kid=None)
        other = signed(signer.keys[0], {**claims, "sub": sub.replace("prod.", "prod.evil.")}, "ES256")
        wide = signed(signer.keys[0], {**claims, "aud": ["us", "them"]}, "ES256")
        for token in (foreign, other, wide):
            assert (await there.exchange(job, token, client_assertion_type=kind)).status_code == 401
        issued = await there.world.events(kind="auth.token_issued")
        assert len({one["core"]["reason"] for one in issued}) == 4, "without a jti it goes by what was signed"
