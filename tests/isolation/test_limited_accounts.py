"""Accounts that are limited to some customers, at every endpoint, with every kind of another customer's thing.

Endpoints come from the API's own description.  What they name must be decided about here: an endpoint with a parameter
or a body that stands in none of the tables below fails, until somebody has said what it means for a limited account.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select, text

from broker.base.clock import rfc3339
from broker.base.db import EVERY_TENANT, Database
from broker.client.identity import generate, public
from broker.formats import ids
from broker.grants import commands, jobs
from broker.grants.policy import Mode
from broker.identity import passkeys, workloads
from broker.identity.ceremonies import Made
from broker.identity.oidc.tables import IdentityRow
from broker.identity.principal import Account, Role
from broker.identity.tables import AccountRow
from broker.notifications.tables import DeliveryRow, NoticeRow
from broker.organizations import commands as organizations
from broker.organizations.tables import OrganizationRow
from tests.support.waiting import eventually
from tests.support.world import World

# By path parameter: what an endpoint names.  In the test each stands for a thing of globex; None is nobody's secret.
NAMED = {
    "organization": ids.OrganizationId,
    "credential_id": ids.CredentialId,
    "grant_id": ids.GrantId,
    "trust_id": ids.TrustId,
    "lease_id": ids.LeaseId,
    "intake_id": ids.IntakeId,
    "rotation_id": ids.RotationId,
    "exposure_id": ids.ExposureId,
    "review_id": ids.ReviewId,
    "webhook_id": ids.WebhookId,
    "delivery_id": ids.DeliveryId,
    "event_id": ids.AuditEventId,
    "workload": ids.WorkloadId,
    "operator": ids.OperatorId,
    "operator_id": ids.OperatorId,
    "passkey_id": ids.PasskeyId,
    "identity_id": ids.IdentityId,
    "session_id": ids.SessionId,
    "number": None,  # of a version, below its credential
    "provider": None,  # upstreams are declared for all alike
    "issuer": None,  # likewise
}
# Query parameters that name something, and by which path parameter's thing; the others only shape an answer.
SOUGHT = {
    "organization": "organization",
    "credential": "credential_id",
    "lease": "lease_id",
    "workload": "workload",
    "actor": "operator_id",
    "operator": "operator",
}
SHAPING = {"limit", "cursor", "only", "ended", "kind", "decision", "since", "until", "waiting", "personal"}
SHAPING |= {"expiring_days", "days", "after", "following", "outcome", "request", "serial"}
# Those that narrow a list without naming a thing, and by what, so that globex's would be found.
NARROWING = {
    "name": ("lobex", "LOB"),
    "state": ("active", "overdue", "due", "decided", "open", "closed", "requested", "dead"),
    "provider": ("raptor-comply",),
    "issuer": ("github-actions",),
    "format": ("ocsf", "ecs", "cef"),
    "label": ("default", "rotate", "exposure", "second"),
    "order": ("newest",),
}
# Bodies of what is changed, by the last part of the path.
CHANGES: dict[str, dict[str, Any]] = {
    "revoke": {"reason": "x"},
    "renew": {"ttl": 60},
    "policy": {},
    "tighten": {},
    "decide": {"decision": "keep", "reason": "x"},
    "name": {"name": "x"},
    "rename": {"name": "x"},
    "link": {},
    "identity": {"provider": "entra", "subject": "eve"},
    "rotate": {"contact": "admin@acme.example"},
    "rollback": {},
    "cancel": {},
    "exposure": {"found_by": "x", "where": "y"},
    "keys": {"jwk": public(generate("EdDSA"))["keys"][0], "overlap_seconds": 0},
}
_KEY = "rc_live_" + "N" * 64
_UPSTREAM = {"provider": "raptor-comply"}
# What is made, and bodies that would reach beyond acme; every one is refused.  None where nothing can.
MADE: dict[str, list[dict[str, Any]] | None] = {
    "/v1/operators/me/renew": None,  # one's own account, with the limits that it has
    "/v1/sessions": None,  # of the account that a link names
    "/v1/sessions/end": None,  # one's own
    "/v1/operator-tokens": [
        {"name": "eve", "roles": ["admin"]},
        {"name": "eve", "roles": ["operator"], "organizations": ["globex"]},
        {"name": "eve", "roles": ["operator"], "organizations": ["acme", "globex"]},
    ],
    "/v1/organizations": [{"slug": "initech", "name": "Initech"}],
    "/v1/operators": [
        {"name": "eve", "roles": ["admin"]},
        {"name": "eve", "roles": ["operator"], "organizations": ["globex"]},
        {"name": "eve", "roles": ["operator"], "organizations": ["acme", "globex"]},
    ],
    "/v1/workloads": None,  # a job without grants reaches nothing
    "/v1/grants": [
        {"workload": "acme-job", "organizations": ["globex"], "modes": ["use"], **_UPSTREAM},
        {"workload": "acme-job", "organizations": ["acme", "globex"], "modes": ["use"], **_UPSTREAM},
        {"workload": "globex-job", "organizations": ["acme"], "modes": ["use"], **_UPSTREAM},
    ],
    "/v1/grants/explain": [  # makes nothing, and would tell
        {"workload": "acme-job", "organization": "globex", "method": "GET", "path": "/x", **_UPSTREAM},
        {"workload": "globex-job", "organization": "acme", "method": "GET", "path": "/x", **_UPSTREAM},
    ],
    "/v1/trusts": [
        {"workload": "globex-job", "issuer": "google", "claims": {"sub": ["112900000000000000001"]}},
    ],
    "/v1/trusts/explain": [{"workload": "globex-job", "token": "a.b.c"}],  # makes nothing, and would tell
    "/v1/intakes": [{"organization": "globex", "contact": "a@b.example", **_UPSTREAM}],
    "/v1/credentials": [{"organization": "globex", "key": _KEY, **_UPSTREAM}],
    "/v1/webhooks": [
        {"url": "https://hooks.example.com/x"},
        {"url": "https://hooks.example.com/x", "organization": "globex"},
    ],
    "/v1/reviews": [{"subject": "globex-grant"}],
    "/v1/leases": [{"organization": "globex", **_UPSTREAM}],  # by jobs alone
    "/v1/audit/log/rotate-key": [{}],  # every customer's
    "/v1/audit/holds": [{"organization": "globex"}, {}],
    "/v1/audit/holds/lift": [{"organization": "globex"}, {}],
    "/v1/leaks/check": None,  # leaks/test_check.py: says no more than that a key is one of ours
}
# Without an account: a one-time token, a partner's signature.
LOG = {f"/v1/audit/log/{what}" for what in ("checkpoint", "cosigned", "key", "tile/{path}")}
# The record, which grows with every refusal.
RECORD = {"/v1/audit/events", "/v1/audit/export", "/v1/audit/log/export", "/v1/reviews/export"}
OPEN = {"/v1/bootstrap", "/v1/leaks/reports/github", "/v1/certificates/key", *LOG}

ROLES = ("operator", "security", "admin")


@dataclass
class Two:
    """acme and globex, alike in everything; what is globex's by path parameter, and accounts limited to acme."""

    world: World
    foreign: dict[str, str]
    unknown: dict[str, str]
    callers: dict[str, dict[str, str]]  # by role, and a job's

    async def everything(self) -> dict[str, Any]:
        """All that the API lists, but for the record, which grows with every refusal."""
        return {
            path: await self.world.call("GET", path, params={"limit": 500})
            for method, path, _ in operations(self.world)
            if method == "GET" and "{" not in path and path not in {"/v1/operators/me", *RECORD}
        }


