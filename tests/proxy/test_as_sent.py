"""A call reaches the upstream as the job sent it, and its answer comes back as it is, odd ones too."""

from __future__ import annotations

from typing import Any

import pytest

from broker.web.proxy import _query
from tests.proxy.conftest import Bench, problem
from tests.support.lab import answer

INVALID_TOKEN = 'Bearer error="invalid_token"'


def faults(bench: Bench) -> float:
    counted = bench.world.services.metrics.registry.get_sample_value("keybroker_proxy_faults_total")
    assert counted is not None
    return counted


async def raw(bench: Bench, lease: dict[str, Any], request: bytes) -> bytes:
    reader, writer = await bench.raw(lease, request)
    got = await reader.read()
    writer.close()
    return got


def get(address: bytes, *headers: bytes, token: bytes = b"%TOKEN%") -> bytes:
    lines = (b"GET " + address + b" HTTP/1.1", b"Host: x", b"Connection: close", b"Authorization: Bearer " + token)
    return b"\r\n".join([*lines, *headers, b"", b""])


async def test_header_names_keep_the_case_the_job_sent(bench: Bench) -> None:
    sent = (b"X-Trace-ID: 1", b"content-TYPE: a/b", b"X-LAB-KEY: mine", b"Connection: X-hop", b"x-Hop: 1")
    assert (await raw(bench, await bench.lease(), get(b"/proxy/acme/lab/x", *sent))).startswith(b"HTTP/1.1 200")
    (seen,) = bench.lab.calls
    wanted = {"x-trace-id", "content-type", "x-lab-key", "x-hop"}
    assert [name for name, _ in seen.headers if name.lower() in wanted] == ["X-Trace-ID", "content-TYPE", "X-Lab-Key"]


@pytest.mark.parametrize("query", [b"", b"?", b"??", b"?a=b"])
async def test_an_empty_query_arrives_as_it_was_sent(bench: Bench, query: bytes) -> None:
    answered = await raw(bench, await bench.lease(), get(b"/proxy/acme/lab/x" + query))
    assert answered.startswith(b"HTTP/1.1 200")
    assert [seen.target for seen in bench.lab.calls] == [b"/base/x" + query]


async def test_the_jobs_request_id_reaches_the_upstream_and_the_brokers_has_its_own_name(bench: Bench) -> None:
    bench.lab.scripts["/x"] = answer(b"", "X-Request-Id: up-1", "X-Broker-Request-Id: forged")
    got = await bench.call(await bench.lease(), "/x", headers={"X-Request-ID": "job-1"})
    (seen,) = bench.lab.calls
    assert seen.values("x-request-id") == ["job-1"]
    assert not {name for name in seen.names if name.startswith("x-broker-")}
    (ours,) = got.headers.get_list("x-broker-request-id")
    assert ours.startswith("req_")
    assert (await bench.world.events(kind="use.authorized"))[-1]["core"]["request"] == ours
    assert got.headers["x-upstream-request-id"] == "up-1"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        (b"/proxy/acme/lab", b"/base"),
        (b"/proxy/acme/lab/", b"/base/"),
        (b"/proxy/acme/lab?a=b/c", b"/base?a=b/c"),
        (b"/proxy/acme/lab/?a", b"/base/?a"),
    ],
)
async def test_the_base_url_itself_is_called_with_and_without_a_slash(
    bench: Bench, address: bytes, target: bytes
) -> None:
    lease = await bench.lease(rules=[{"methods": ["POST"], "paths": ["/"]}])
    request = get(address, b"Content-Length: 2").replace(b"GET", b"POST", 1) + b"{}"
    assert (await raw(bench, lease, request)).startswith(b"HTTP/1.1 200")
    (seen,) = bench.lab.calls
    assert (seen.method, seen.target, seen.body) == ("POST", target, b"{}")
    path = target.decode().partition("?")[0]
    assert (await bench.world.events(kind="use.authorized"))[-1]["personal"]["path"] == path
    assert (await raw(bench, lease, get(address))).startswith(b"HTTP/1.1 403"), "rules cover it as any other path"


@pytest.mark.parametrize(
    ("query", "target", "read"),
    [(b"", b"/x", None), (b"", b"/x?", ""), (b"a=b", b"/x?a=b", "a=b"), (b"", None, None), (b"?", b"/x??", "?")],
)
def test_an_empty_query_is_told_from_none_where_the_server_tells(
    query: bytes, target: bytes | None, read: str | None
) -> None:
    told = {} if target is None else {"extensions": {"keybroker.target": target}}
    assert _query({"query_string": query, **told}) == read


async def test_a_query_that_is_too_long_or_no_query_says_so(bench: Bench) -> None:
    lease = await bench.lease()
    assert (await bench.call(lease, f"/x?{'a' * 16_384}")).status_code == 200
    refused = await bench.call(lease, f"/x?{'a' * 16_385}")
    assert problem(refused) == (422, "invalid")
    assert "16385" in refused.json()["detail"]
    assert "16384" in refused.json()["detail"]
    assert "percent" not in refused.json()["detail"]
    assert len(bench.lab.calls) == 1


