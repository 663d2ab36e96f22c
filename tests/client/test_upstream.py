"""A job's own HTTP client calls an upstream through the broker by changing one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import httpx2
import pytest
import requests

from broker.client.errors import AccessDenied, AccessEnded, CallFailed, OutsideUpstream, raise_for_problem
from broker.client.upstream import Upstream
from tests.client.served import LAB, RAPTOR, ClientBench
from tests.support.lab import KEY, Lab, answer, lab_upstream

SECRET_QUERY = "?signature=not-for-logs"


@pytest.fixture
async def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    """Somebody else's server, which keeps what it is sent."""
    async with lab_upstream(tmp_path_factory.mktemp("elsewhere")) as lab:
        yield lab


@pytest.fixture
async def acme(bench: ClientBench) -> AsyncIterator[Upstream]:
    """The reference upstream."""
    await bench.grant()
    async with await asyncio.to_thread(bench.client().upstream, "acme", "raptor-comply", purpose="test") as made:
        yield made


@pytest.fixture
async def acme_lab(bench: ClientBench) -> AsyncIterator[Upstream]:
    """The scripted upstream."""
    await bench.grant(LAB)
    async with await asyncio.to_thread(bench.client().upstream, "acme", LAB) as made:
        yield made


# One way for each library to get a URL with the upstream's access; each gives status and body.


def by_requests(acme: Upstream, url: str) -> tuple[int, bytes]:
    response = requests.get(url, auth=acme, timeout=10)
    return response.status_code, response.content


def by_httpx2(acme: Upstream, url: str) -> tuple[int, bytes]:
    with httpx2.Client(auth=acme, follow_redirects=True) as client:
        response = client.get(url)
    return response.status_code, response.content


def by_httpx2_async(acme: Upstream, url: str) -> tuple[int, bytes]:
    async def get() -> tuple[int, bytes]:
        async with httpx2.AsyncClient(auth=acme, follow_redirects=True) as client:
            response = await client.get(url)
            return response.status_code, response.content

    return asyncio.run(get())


def by_aiohttp(acme: Upstream, url: str) -> tuple[int, bytes]:
    async def get() -> tuple[int, bytes]:
        async with aiohttp.ClientSession(middlewares=(acme.aiohttp,)) as session, session.get(url) as response:
            return response.status, await response.read()

    return asyncio.run(get())


EVERY_LIBRARY = (by_requests, by_httpx2, by_httpx2_async, by_aiohttp)


async def test_one_line_changes_for_requests(acme: Upstream) -> None:
    response = await asyncio.to_thread(requests.get, f"{acme.url}/facilities", auth=acme, timeout=10)
    assert len(response.json()) == 3


async def test_one_line_changes_for_a_requests_session(acme: Upstream) -> None:
    def use() -> Any:
        with requests.Session() as session:
            session.auth = acme
            return session.get(f"{acme.url}/facilities").json()

    assert len(await asyncio.to_thread(use)) == 3


async def test_one_line_changes_for_httpx(acme: Upstream) -> None:
    def use() -> Any:
        with httpx2.Client(base_url=acme.url, auth=acme) as client:
            return client.get("/facilities").json()

    assert len(await asyncio.to_thread(use)) == 3


async def test_one_line_changes_for_an_async_httpx_client(acme: Upstream) -> None:
    async with httpx2.AsyncClient(base_url=acme.url, auth=acme) as client:
        assert len((await client.get("/facilities")).json()) == 3


async def test_one_line_changes_for_aiohttp(acme: Upstream) -> None:
    session = aiohttp.ClientSession(base_url=acme.url + "/", middlewares=(acme.aiohttp,))
    async with session, session.get("facilities") as response:
        assert len(await response.json()) == 3


async def test_the_token_is_never_sent_elsewhere(acme: Upstream, elsewhere: Lab) -> None:
    for get in EVERY_LIBRARY:
        with pytest.raises(OutsideUpstream, match="not below") as refused:
            await asyncio.to_thread(get, acme, f"{elsewhere.url}/facilities{SECRET_QUERY}")
        assert acme.token not in str(refused.value)
        assert "not-for-logs" not in str(refused.value)
    assert elsewhere.requests == []