def operations(world: World) -> list[tuple[str, str, list[str]]]:
    """Method, path and names of query parameters of every endpoint of the API that takes an account."""
    return [
        (method.upper(), path, [each["name"] for each in operation.get("parameters", []) if each["in"] == "query"])
        for path, methods in world.app.openapi()["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/v1/") and path not in OPEN
    ]


async def accounts(world: World) -> dict[str, dict[str, str]]:
    """One of each role, limited to acme."""
    return {role: await world.operator(f"acme-{role}", role, organizations=["acme"]) for role in ROLES}


@pytest.fixture
async def two(world: World) -> Two:
    for slug in ("acme", "globex"):
        await world.key_for(slug)
        job = await world.job(f"{slug}-job")
        await world.grant(job, slug)
        lease = await job.lease(slug)
        if slug == "acme":
            acme_job = await job.headers()
    foreign = {"organization": "globex", "workload": job.id, "lease_id": lease["lease"]["id"]}
    claims = {"sub": ["112900000000000000001"]}
    trusted = {"workload": "globex-job", "issuer": "google", "claims": claims}
    foreign["trust_id"] = (await world.call("POST", "/v1/trusts", status=201, json=trusted))["id"]
    foreign["grant_id"], foreign["credential_id"] = lease["lease"]["grant"], lease["lease"]["credential"]
    await world.proxied(lease, "/facilities")
    foreign["intake_id"], _ = await world.request_key("globex", label="second")
    elsewhere = {}
    for step in ("rotate", "exposure"):  # each on a credential of its own
        wanted = {"organization": "globex", "label": step, "key": world.new_key("globex"), **_UPSTREAM}
        elsewhere[step] = (await world.call("POST", "/v1/credentials", status=201, json=wanted))["credential"]
    foreign["rotation_id"] = (await world.rotate(elsewhere["rotate"]))[0]["id"]
    exposed = await world.call(
        "POST", f"/v1/credentials/{elsewhere['exposure']}/exposure", json={"found_by": "x", "where": "y"}
    )
    foreign["exposure_id"] = exposed["exposure"]["id"]
    started = await world.call("POST", "/v1/reviews", json={"subject": foreign["grant_id"]})
    foreign["review_id"] = started["id"]
    hook = {"url": "https://hooks.example.com/globex", "organization": "globex"}
    foreign["webhook_id"] = (await world.call("POST", "/v1/webhooks", status=201, json=hook))["webhook"]["id"]
    foreign["delivery_id"] = await _undelivered(world, foreign["webhook_id"])
    theirs = await world.operator("globex-gina", "operator", organizations=["globex"])
    foreign["operator_id"] = (await world.call("GET", "/v1/operators/me", as_=theirs))["id"]
    foreign["operator"] = foreign["operator_id"]
    foreign["session_id"] = (await world.call("GET", "/v1/sessions", as_=theirs))["items"][0]["id"]
    foreign["passkey_id"] = await _passkey(world, ids.OperatorId(foreign["operator_id"]))
    foreign["identity_id"] = await _identity(world, ids.OperatorId(foreign["operator_id"]))
    foreign["event_id"] = (await world.events(kind="organization.created", organization="globex"))[0]["core"]["id"]
    unknown = {name: ids.new(kind) for name, kind in NAMED.items() if kind} | {"organization": "unknown-org"}
    return Two(world, foreign, unknown, await accounts(world) | {"job": acme_job})