async def test_a_query_whose_names_cannot_be_told_is_refused_on_the_record(bench: Bench) -> None:
    refused = await bench.call(await bench.lease(), f"/x?%{'25' * 8_000}=1")
    assert problem(refused) == (422, "query_refused")
    assert (await bench.world.events(kind="use.denied"))[-1]["core"]["reason"] == "query_refused"
    assert bench.lab.calls == []


@pytest.mark.parametrize(
    "query", [".method", "[method", "%20_method", "+_method", "_method[]", "a=1;_method", "_method%00", "%5f%4dethod"]
)
async def test_a_grant_that_limits_methods_forwards_no_other_one_in_the_query(bench: Bench, query: str) -> None:
    lease = await bench.lease(rules=[{"methods": ["POST"], "paths": ["/cyber-assets"]}])
    answered = await raw(
        bench, lease, get(f"/proxy/acme/lab/cyber-assets?{query}=DELETE".encode()).replace(b"GET", b"POST", 1)
    )
    assert b"rule_refused" in answered
    assert bench.lab.calls == []


@pytest.mark.parametrize(
    "token", [b"a.\xff.b", b"\xff", "é.é.é".encode(), b"a.b.c", b"kbl_" + b"A" * 54, b"kbl_", b"nonsense"]
)
async def test_a_token_that_is_none_is_a_401_and_no_fault_of_the_broker(bench: Bench, token: bytes) -> None:
    lease = await bench.lease()
    for request in (
        get(b"/proxy/acme/lab/x", token=token),
        get(b"/proxy/acme/lab/x").replace(b"Authorization: Bearer %TOKEN%", b"X-Lab-Key: " + token),
    ):
        head, _, body = (await raw(bench, lease, request)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 401")
        assert f"www-authenticate: {INVALID_TOKEN}".encode() in head
        assert b'"code":"un' in body  # unauthenticated, unknown_lease
    assert faults(bench) == 0
    assert bench.lab.calls == []


async def test_no_token_is_a_401_that_names_no_error(bench: Bench) -> None:
    got = await bench.world.http.get("/proxy/acme/lab/x")
    assert (got.status_code, got.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize("location", ["http://[", "http://[::1/x", "//[", "http://h:99999/", "a\xff\xfeb"])
async def test_a_reference_that_cannot_be_read_is_handed_back_as_it_is(bench: Bench, location: str) -> None:
    bench.lab.scripts["/x"] = answer(b"", f"Location: {location}", f"Link: <{location}>", status="302 Found")
    lease = await bench.lease()
    got = await raw(bench, lease, get(b"/proxy/acme/lab/x"))
    assert got.startswith(b"HTTP/1.1 302")
    assert location.encode("latin-1") in got
    assert faults(bench) == 0
    (use,) = await bench.uses()
    assert use.status == 302


@pytest.mark.parametrize("name", ["X-Request-Id", "Request-Id", "CF-Ray"])
async def test_odd_bytes_in_an_upstreams_id_do_not_reach_the_record_or_break_it(bench: Bench, name: str) -> None:
    bench.lab.scripts["/x"] = answer(b"ok", f"{name}: a\xff\xfeb")
    lease = await bench.lease()
    got = await raw(bench, lease, get(b"/proxy/acme/lab/x"))
    assert got.startswith(b"HTTP/1.1 200")
    assert b"a\xff\xfeb" in got
    (use,) = await bench.uses()
    assert use.status == 200, "its outcome is on the record"
    assert (await bench.world.events(kind="use.completed"))[-1]["personal"].get("upstream_id", "") == ""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("length", [(), ("Content-Length: 0",)])
async def test_an_answer_without_content_says_no_length(bench: Bench, status: str, length: tuple[str, ...]) -> None:
    bench.lab.scripts["/x"] = "\r\n".join([f"HTTP/1.1 {status}", *length, "ETag: e", "", ""]).encode()
    head, _, body = (await raw(bench, await bench.lease(), get(b"/proxy/acme/lab/x"))).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status[:3]}".encode())
    assert b"etag: e" in head.lower()
    assert b"content-length" not in head.lower()
    assert body == b""


async def test_what_speaks_to_servers_before_the_broker_stays_behind(bench: Bench) -> None:
    behind = (
        "X-Accel-Redirect: /v1/leases",
        "X-Sendfile: /etc/passwd",
        "CDN-Cache-Control: public",
        "x_accel_expires: 60",
    )
    bench.lab.scripts["/x"] = answer(b"ok", *behind, "ETag: e")
    got = await bench.call(await bench.lease(), "/x")
    assert got.headers["etag"] == "e"
    assert not {line.partition(":")[0].lower() for line in behind} & set(got.headers)
