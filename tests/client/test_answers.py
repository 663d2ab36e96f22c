"""A job takes the broker's answers to its own questions only, and says who else answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import deepcopy
from typing import Any

import httpx2
import pytest

from broker.client import renewal
from broker.client.client import Client
from broker.client.connecting import ProxyUnusable
from broker.client.errors import CallFailed
from broker.client.identity import Identity, generate
from broker.client.submission import submit_key
from broker.formats import link_secret
from broker.sandbox.serve import running as serving
from tests.client.between import Between, Change, Proxy, json_page, page, proxying
from tests.client.served import RAPTOR, ClientBench
from tests.support.waiting import eventually

ENVIRONMENT = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture
async def between(closed_bench: ClientBench) -> AsyncIterator[Between]:
    """The broker, but for what the test changes in its answers."""
    made = Between(closed_bench.world.edge)
    await closed_bench.grant(modes=["use", "reveal"])
    async with serving(made, port=int(closed_bench.url.rpartition(":")[2])):
        yield made


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    async with proxying() as made:
        yield made


def setting(path: str, value: Any) -> Change:
    """A change of one value, named by its keys with dots; None takes it out."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        changed = deepcopy(answer)
        *above, last = path.split(".")
        part = changed
        for name in above:
            part = part[name]
        if value is None:
            del part[last]
        else:
            part[last] = value
        return changed

    return change


# What is changed in the answer, and what the job then names.
OF_ANOTHER = [
    ("organization_slug", "beta", "organization"),
    ("organization_slug", None, "organization"),
    ("lease.organization", None, "organization"),
    ("lease.organization", "org_" + "0" * 32, "proxy_url"),
    ("lease.provider", "lab", "provider"),
    ("lease.label", "other", "label"),
    ("lease.mode", "reveal", "mode"),
    ("lease.workload", "wkl_" + "0" * 32, "workload"),
    ("lease.id", None, "id"),
    ("lease.expires_at", "soon", "expires_at"),
    ("lease", None, "lease"),
    ("lease", "lse_1", "lease"),
    ("proxy_url", "https://elsewhere.example/proxy/org_1/raptor-comply", "proxy_url"),
    ("proxy_url", None, "proxy_url"),
    ("token", None, "token"),
    ("token", "kbl_x\r\nX-Forged: 1", "token"),
]


@pytest.mark.parametrize(("path", "value", "named"), OF_ANOTHER)
async def test_a_lease_that_was_not_asked_for_is_not_used(
    closed_bench: ClientBench, between: Between, path: str, value: str | None, named: str
) -> None:
    between.changes["/v1/leases"] = setting(path, value)
    for ask in (closed_bench.client().lease, closed_bench.client().upstream):
        with pytest.raises(CallFailed, match=f"its {named} is missing or another's") as refused:
            await asyncio.to_thread(ask, "acme", RAPTOR)
        assert (refused.value.code, refused.value.transient) == ("another_answer", True)


async def test_an_organization_is_known_by_the_name_that_was_asked_for(
    closed_bench: ClientBench, between: Between
) -> None:
    client = closed_bench.client()
    lease = await asyncio.to_thread(client.lease, "acme", RAPTOR)
    organization = lease.organization
    assert (await asyncio.to_thread(client.lease, organization, RAPTOR)).organization == organization
    # Somebody else's whole lease: nothing in it disagrees with the rest, but it is another customer's.
    between.changes["/v1/leases"] = setting("organization_slug", "beta")
    with pytest.raises(CallFailed, match="organization"):
        await asyncio.to_thread(client.lease, "acme", RAPTOR)
    assert await asyncio.to_thread(client.lease, organization, RAPTOR)


async def test_a_reveal_without_a_key_is_not_one(closed_bench: ClientBench, between: Between) -> None:
    between.changes["/v1/leases"] = setting("key", None)
    with pytest.raises(CallFailed, match="its key is missing"):
        await asyncio.to_thread(closed_bench.client().lease, "acme", RAPTOR, mode="reveal")