async def _passkey(world: World, operator: ids.OperatorId) -> str:
    """A passkey of an account of globex's."""
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        actor = (await session.get_one(AccountRow, operator)).as_actor()
        made = Made(b"globex", b"key", 0, backed_up=False), b"challenge"
        return (await passkeys.add(session, actor, operator, made, name="x", now=world.clock())).id


async def _identity(world: World, operator: ids.OperatorId) -> str:
    """Whom an identity provider knows an account of globex's as."""
    row = IdentityRow(
        id=ids.new(ids.IdentityId),
        account_id=operator,
        issuer="https://idp.example",
        subject="gina",
        created_at=1,
        created_by=operator,
    )
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        session.add(row)
    return row.id


async def _undelivered(world: World, webhook: str) -> str:
    """A delivery of globex's that was given up."""
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        notice = (await session.scalars(select(NoticeRow).limit(1))).one()
        delivery = DeliveryRow(
            id=ids.new(ids.DeliveryId),
            organization_id=notice.organization_id,
            notice_id=notice.id,
            channel="webhook",
            destination=webhook,
            queue="",
            audience="operator",
            state="dead",
            tries=9,
            next_try_at=0,
            last_error="status",
            created_at=1,
        )
        session.add(delivery)
    return delivery.id


def _names(path: str) -> set[str]:
    return set(re.findall(r"{(\w+)}", path))


