"""Jobs are registered and given rights on pages, as the API has it."""

from __future__ import annotations

import html
import json
from typing import Any

import pytest

from broker.client.identity import Identity, generate, public
from tests.console.conftest import Reader
from tests.console.demo import Filled
from tests.console.test_acts import mark_of
from tests.support.world import PUBLIC_URL, Job, World

GRANT = {"workload": "nightly-sync", "organizations": "dune-solar", "provider": "raptor-comply", "modes": "use"}


async def granted(world: World, made: Any) -> dict[str, Any]:
    """The grant that a form led to."""
    found: dict[str, Any] = await world.call("GET", "/v1/grants/" + made.headers["location"].rpartition("/")[2])
    return found


async def test_a_job_is_registered_by_its_public_key_and_given_a_right_that_it_uses(
    admin: Reader, world: World
) -> None:
    await world.key_for("acme-power")
    private = generate("EdDSA")
    # given a public key that is pasted alone, or within a set
    fields = {"name": "hourly-sync", "jwks": json.dumps(public(private)["keys"][0]), "once": "a-mark"}
    made = await admin.post("/jobs/new", 303, **fields)
    assert (await admin.post("/jobs/new", 303, **fields)).headers["location"] == made.headers["location"]
    await admin.post("/jobs/new", name="another", jwks=json.dumps(public(generate("ES256"))))
    # when it is given a right from its page
    path = made.headers["location"].removeprefix("/console")
    assert "/console/grants/new?workload=hourly-sync" in await admin.get(path)
    form = await admin.get("/grants/new?workload=hourly-sync&organizations=acme-power")
    wanted = {**GRANT, "workload": "hourly-sync", "organizations": "acme-power", "once": mark_of(form)}
    grant = await granted(world, await admin.post("/grants/new", 303, **wanted, presets="read-only"))
    assert grant["presets"] == ["read-only"]
    # then it uses the key
    job = Job(world, Identity(PUBLIC_URL, path.rpartition("/")[2], private))
    assert (await world.proxied(await job.lease("acme-power"), "/facilities")).status_code == 200


async def test_a_grant_has_what_the_form_says(admin: Reader, filled: Filled) -> None:
    limits = {
        "label": "default",
        "rules": "get, post /facilities/*\r\nGET,POST /control-centers\r\n\r\nDELETE /facilities/7\r\n",
        "rate_uses": "60",
        "rate_seconds": "3600",
        "max_uses": "1000",
        "max_ttl": "600",
        "expires_at": "2099-01-31",
        "purpose_required": "true",
        "implicit": "true",
        "retries": "false",
    }
    grant = await granted(filled.world, await admin.post("/grants/new", 303, **GRANT, **limits))
    assert grant["rules"] == [
        {"methods": ["GET", "POST"], "paths": ["/facilities/*", "/control-centers"]},
        {"methods": ["DELETE"], "paths": ["/facilities/7"]},
    ]
    assert grant["rate"] == {"uses": 60, "seconds": 3600}
    assert (grant["label"], grant["max_uses"], grant["max_ttl"]) == ("default", 1000, 600)
    assert grant["expires_at"] == "2099-01-31T00:00:00.000Z"
    assert (grant["purpose_required"], grant["implicit"], grant["retries"]) == (True, True, False)


async def test_a_form_that_was_left_as_it_is_gives_what_the_api_gives(admin: Reader, filled: Filled) -> None:
    grant = await granted(filled.world, await admin.post("/grants/new", 303, **GRANT))
    names = ("workload", "provider")
    wanted = {**{name: GRANT[name] for name in names}, "organizations": ["dune-solar"], "modes": ["use"]}
    (plain,) = (await filled.world.call("POST", "/v1/grants", json=wanted, status=201))["items"]
    own = {"id", "created_at"}
    assert {name: grant[name] for name in grant.keys() - own} == {name: plain[name] for name in plain.keys() - own}