@pytest.mark.parametrize("call", ["renew", "find", "end"])
@pytest.mark.parametrize(
    ("name", "value"), [("id", "lse_" + "0" * 32), ("workload", "wkl_" + "0" * 32), ("expires_at", None)]
)
async def test_an_answer_about_another_lease_is_not_used(
    closed_bench: ClientBench, between: Between, call: str, name: str, value: str | None
) -> None:
    client = closed_bench.client()
    lease = (await asyncio.to_thread(client.lease, "acme", RAPTOR)).id
    between.changes[f"/{lease}" + ("" if call == "find" else f"/{call}")] = setting(name, value)
    with pytest.raises(CallFailed, match=f"its {name} is missing or another's"):
        await asyncio.to_thread(getattr(client, call), lease)


async def test_a_page_of_another_jobs_leases_is_not_shown(closed_bench: ClientBench, between: Between) -> None:
    client = closed_bench.client()
    await asyncio.to_thread(client.lease, "acme", RAPTOR)
    between.changes["/v1/leases"] = lambda page: {
        "items": [{**item, "workload": "wkl_other"} for item in page["items"]]
    }
    with pytest.raises(CallFailed, match="workload"):
        await asyncio.to_thread(client.leases)


async def test_a_page_that_leads_to_itself_is_not_read_without_an_end(
    closed_bench: ClientBench, between: Between
) -> None:
    between.changes["/v1/leases"] = lambda page: {**page, "next": "bHNl"}
    with pytest.raises(CallFailed, match="next"):
        await asyncio.to_thread(closed_bench.client().leases)


@pytest.mark.parametrize(
    ("name", "value"), [("token_type", "mac"), ("access_token", None), ("access_token", ""), ("expires_in", "long")]
)
async def test_an_access_token_that_cannot_be_used_is_not_kept(
    closed_bench: ClientBench, between: Between, name: str, value: str | None
) -> None:
    client = closed_bench.client()
    between.changes["/oauth/token"] = setting(name, value)
    with pytest.raises(CallFailed, match=name):
        await asyncio.to_thread(client.leases)
    between.changes.clear()
    assert await asyncio.to_thread(client.leases) == []


async def test_a_renewal_that_answers_for_another_lease_is_asked_for_again(
    closed_bench: ClientBench, between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Renewed in a hurry, and so long that no busy machine sees its end.
    monkeypatch.setattr(renewal, "EARLY", 0.0002)
    monkeypatch.setattr(renewal, "_LEAST_S", 0.1)
    acme = await asyncio.to_thread(closed_bench.client().upstream, "acme", RAPTOR, ttl=600)
    token, lease = acme.token, (await closed_bench.leases())[0]["id"]
    answered = 0

    def first_is_anothers(answer: dict[str, Any]) -> dict[str, Any]:
        nonlocal answered
        answered += 1
        return {**answer, "id": "lse_" + "0" * 32} if answered == 1 else answer

    between.changes[f"/{lease}/renew"] = first_is_anothers

    async def again() -> bool:
        return answered >= 2

    await eventually(again)
    assert acme.token == token
    await asyncio.to_thread(acme.close)


# Who else answers.


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (page("403 Forbidden", "Server: squid/5.7"), r"\(403, text/html, server: squid/5.7\) is not the broker's"),
        (
            page("407 Proxy Authentication Required", "Via: 1.1 fw"),
            r"via: 1.1 fw\).*wants a sign-in of its own \(407\)",
        ),
        (page("502 Bad Gateway", "Server: nginx"), r"\(502, text/html, server: nginx\) is not the broker's"),
        (page("200 OK"), r"\(200, text/html\) is not the broker's"),
        (page("302 Found", "Location: https://u:p@login.example/in?t=1"), r"leads to https://login.example\)"),
        (json_page("403 Forbidden", {"message": "Forbidden"}), r"\(403, application/json\) is not the broker's"),
        (json_page("401 No", {"error_code": 7}), r"\(401, application/json\) is not the broker's"),
        (page("502 Bad", "Server: \x1b[31mred"), r"server: \?\[31mred"),
    ],
)
async def test_somebody_elses_answer_is_told_apart(bench: ClientBench, proxy: Proxy, answer: bytes, told: str) -> None:
    proxy.says = answer
    with pytest.raises(CallFailed, match=told) as failed, Client(bench.identity, proxy=proxy.url) as client:
        await asyncio.to_thread(client.token)
    assert type(failed.value) is CallFailed
    assert (failed.value.code, failed.value.transient) == ("not_a_broker", True)