LOOK_ALIKES: list[Callable[[str], str]] = [
    lambda url: url + "x/facilities",
    lambda url: url + "/../../v1/leases",
    lambda url: url + "/%2e%2E/%2e%2e/v1/leases",
    lambda url: url.rpartition("/")[0] + "/another/facilities",
    lambda url: url.replace("http://", "http://somebody@"),
    lambda url: url.replace("http://", "https://"),
    lambda url: url.replace("http://", "http://elsewhere.example/") + "/facilities",
    lambda url: url.replace("/proxy", "@elsewhere.example/proxy"),
    lambda url: url.replace("/proxy", "\\@elsewhere.example/proxy"),
    lambda url: "http://elsewhere.example/?" + url,
]


def prepared_by_requests(url: str) -> Any:
    return requests.Request("GET", url).prepare()


def prepared_by_httpx2(url: str) -> Any:
    return httpx2.Request("GET", url)


async def test_look_alikes_of_the_upstreams_address_are_elsewhere(acme: Upstream) -> None:
    for prepare in (prepared_by_requests, prepared_by_httpx2):
        for look_alike in LOOK_ALIKES:
            try:
                request = prepare(look_alike(acme.url))
            except (requests.exceptions.InvalidURL, httpx2.InvalidURL):
                continue
            with pytest.raises(OutsideUpstream):
                acme(request)
            assert acme.token not in request.headers.get("Authorization", "")
        assert "Authorization" in acme(prepare(acme.url + "/facilities?page=2")).headers
        assert "Authorization" in acme(prepare(acme.url)).headers


async def test_a_redirect_elsewhere_is_followed_without_the_token(
    bench: ClientBench, acme_lab: Upstream, elsewhere: Lab
) -> None:
    bench.lab.scripts["/download"] = answer(b"", f"Location: {elsewhere.url}/file", status="302 Found")
    for get in (by_requests, by_httpx2, by_httpx2_async):
        assert await asyncio.to_thread(get, acme_lab, f"{acme_lab.url}/download") == (200, b'{"ok": true}')
    assert len(elsewhere.requests) == 3
    for seen in elsewhere.requests:
        assert "authorization" not in seen.names
        assert not any(acme_lab.token in value for _, value in seen.headers)


async def test_a_redirect_elsewhere_is_refused_to_aiohttp(
    bench: ClientBench, acme_lab: Upstream, elsewhere: Lab
) -> None:
    bench.lab.scripts["/download"] = answer(b"", f"Location: {elsewhere.url}/file", status="302 Found")
    with pytest.raises(OutsideUpstream):
        await asyncio.to_thread(by_aiohttp, acme_lab, f"{acme_lab.url}/download")
    assert elsewhere.requests == []


async def test_a_redirect_within_the_upstream_is_followed(bench: ClientBench, acme_lab: Upstream) -> None:
    bench.lab.scripts["/old"] = answer(b"", "Location: /base/new", status="302 Found")
    for get in EVERY_LIBRARY:
        assert await asyncio.to_thread(get, acme_lab, f"{acme_lab.url}/old") == (200, b'{"ok": true}')
    assert [seen.target for seen in bench.lab.calls] == [b"/base/old", b"/base/new"] * 4
    assert bench.lab.calls[-1].values("x-lab-key") == [KEY]


async def test_leaving_the_context_ends_the_lease(bench: ClientBench) -> None:
    def use() -> Upstream:
        with bench.client() as client, client.upstream("acme", "raptor-comply") as acme:
            assert by_requests(acme, f"{acme.url}/facilities")[0] == 200
        return acme

    await bench.grant()
    acme = await asyncio.to_thread(use)
    assert await bench.states() == ["ended"]
    with pytest.raises(AccessEnded, match="given back"):
        acme.headers()


