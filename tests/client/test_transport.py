"""Code that keeps the upstream's own URLs goes through the broker with another transport."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest

from broker.client.errors import OutsideUpstream
from broker.client.upstream import Upstream
from tests.client.served import LAB, ClientBench
from tests.support.lab import KEY, answer, lab_upstream

THEIRS = "https://api.lab.example/base"


@pytest.fixture
async def acme(bench: ClientBench) -> AsyncIterator[Upstream]:
    await bench.grant(LAB)
    async with await asyncio.to_thread(bench.client().upstream, "acme", LAB) as made:
        yield made


async def test_the_upstreams_own_urls_reach_it_by_way_of_the_broker(bench: ClientBench, acme: Upstream) -> None:
    def use() -> httpx2.Response:
        with httpx2.Client(base_url=THEIRS, transport=acme.transport(THEIRS)) as client:
            return client.get("/facilities/f-1", params={"page": 2})

    response = await asyncio.to_thread(use)
    assert (response.status_code, str(response.request.url)) == (200, f"{THEIRS}/facilities/f-1?page=2")
    (seen,) = bench.lab.calls
    assert (seen.target, seen.values("x-lab-key")) == (b"/base/facilities/f-1?page=2", [KEY])


async def test_an_async_client_does_the_same(bench: ClientBench, acme: Upstream) -> None:
    async with httpx2.AsyncClient(base_url=THEIRS, transport=acme.async_transport(THEIRS)) as client:
        assert (await client.post("/things", json={"a": 1})).status_code == 200
    (seen,) = bench.lab.calls
    assert (seen.method, seen.target, seen.body) == ("POST", b"/base/things", b'{"a":1}')


async def test_path_and_query_pass_byte_for_byte(bench: ClientBench, acme: Upstream) -> None:
    targets = [
        b"/base/a%2Db/%7Euser/%c3%a9;v=1/~x?q=%2e%2E&empty=&b=%5B1%5D&plus=a+b%20c&raw='()*!",
        b"/base/a/",
        b"/base/%41",
    ]
    async with httpx2.AsyncClient(transport=acme.async_transport(THEIRS)) as client:
        for target in targets:
            url = httpx2.URL("https://api.lab.example").copy_with(raw_path=target)
            assert (await client.get(url)).status_code == 200
            # and where the caller writes the target out
            assert (await client.get(f"{THEIRS}/shown", extensions={"target": target})).status_code == 200
    assert [seen.target for seen in bench.lab.calls] == [target for target in targets for _ in range(2)]


async def test_a_path_that_can_be_read_in_two_ways_is_not_cleaned_up_but_refused(
    bench: ClientBench, acme: Upstream
) -> None:
    async with httpx2.AsyncClient(transport=acme.async_transport(THEIRS)) as client:
        response = await client.get(f"{THEIRS}/a/%2e%2e/b")
    assert (response.status_code, response.json()["code"]) == (422, "path_refused")
    assert bench.lab.calls == []


async def test_a_key_that_the_code_sends_is_replaced_by_the_broker(bench: ClientBench, acme: Upstream) -> None:
    headers = {"X-Lab-Key": "placeholder", "Authorization": "Bearer placeholder", "X-Mine": "stays"}
    async with httpx2.AsyncClient(transport=acme.async_transport(THEIRS), headers=headers) as client:
        await client.get(f"{THEIRS}/things")
    (seen,) = bench.lab.calls
    assert (seen.values("x-lab-key"), seen.values("authorization"), seen.values("x-mine")) == ([KEY], [], ["stays"])


async def test_a_streamed_body_stays_streamed(bench: ClientBench, acme: Upstream) -> None:
    def use() -> None:
        def chunks() -> Iterator[bytes]:
            yield from (b"one", b"two")

        with httpx2.Client(transport=acme.transport(THEIRS)) as client:
            assert client.put(f"{THEIRS}/upload", content=chunks()).status_code == 200

    await asyncio.to_thread(use)
    assert bench.lab.calls[0].body == b"onetwo"


async def test_any_other_place_is_refused(tmp_path_factory: pytest.TempPathFactory, acme: Upstream) -> None:
    async with lab_upstream(tmp_path_factory.mktemp("elsewhere")) as elsewhere:
        places = [
            f"{elsewhere.url}/base/facilities",
            "http://api.lab.example/base/facilities",
            "https://api.lab.example:8443/base/facilities",
            "https://api.lab.example/facilities",
            "https://api.lab.example/baseless",
            f"{acme.url}x/facilities",
        ]
        async with httpx2.AsyncClient(transport=acme.async_transport(THEIRS)) as client:
            for place in places:
                with pytest.raises(OutsideUpstream, match=f"not below {THEIRS}"):
                    await client.get(place)
        with httpx2.Client(transport=acme.transport(THEIRS)) as client_, pytest.raises(OutsideUpstream):
            client_.get(places[0])
        assert elsewhere.requests == []


async def test_redirects_and_links_within_the_upstream_are_followed(bench: ClientBench, acme: Upstream) -> None:
    link = f'Link: <{bench.lab.url}/base/things?page=2>; rel="next"'
    bench.lab.scripts["/things"] = answer(b"[]", link)
    bench.lab.scripts["/old"] = answer(b"", "Location: /base/things?page=1", status="301 Moved Permanently")
    transport = acme.async_transport(THEIRS)
    async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as client:
        first = await client.get(f"{THEIRS}/old")
        await client.get(first.links["next"]["url"])
    targets = [seen.target for seen in bench.lab.calls]
    assert targets == [b"/base/old", b"/base/things?page=1", b"/base/things?page=2"]


async def test_a_redirect_elsewhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, bench: ClientBench, acme: Upstream
) -> None:
    async with lab_upstream(tmp_path_factory.mktemp("elsewhere")) as elsewhere:
        bench.lab.scripts["/away"] = answer(b"", f"Location: {elsewhere.url}/file", status="302 Found")
        transport = acme.async_transport(THEIRS)
        async with httpx2.AsyncClient(transport=transport, follow_redirects=True) as client:
            with pytest.raises(OutsideUpstream):
                await client.get(f"{THEIRS}/away")
        assert elsewhere.requests == []