async def test_what_stands_between_ends_no_access(bench: ClientBench, proxy: Proxy) -> None:
    await bench.grant()
    with Client(bench.identity, proxy=proxy.url) as client:
        acme = await asyncio.to_thread(client.upstream, "acme", RAPTOR, ttl=2)
        proxy.says, before = page("403 Forbidden"), len(proxy.asked)

        async def refused() -> bool:
            return len(proxy.asked) > before

        await eventually(refused)
        proxy.says = b""

        async def renewed() -> bool:
            return await bench.count("lease.renewed") > 0 or await bench.count("lease.issued") > 1

        await eventually(renewed)
        assert acme.token
        await asyncio.to_thread(acme.close)


# By which way.


async def test_the_environments_proxies_see_nothing(
    bench: ClientBench, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.grant()
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    theirs = "https://api.example"

    def use() -> int:
        with (
            bench.client().upstream("acme", RAPTOR) as acme,
            httpx2.Client(base_url=theirs, transport=acme.transport(theirs)) as http,
        ):
            return http.get("/facilities").status_code

    assert await asyncio.to_thread(use) == 200
    with pytest.raises(CallFailed):
        await asyncio.to_thread(submit_key, f"{bench.url}/intake/int_{'1' * 32}#{link_secret.new()}", b"key")
    assert proxy.asked == []


async def test_a_proxy_that_is_named_is_gone_by(bench: ClientBench, proxy: Proxy) -> None:
    await bench.grant()
    theirs = "https://api.example"

    def use() -> list[int]:
        with (
            Client(bench.identity, proxy=proxy.url) as client,
            client.upstream("acme", RAPTOR) as acme,
            httpx2.Client(base_url=theirs, transport=acme.transport(theirs)) as http,
        ):
            return [http.get("/facilities").status_code]

    async def use_async(client: Client) -> int:
        async with (
            await asyncio.to_thread(client.upstream, "acme", RAPTOR) as acme,
            httpx2.AsyncClient(base_url=theirs, transport=acme.async_transport(theirs)) as http,
        ):
            return (await http.get("/facilities")).status_code

    assert await asyncio.to_thread(use) == [200]
    with Client(bench.identity, proxy=proxy.url) as client:
        assert await use_async(client) == 200
    places = [line.split()[1].removeprefix(bench.url) for line in proxy.asked]
    assert [place.split("/")[1] for place in places] == ["oauth", "v1", "proxy", "v1", "oauth", "v1", "proxy", "v1"]


async def test_a_proxy_that_does_not_let_through_is_blamed_and_not_the_broker(proxy: Proxy) -> None:
    proxy.says = page("407 Proxy Authentication Required")
    identity = Identity("https://broker.example", "wkl_1", generate())
    with_password = proxy.url.replace("//", "//sync:kept-quiet@")
    with pytest.raises(CallFailed) as failed, Client(identity, proxy=with_password) as client:
        await asyncio.to_thread(client.token)
    assert f"by way of the proxy {proxy.url} (407 Proxy Authentication Required)" in str(failed.value)
    assert "kept-quiet" not in str(failed.value)
    assert (failed.value.code, proxy.asked) == ("unreachable", ["CONNECT broker.example:443 HTTP/1.1"])
    assert "proxy-authorization: Basic" in proxy.heads[0].replace("Proxy-Authorization", "proxy-authorization")


async def test_no_answer_from_a_proxy_names_the_proxy(bench: ClientBench) -> None:
    with pytest.raises(CallFailed, match=r"by way of the proxy http://127\.0\.0\.1:9"):
        await asyncio.to_thread(Client(bench.identity, proxy="http://127.0.0.1:9").token)


@pytest.mark.parametrize("url", ["", "proxy.example:3128", "socks5://proxy.example", "http://", "ftp://x"])
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    identity = Identity("https://broker.example", "wkl_1", generate())
    with pytest.raises(ProxyUnusable, match=r"^A proxy is given by its URL: http://HOST:PORT or https://HOST:PORT\.$"):
        Client(identity, proxy=url)