async def test_what_every_endpoint_means_for_a_limited_account_is_decided(world: World) -> None:
    found = operations(world)
    for method, path, queries in found:
        assert _names(path) <= set(NAMED), f"{method} {path}: say in NAMED what of another customer's this could be"
        decided = set(SOUGHT) | SHAPING | set(NARROWING)
        assert set(queries) <= decided, f"{method} {path}: say in SOUGHT, SHAPING or NARROWING what these are"
        if method != "GET" and not _names(path):
            assert path in MADE, f"{method} {path}: say in MADE how this could reach beyond the account's customers"
    assert len(found) >= 55


async def test_another_customers_thing_answers_like_an_unknown_one_and_stays_as_it_is(two: Two) -> None:
    assert set(two.foreign) == {name for name, kind in NAMED.items() if kind}
    before = await two.everything()

    async def answer(method: str, path: str, values: dict[str, str], headers: dict[str, str]) -> Any:
        url = path.format(**{"number": 1, "provider": "raptor-comply", **values})
        response = await two.world.http.request(method, url, headers=headers, json=CHANGES.get(url.rsplit("/", 1)[-1]))
        return response.status_code, response.json().get("code"), response.json().get("detail")

    for method, path, _ in operations(two.world):
        if not _names(path) & set(two.foreign):
            continue
        for who, headers in two.callers.items():
            # when they name a thing of globex, then they can't tell it from one that doesn't exist
            got = await answer(method, path, two.foreign, headers)
            assert got == await answer(method, path, two.unknown, headers), (who, method, path)
            # and that is for their limits: an admin lacks no role, and a job may renew and end leases
            by_job = path.startswith("/v1/leases/") and path.endswith(("/renew", "/end"))
            if who == ("job" if by_job else "admin"):
                assert got[0] == 404, (who, method, path, got)
            assert got[0] in {401, 403, 404}, (who, method, path, got)
    assert await two.everything() == before


async def test_lists_and_searches_show_nothing_of_another_customer(two: Two) -> None:
    globex = (await two.world.call("GET", "/v1/organizations/globex"))["id"]
    for method, path, queries in operations(two.world):
        if method != "GET" or "{" in path:
            continue
        sought = [{name: two.foreign[SOUGHT[name]]} for name in queries if name in SOUGHT]
        sought += [{name: text} for name in queries for text in NARROWING.get(name, ())]
        for who, headers in two.callers.items():
            for params in ({}, *sought):
                response = await two.world.http.get(path, headers=headers, params={"limit": 500, **params})
                assert response.status_code in {200, 401, 403, 404, 422}, (who, path)
                for value in {"globex", globex, *two.foreign.values()}:
                    assert value not in _apart_from(params, response.text), (who, path, params)


def _apart_from(params: dict[str, str], answer: str) -> str:
    """An answer without what the reader asked for, which the record of their reading repeats."""
    for name, value in params.items():
        if name in SOUGHT:
            answer = answer.replace(value, "")
    return answer


async def test_nothing_can_be_made_that_reaches_beyond_the_accounts_customers(two: Two) -> None:
    def of(value: Any, slug: str) -> Any:
        if isinstance(value, list):
            return [of(one, slug) for one in value]
        grant = (two.foreign if slug == "globex" else two.unknown)["grant_id"]
        if isinstance(value, dict):
            return value
        return {"globex": slug, "globex-job": f"{slug}-job", "globex-grant": grant}.get(value, value)

    before = await two.everything()
    for path, bodies in MADE.items():
        for body in bodies or []:
            for role in ROLES:
                answers = []
                for slug in ("globex", "unknown-org"):
                    filled = {name: of(value, slug) for name, value in body.items()}
                    response = await two.world.http.post(path, headers=two.callers[role], json=filled)
                    answers.append((response.status_code, response.json()["code"], response.json()["detail"]))
                # what is another customer's is refused like what is nobody's
                assert answers[0] == answers[1], (role, path, body)
                assert answers[0][0] in ({401} if path == "/v1/leases" else {403, 404}), (role, path, body)
    assert await two.everything() == before