async def test_several_customers_get_a_grant_each_and_one_to_see_keys_waits(admin: Reader, filled: Filled) -> None:
    several = await admin.post("/grants/new", 303, **{**GRANT, "organizations": "dune-solar\r\nbirch-grid, acme-power"})
    assert several.headers["location"] == f"/console/grants?workload={filled.job.id}"
    made = await filled.world.items("/v1/grants", workload="nightly-sync", order="newest")
    assert {each["organization_slug"] for each in made[:3]} == {"dune-solar", "birch-grid", "acme-power"}
    seeing = await admin.post("/grants/new", 303, **{**GRANT, "modes": "reveal"})
    page = await admin.get(seeing.headers["location"].removeprefix("/console"))
    assert "It waits for a second person." in page


@pytest.mark.parametrize(
    ("wrong", "status", "says"),
    [
        ({"workload": "no-such"}, 404, "There is no such workload for you"),
        ({"organizations": "nobody"}, 404, "There is no such organization for you"),
        ({"organizations": ""}, 422, "organizations: "),
        ({"modes": ""}, 422, "modes: "),
        ({"rules": "GET /a\r\nfacilities"}, 422, "rules: line 2 is none; write methods and a path"),
        ({"rules": "GRAB /a"}, 422, "rules[0]"),
        ({"presets": "no-such"}, 422, "presets: Raptor Comply has no 'no-such'"),
        ({"rate_uses": "60"}, 422, "rate.seconds: "),
        ({"max_ttl": "0"}, 422, "max_ttl: "),
        ({"expires_at": "soon"}, 422, "expires_at: "),
    ],
)
async def test_a_grant_that_is_refused_says_why_with_what_was_written(
    admin: Reader, filled: Filled, wrong: dict[str, str], status: int, says: str
) -> None:
    before = len(await filled.world.items("/v1/grants"))
    page = (await admin.post("/grants/new", status, **{**GRANT, "max_uses": "77", **wrong})).text
    assert says in html.unescape(page)
    assert 'value="77"' in page
    assert all(text in html.unescape(page) for value in wrong.values() for text in value.split("\r\n"))
    assert len(await filled.world.items("/v1/grants")) == before


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("", "jwks: paste a public key"),
        ("[" * 2_000, "jwks: paste a public key"),
        ('{"keys": []}', 'jwks: needs "keys"'),
    ],
)
async def test_a_job_without_a_usable_key_is_refused_with_its_name_kept(
    admin: Reader, filled: Filled, keys: str, says: str
) -> None:
    page = (await admin.post("/jobs/new", 422, name="hourly-sync", jwks=keys)).text
    assert says in html.unescape(page)
    assert 'value="hourly-sync"' in page


async def test_a_key_is_shown_again_only_if_it_is_public(admin: Reader, filled: Filled) -> None:
    private = generate("EdDSA")
    page = (await admin.post("/jobs/new", 422, name="hourly-sync", jwks=json.dumps(private))).text
    assert "holds a private key" in page
    assert private["x"] not in page
    page = (await admin.post("/jobs/new", 409, name="nightly-sync", jwks=json.dumps(public(private)))).text
    assert "exists already" in page
    assert private["x"] in page


async def test_who_may_not_make_them_has_no_button_and_is_refused(world: World, filled: Filled) -> None:
    security = Reader(world, await world.operator("sam", "security"))
    for path, form in (("/jobs", "/jobs/new"), ("/grants", "/grants/new"), (f"/jobs/{filled.job.id}", "/grants/new")):
        assert f"/console{form}" not in await security.get(path)
        await security.get(form, 403)
    await security.post("/jobs/new", 403, name="hourly-sync", jwks=json.dumps(public(generate("EdDSA"))))
    await security.post("/grants/new", 403, **GRANT)


async def test_a_limited_account_gives_its_own_customers_keys_alone(world: World, filled: Filled) -> None:
    few = Reader(world, await world.operator("eve", "operator", organizations=["birch-grid"]))
    refused = (await few.post("/grants/new", 404, **{**GRANT, "organizations": "acme-power"})).text
    assert "There is no such organization for you" in refused
    await few.post("/grants/new", 303, **{**GRANT, "organizations": "birch-grid"})