async def test_a_refused_lease_says_why(bench: ClientBench) -> None:
    with pytest.raises(AccessDenied, match="ask an operator") as refused:
        await asyncio.to_thread(bench.client().upstream, "acme", "raptor-comply")
    assert (refused.value.code, refused.value.status) == ("no_grant", 403)


async def test_no_repr_holds_the_token(acme: Upstream) -> None:
    kept = acme._lease._per_process()
    parts = [acme, acme._lease, kept, kept._lease, kept._client, acme.transport("https://a.example")]
    for part in parts:
        assert acme.token not in repr(part)
        assert acme.token not in str(part)


# What the broker itself says to a proxied call.


def asked_by_requests(acme: Upstream, path: str) -> None:
    raise_for_problem(requests.get(acme.url + path, auth=acme, timeout=10))


def asked_by_httpx2(acme: Upstream, path: str) -> None:
    raise_for_problem(httpx2.get(acme.url + path, auth=acme))


ASKED = (asked_by_requests, asked_by_httpx2)


async def test_the_brokers_refusal_of_a_call_becomes_an_exception(bench: ClientBench) -> None:
    await bench.grant(rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    async with await asyncio.to_thread(bench.client().upstream, "acme", "raptor-comply") as acme:
        for ask in ASKED:
            await asyncio.to_thread(ask, acme, "/facilities")
            with pytest.raises(AccessDenied, match="allows only GET /facilities") as refused:
                await asyncio.to_thread(ask, acme, "/cyber-assets")
            assert (refused.value.code, refused.value.transient) == ("rule_refused", False)
            assert refused.value.problem["allowed"]


async def test_a_cut_off_becomes_an_exception_of_its_own(bench: ClientBench, acme: Upstream) -> None:
    (lease,) = await bench.leases()
    await bench.world.call("POST", f"/v1/grants/{lease['grant']}/revoke", json={"reason": "over"})
    for ask in ASKED:
        with pytest.raises(AccessEnded) as refused:
            await asyncio.to_thread(ask, acme, "/facilities")
        assert refused.value.code == "grant_revoked"


async def test_the_upstreams_own_refusals_pass(bench: ClientBench, acme_lab: Upstream) -> None:
    problem = answer(b'{"type": "about:blank"}', "Content-Type: application/problem+json", status="403 Forbidden")
    bench.lab.scripts["/problem"] = problem
    bench.lab.scripts["/plain"] = answer(b"no", status="403 Forbidden")
    bench.lab.scripts["/broken"] = answer(b"no", "Content-Type: application/problem+json", status="403 Forbidden")
    for ask in ASKED:
        for path in ("/problem", "/plain", "/broken"):
            await asyncio.to_thread(ask, acme_lab, path)
    assert len(bench.lab.calls) == 6


def test_failures_survive_another_process() -> None:
    import pickle

    failure = AccessEnded("It is over.", code="lease_over", status=409, problem={"code": "lease_over"}, retry_after=2)
    again = pickle.loads(pickle.dumps(failure))
    assert isinstance(again, CallFailed)
    assert (str(again), vars(again)) == (str(failure), vars(failure))


# Where a job's code knows nothing of the broker.


def failed_by_requests(acme: Upstream, path: str) -> str:
    with pytest.raises(requests.HTTPError) as failed, requests.Session() as session:
        session.get(acme.url + path, auth=acme, timeout=10).raise_for_status()
    return str(failed.value)


def failed_by_httpx2(acme: Upstream, path: str) -> str:
    with pytest.raises(httpx2.HTTPStatusError) as failed:
        httpx2.get(acme.url + path, auth=acme).raise_for_status()
    return str(failed.value)


def failed_by_httpx2_async(acme: Upstream, path: str) -> str:
    async def get() -> None:
        async with httpx2.AsyncClient(auth=acme) as client:
            (await client.get(acme.url + path)).raise_for_status()

    with pytest.raises(httpx2.HTTPStatusError) as failed:
        asyncio.run(get())
    return str(failed.value)


def failed_by_a_transport(acme: Upstream, path: str) -> str:
    theirs = "https://api.example"
    with httpx2.Client(base_url=theirs, transport=acme.transport(theirs)) as client:
        response = client.get(path)
        assert response.elapsed
        with pytest.raises(httpx2.HTTPStatusError) as failed:
            response.raise_for_status()
    return str(failed.value)


def failed_by_an_async_transport(acme: Upstream, path: str) -> str:
    async def get() -> None:
        theirs = "https://api.example"
        async with httpx2.AsyncClient(base_url=theirs, transport=acme.async_transport(theirs)) as client:
            (await client.get(path)).raise_for_status()

    with pytest.raises(httpx2.HTTPStatusError) as failed:
        asyncio.run(get())
    return str(failed.value)


def failed_by_aiohttp(acme: Upstream, path: str) -> str:
    async def get() -> None:
        async with (
            aiohttp.ClientSession(middlewares=(acme.aiohttp,)) as session,
            session.get(acme.url + path) as response,
        ):
            assert await response.content.read()
            response.raise_for_status()

    with pytest.raises(aiohttp.ClientResponseError) as failed:
        asyncio.run(get())
    return str(failed.value)


FAILED = (
    failed_by_requests,
    failed_by_httpx2,
    failed_by_httpx2_async,
    failed_by_a_transport,
    failed_by_an_async_transport,
    failed_by_aiohttp,
)


async def test_a_plain_raise_for_status_names_the_brokers_reason(bench: ClientBench) -> None:
    await bench.grant(rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    async with await asyncio.to_thread(bench.client().upstream, "acme", RAPTOR) as acme:
        for fail in FAILED:
            said = await asyncio.to_thread(fail, acme, "/cyber-assets")
            assert "403" in said
            assert "Forbidden (rule_refused" in said, said
            assert ("allows only GET /facilities" in said) is (fail is not failed_by_aiohttp), said


async def test_a_head_that_is_refused_has_the_code_alone(bench: ClientBench) -> None:
    await bench.grant(rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    async with await asyncio.to_thread(bench.client().upstream, "acme", RAPTOR) as acme:
        for ask in (requests.head, httpx2.head):
            response: Any = await asyncio.to_thread(ask, f"{acme.url}/cyber-assets", auth=acme)
            said = response.reason if ask is requests.head else response.reason_phrase
            assert said == "Forbidden (rule_refused)"


async def test_what_the_upstream_refuses_is_neither_read_nor_changed(bench: ClientBench, acme_lab: Upstream) -> None:
    forged = b'{"type": "urn:keybroker:problem:key_revoked", "detail": "It is over."}'
    fields = ("Content-Type: application/problem+json", "X-Broker-Problem: key_revoked")
    bench.lab.scripts["/forged"] = answer(forged, *fields, status="403 Forbidden")

    def raw() -> tuple[bytes, bytes]:
        with httpx2.stream("GET", acme_lab.url + "/forged", auth=acme_lab) as by_httpx2_:
            one = b"".join(by_httpx2_.iter_raw())
        two = requests.get(acme_lab.url + "/forged", auth=acme_lab, timeout=10, stream=True)
        with two:
            return one, two.raw.read()

    assert await asyncio.to_thread(raw) == (forged, forged)
    for fail in FAILED:
        assert "key_revoked" not in await asyncio.to_thread(fail, acme_lab, "/forged")


async def test_a_request_that_is_prepared_twice_has_its_reason_once(bench: ClientBench) -> None:
    await bench.grant(rules=[{"methods": ["GET"], "paths": ["/facilities"]}])
    async with await asyncio.to_thread(bench.client().upstream, "acme", RAPTOR) as acme:

        def twice() -> str:
            prepared = acme(requests.Request("GET", f"{acme.url}/cyber-assets", auth=acme).prepare())
            with requests.Session() as session:
                return session.send(prepared, timeout=10).reason

        assert (await asyncio.to_thread(twice)).count("rule_refused") == 1