async def test_a_limited_admins_accounts_stay_within_their_own_limits(world: World) -> None:
    # given an admin of acme who makes two accounts, and an account of globex's
    for slug in ("acme", "globex"):
        await world.organization(slug)
    admin = await world.operator("acme-admin", "admin", organizations=["acme"])
    gina = await world.call("GET", "/v1/operators/me", as_=await world.operator("gina", "operator"))
    made = {}
    for name, role in (("amy", "operator"), ("adam", "admin")):
        wanted = {"name": name, "roles": [role], "organizations": ["acme"]}
        made[name] = await world.call("POST", "/v1/operators", as_=admin, status=201, json=wanted)
    # then these see acme alone, and the second one makes no wider ones either
    adam, amy = [await world.signed_in(made[name]["link"]) for name in ("adam", "amy")]
    assert [one["slug"] for one in (await world.call("GET", "/v1/organizations", as_=adam))["items"]] == ["acme"]
    wider = {"name": "eve", "roles": ["security"]}
    assert (await world.call("POST", "/v1/operators", as_=adam, status=403, json=wider))["detail"].startswith(
        "organizations: "
    )
    # and the admin sees and ends those of acme only
    first = await world.call("GET", "/v1/operators", as_=admin, params={"limit": 2})
    rest = await world.call("GET", "/v1/operators", as_=admin, params={"limit": 2, "cursor": first["next"]})
    assert [one["name"] for one in first["items"] + rest["items"]] == ["acme-admin", "amy", "adam"]
    assert rest["next"] is None
    await world.call("POST", f"/v1/operators/{made['amy']['operator']['id']}/revoke", as_=admin)
    await world.call("GET", "/v1/operators/me", status=401, as_=amy)
    await world.call("POST", f"/v1/operators/{gina['id']}/revoke", as_=admin, status=404)


async def test_an_admin_of_some_customers_is_not_the_last_admin(world: World) -> None:
    await world.organization("acme")
    await world.operator("acme-admin", "admin", organizations=["acme"])
    me = await world.call("GET", "/v1/operators/me")
    refused = await world.call("POST", f"/v1/operators/{me['id']}/revoke", status=409)
    assert "last admin" in refused["detail"]


async def _jobs(world: World, headers: dict[str, str]) -> list[str]:
    return [one["name"] for one in (await world.call("GET", "/v1/workloads", as_=headers))["items"]]


async def test_a_job_that_works_for_others_too_is_not_ended_but_its_grants_are(world: World) -> None:
    # given jobs of acme's and globex's beside those of one of them
    for slug in ("acme", "globex"):
        await world.key_for(slug)
        await world.grant(await world.job(f"{slug}-job"), slug)
    for role, headers in (await accounts(world)).items():
        shared = await world.job(f"shared-{role}")
        grant = await world.grant(shared, "acme")
        await world.grant(shared, "globex")
        # then they are not among those that an account of acme's decides about
        assert await _jobs(world, headers) == ["acme-job"]
        refused = await world.call("GET", f"/v1/workloads/{shared.id}", as_=headers, status=403)
        assert refused["code"] == "job_works_for_others"
        revoking: dict[str, Any] = {"as_": headers, "json": {"reason": "suspicious"}}
        refused = await world.call("POST", f"/v1/workloads/shared-{role}/revoke", status=403, **revoking)
        assert "revoke the grant instead" in refused["detail"]
        assert (await world.call("GET", f"/v1/workloads/{shared.id}"))["state"] == "active"
        # and what they do for acme can be found and taken away
        listed = await world.call("GET", "/v1/grants", as_=headers, params={"workload": f"shared-{role}"})
        assert [one["id"] for one in listed["items"]] == [grant]
        await world.call("POST", f"/v1/grants/{grant}/revoke", **revoking)
        assert (await shared.ask("acme")).json()["code"] == "no_grant"
        assert (await shared.ask("globex")).status_code == 201


async def test_a_job_that_works_for_the_accounts_customers_alone_is_ended(world: World) -> None:
    # given jobs whose grants for others are over: one taken back, one expired
    for slug in ("acme", "globex"):
        await world.organization(slug)
    for role, headers in (await accounts(world)).items():
        job = await world.job(f"once-shared-{role}")
        await world.grant(job, "acme")
        over = await world.grant(job, "globex")
        await world.grant(job, "globex", expires_at=rfc3339(world.clock() + 60_000))
        await world.call("POST", f"/v1/grants/{over}/revoke", json={"reason": ""})
        assert f"once-shared-{role}" not in await _jobs(world, headers)
        world.clock.forward(seconds=60)
        # then
        assert f"once-shared-{role}" in await _jobs(world, headers)
        ended = await world.call("POST", f"/v1/workloads/{job.id}/revoke", as_=headers, json={"reason": "leak"})
        assert ended["state"] == "revoked"


async def test_a_job_that_an_account_made_is_its_own_until_others_grant_to_it(world: World) -> None:
    # given a job that acme's operator made, and one that nobody gave anything yet
    for slug in ("acme", "globex"):
        await world.organization(slug)
    limited = await accounts(world)
    operator = limited["operator"]
    await world.job("nobodys")
    wanted = {"name": "mine", "jwks": public(generate("EdDSA"))}
    mine = await world.call("POST", "/v1/workloads", as_=operator, status=201, json=wanted)
    # then it is theirs alone
    assert (await _jobs(world, operator), await _jobs(world, limited["security"])) == (["mine"], [])
    await world.call("GET", "/v1/workloads/nobodys", as_=operator, status=404)
    await world.call("POST", "/v1/workloads/nobodys/revoke", as_=operator, status=404, json={})
    granted = {"workload": "mine", "organizations": ["acme"], "modes": ["use"], **_UPSTREAM}
    await world.call("POST", "/v1/grants", as_=operator, status=201, json=granted)
    # when somebody has it work for globex as well, then it no longer is
    grant = (await world.call("POST", "/v1/grants", status=201, json=granted | {"organizations": ["globex"]}))["items"]
    assert await _jobs(world, operator) == []
    await world.call("POST", "/v1/workloads/mine/revoke", as_=operator, status=403, json={})
    # and again once that is over
    await world.call("POST", f"/v1/grants/{grant[0]['id']}/revoke", json={"reason": ""})
    ended = await world.call("POST", f"/v1/workloads/{mine['id']}/revoke", as_=operator, json={"reason": "done"})
    assert ended["state"] == "revoked"


async def test_a_job_is_not_ended_beside_a_grant_that_is_being_given(world: World) -> None:
    # given an admin who is just about to have acme's job work for globex as well
    for slug in ("acme", "globex"):
        await world.organization(slug)
    job = await world.job()
    await world.grant(job, "acme")
    by = Account(
        ids.OperatorId("opr_x"),
        "olga",
        frozenset({Role.OPERATOR}),
        frozenset({(await _organization(world, "acme")).id}),
    )
    globex = await _organization(world, "globex")
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        workload = await workloads.find(session, ids.Reference(job.id))
        await commands.create(
            session,
            by.actor(),
            workload=workload,
            organizations=[globex],
            provider="raptor-comply",
            label=None,
            modes=[Mode.USE],
            max_ttl=60,
            purpose_required=False,
            expires_at=None,
            limits=commands.GrantLimits(),
            approval=False,
            now=world.clock(),
        )
        # when an account of acme's ends it at the same time
        ending = asyncio.create_task(_end(world, by, ids.Reference(job.id)))
        await eventually(lambda: _waits(world.services.parts.db))
    # then the grant that came first is seen
    with pytest.raises(jobs.WorksForOthers):
        await ending
    assert (await world.call("GET", f"/v1/workloads/{job.id}"))["state"] == "active"


async def _waits(db: Database) -> Any:
    """Whether somebody waits for what another one holds."""
    if (writer := db.writer) is not None:  # SQLite: one writer at a time
        return writer.waiting(record=False)
    async with db.read(EVERY_TENANT) as session:
        return await session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def _end(world: World, by: Account, workload: ids.Reference) -> None:
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        await jobs.end(session, by, by.actor(), workload, reason="", now=world.clock())


async def _organization(world: World, slug: str) -> OrganizationRow:
    async with world.services.parts.db.read(EVERY_TENANT) as session:
        return await organizations.find(session, ids.Reference(slug))
