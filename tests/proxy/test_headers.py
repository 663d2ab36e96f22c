"""What reaches the upstream and what comes back, seen byte for byte on both sides."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from tests.proxy.conftest import Bench, problem
from tests.support.lab import KEY, Seen, answer


def get(target: str, headers: bytes = b"Host: x\r\nConnection: close\r\n") -> bytes:
    line = f"GET /proxy/acme/lab{target} HTTP/1.1\r\nAuthorization: Bearer %TOKEN%\r\n"
    return line.encode() + headers + b"\r\n"


async def test_the_key_is_in_its_slot_once_whatever_the_caller_sends(bench: Bench) -> None:
    lease = await bench.lease()
    tries = ["X-Lab-Key", "x-lab-key", "X_Lab_Key", "x%2Dlab%2Dkey"]
    for name in tries:
        given = f"Host: evil.example\r\n{name}: mine\r\n{name}: again\r\nConnection: close, X-Lab-Key\r\n"
        reader, writer = await bench.raw(lease, get("/x", given.encode()))
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert len(bench.lab.calls) == len(tries)
    for seen in bench.lab.calls:
        aliases = [(n, v) for n, v in seen.headers if n.lower().replace("_", "-").replace("%2d", "-") == "x-lab-key"]
        assert aliases == [("X-Lab-Key", KEY)]
        assert seen.values("host") == [bench.lab.url.removeprefix("http://")], "the caller's Host stays here"
        assert not {"authorization", "cookie", "x-forwarded-for"} & seen.names
        assert seen.values("x-lab-version") == ["7"], "the provider's fixed header"
        assert seen.values("accept-encoding") == ["identity"]


async def test_the_key_in_the_query_replaces_every_spelling_and_nothing_else(bench: Bench) -> None:
    await bench.world.call(
        "POST",
        "/v1/credentials",
        status=201,
        json={"organization": "acme", "provider": "lab-query", "key": KEY[:-1] + "Z"},
    )
    lease = await bench.lease(provider="lab-query")
    await bench.call(lease, "/x?api_key=mine&q=%7Ba%7D&API_KEY=2&api%5Fkey=3&empty=")
    (seen,) = bench.lab.calls
    assert (
        seen.target
        == b"/base/x?q=%7Ba%7D&empty=&api_key=" + (KEY[:-1] + "Z").replace("/", "%2F").replace("+", "%2B").encode()
    )
    events = await bench.world.events(kind="use.authorized")
    assert events[-1]["core"]["target"]["query"] == ["API_KEY", "api_key", "empty", "q"]
    assert KEY[:-1] not in str(events)


async def test_the_token_may_stand_where_the_key_goes(bench: Bench) -> None:
    lease = await bench.lease()
    got = await bench.world.http.get("/proxy/acme/lab/x", headers={"X-Lab-Key": lease["token"]})
    assert got.status_code == 200
    assert bench.lab.calls[-1].values("x-lab-key") == [KEY]
    await bench.world.call(
        "POST",
        "/v1/credentials",
        status=201,
        json={"organization": "acme", "provider": "lab-basic", "key": KEY[:-1] + "Y"},
    )
    basic = await bench.lease(provider="lab-basic")
    got = await bench.world.http.get("/proxy/acme/lab-basic/x", auth=(basic["token"], "anything"))
    assert got.status_code == 200
    pair = base64.b64decode(bench.lab.calls[-1].values("authorization")[0].removeprefix("Basic ")).decode()
    assert pair == f"{KEY[:-1]}Y:x"
    refused = await bench.world.http.get("/proxy/acme/lab/x")
    assert problem(refused) == (401, "unauthenticated")
    assert "X-Lab-Key" in refused.json()["detail"]


async def test_headers_that_name_another_method_or_path_stay_here(bench: Bench) -> None:
    lease = await bench.lease(presets=["read-only"])
    await bench.call(
        lease,
        "/facilities/1",
        headers={
            "X-HTTP-Method-Override": "DELETE",
            "X-Method-Override": "DELETE",
            "X-Original-URL": "/admin",
            "X-Rewrite-URL": "/admin",
        },
    )
    (seen,) = bench.lab.calls
    assert not {name for name in seen.names if "override" in name or name.endswith("-url")}
    assert problem(await bench.call(lease, "/facilities/1?_method=DELETE")) == (403, "rule_refused")


async def test_an_encoded_slash_passes_where_the_provider_file_allows_it_and_rules_see_one_segment(
    bench: Bench,
) -> None:
    bench.declare(encoded_slashes=("/projects/*", "/projects/*/**"))
    lease = await bench.lease(rules=[{"methods": ["GET"], "paths": ["/projects/acme%2F*/issues"]}])
    assert (await bench.call(lease, "/projects/acme%2Fapp/issues")).status_code == 200
    assert [seen.target for seen in bench.lab.calls] == [b"/base/projects/acme%2Fapp/issues"]
    for path in ("/projects/acme/app/issues", "/projects/other%2Fapp/issues", "/projects/acme%2Fapp%2Fissues"):
        assert problem(await bench.call(lease, path)) == (403, "rule_refused"), path
    for path in ("/groups/a%2Fb", "/projects/acme%2F..%2Fother/issues"):
        assert problem(await bench.call(lease, path)) == (422, "path_refused"), path
    assert len(bench.lab.calls) == 1
    (used,) = await bench.world.events(kind="use.authorized")
    assert used["personal"]["path"] == "/base/projects/acme%2Fapp/issues"


async def test_the_path_sent_is_the_path_judged_byte_for_byte(bench: Bench) -> None:
    lease = await bench.lease()
    for path in ("/a/%20b", "/a/%C3%A9;v=1/x.json", "/a:b@c/~d", "/"):
        reader, writer = await bench.raw(lease, get(f"{path}?q=%2e%2e/&%zz"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200"), path
        writer.close()
        assert bench.lab.calls[-1].target == f"/base{path}?q=%2e%2e/&%zz".encode()
    for path in ("/a/../b", "/a/%2e%2e/b", "/a/..;/b", "/a%2fb", "//evil.example/", "/%5c"):
        reader, writer = await bench.raw(lease, get(path))
        assert b'"code":"path_refused"' in await reader.read(), path
        writer.close()
    assert len(bench.lab.calls) == 4
    assert len(await bench.world.events(kind="use.denied")) == 6


async def test_no_caller_input_is_a_template_or_chooses_the_host(bench: Bench) -> None:
    lease = await bench.lease()
    await bench.call(
        lease, "/%7Bkey%7D/{key}?a={key}", headers={"X-Note": "{key}", "X-Base-Url": "http://evil.example"}
    )
    (seen,) = bench.lab.calls
    assert KEY not in (seen.target + str([pair for pair in seen.headers if pair[0] != "X-Lab-Key"]).encode()).decode()
    assert seen.values("host") == [bench.lab.url.removeprefix("http://")]


async def test_an_upstreams_credentials_and_origin_headers_stay_behind(bench: Bench) -> None:
    behind = [
        "Set-Cookie: s=1", "WWW-Authenticate: Basic", "Authentication-Info: x", "Strict-Transport-Security: max-age=1",
        "Content-Security-Policy: default-src *", "Access-Control-Allow-Origin: *", "Cache-Control: public",
        "Clear-Site-Data: *", "Refresh: 0; url=http://evil.example", "Alt-Svc: h3", "Connection: X-Hop", "X-Hop: 1",
        "Accept-CH: DPR", "Age: 77", "Content-Security-Policy-Report-Only: default-src x", "Date: yesterday",
        "Cross-Origin-Embedder-Policy: unsafe-none", "Cross-Origin-Opener-Policy: unsafe-none",
        "Cross-Origin-Resource-Policy: cross-origin", "Expires: 0", "NEL: {}", "Permissions-Policy: usb=*",
        "Pragma: theirs", "Public-Key-Pins: x", "Referrer-Policy: unsafe-url", "Report-To: {}",
        "Reporting-Endpoints: a=b", "Server: theirs/1", "Service-Worker-Allowed: /", "Set-Cookie2: s=1",
        "X-Content-Type-Options: sniff", "X-Frame-Options: ALLOWALL",
    ]  # fmt: skip
    bench.lab.scripts["/x"] = answer(b"hi", *behind, "ETag: e", "X-Request-Id: up-1", "X-RateLimit-Remaining: 3")
    got = await bench.call(await bench.lease(), "/x")
    assert got.headers["etag"] == "e"
    assert got.headers["x-ratelimit-remaining"] == "3"
    assert got.headers["x-upstream-request-id"] == "up-1"
    assert got.headers["x-request-id"].startswith("req_")
    assert got.headers["cache-control"] == "no-store"
    assert got.headers["content-security-policy"].startswith("default-src 'none'")
    for line in behind:
        name, _, value = line.partition(": ")
        assert value not in got.headers.get_list(name), name
    completed = (await bench.world.events(kind="use.completed"))[-1]
    assert completed["personal"]["upstream_id"] == "up-1"


@pytest.mark.parametrize("name", ["X-Request-Id", "Request-Id", "X-Amzn-RequestId", "CF-Ray"])
async def test_an_upstreams_id_of_a_request_is_kept_only_where_it_is_one(
    bench: Bench, name: str, tmp_path: Path
) -> None:
    lease, basic = await bench.lease(), base64.b64encode(f"{KEY}:x".encode()).decode()
    said = {
        "Root=1-67891233-abcdef012345678912345678": True,
        "8d1:/a_b+c@d-e.f==": True,
        "i" * 200: True,
        "i" * 201: False,
        "Jane Doe <jane@acme.example>": False,
        "a\x9b31m": False,
        "a\xff\xfeb": False,
        KEY: False,
        f"id-{KEY.replace('/', '%2F')}": False,
        KEY.encode().hex(): False,
        basic: False,
    }
    for value, kept in said.items():
        bench.lab.scripts["/x"] = answer(b"hi", f"{name}: {value}")
        assert (await bench.call(lease, "/x")).status_code == 200
        await bench.uses()
        completed = (await bench.world.events(kind="use.completed"))[-1]
        assert completed["personal"].get("upstream_id", "") == (value if kept else "")
    for path in tmp_path.rglob("*.db*"):
        assert not any(
            form in path.read_bytes() for form in (KEY.encode(), KEY.encode().hex().encode(), basic.encode())
        )


@pytest.mark.parametrize(
    ("location", "handed_back"),
    [
        ("{lab}/base/y?page=2", "/proxy/acme/lab/y?page=2"),
        ("/base/y", "/proxy/acme/lab/y"),
        ("y", "/proxy/acme/lab/y"),
        ("../../../other", "{lab}/other"),
        ("/elsewhere", "{lab}/elsewhere"),
        ("/baseball", "{lab}/baseball"),
        ("https://cdn.example/file", "https://cdn.example/file"),
        ("//cdn.example/file", "http://cdn.example/file"),
    ],
)
async def test_redirects_are_handed_back_through_the_proxy_and_never_followed(
    bench: Bench, location: str, handed_back: str
) -> None:
    location = location.replace("{lab}", bench.lab.url)
    bench.lab.scripts["/x"] = answer(b"", f"Location: {location}", f"Link: <{location}>; rel=next", status="302 Found")
    got = await bench.call(await bench.lease(), "/x")
    expected = handed_back.replace("{lab}", bench.lab.url)
    if expected.startswith("/"):
        expected = f"{bench.world.settings.public_url}{expected}"
    assert (got.status_code, got.headers["location"]) == (302, expected)
    assert got.headers["link"] == f"<{expected}>; rel=next"
    assert len(bench.lab.calls) == 1


async def test_one_framing_each_way(bench: Bench) -> None:
    lease = await bench.lease()
    head = b"POST /proxy/acme/lab/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %TOKEN%\r\nConnection: close\r\n"
    both = head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    reader, writer = await bench.raw(lease, both)
    refused = await reader.read()
    writer.close()
    for seen in bench.lab.calls:  # either refused, or sent on with one framing
        assert len(seen.values("transfer-encoding")) + len(seen.values("content-length")) == 1
        assert seen.body == b"hello"
    assert refused.startswith((b"HTTP/1.1 400", b"HTTP/1.1 200"))
    bench.lab.requests.clear()
    for framing, body in (
        (b"Content-Length: 5\r\n\r\n", b"hello"),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        (b"Content-Length: 100000\r\n\r\n", b"x" * 100_000),
    ):
        reader, writer = await bench.raw(lease, head + framing + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
    assert [(len(s.values("transfer-encoding")), s.values("content-length")) for s in bench.lab.calls] == [
        (0, ["5"]),
        (1, []),
        (0, ["100000"]),
    ]
    assert [len(seen.body) for seen in bench.lab.calls] == [5, 5, 100_000]


@pytest.mark.parametrize("line", [b"X-A: b\rX-Lab-Key: c", b"X-A: b\0c", b"X-A : b", b"X-A: b\n X"])
async def test_a_header_that_could_be_two_is_refused(bench: Bench, line: bytes) -> None:
    lease = await bench.lease()
    reader, writer = await bench.raw(lease, get("/x", b"Host: x\r\nConnection: close\r\n" + line + b"\r\n"))
    assert (await reader.read()).split(b" ")[1] in {b"400", b"422"}
    writer.close()
    assert bench.lab.calls == []


async def test_every_method_is_forwarded_but_those_of_the_hop(bench: Bench) -> None:
    lease = await bench.lease()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert (await bench.call(lease, "/x", method)).status_code == 200
    assert [seen.method for seen in bench.lab.calls] == ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    assert problem(await bench.call(lease, "/x", "TRACE")) == (405, "method_not_allowed")
    assert len(bench.lab.calls) == 7


async def test_an_upgrade_is_not_passed_on(bench: Bench) -> None:
    lease = await bench.lease()
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "x"}
    assert (await bench.call(lease, "/x", headers=headers)).status_code == 200
    assert not {"upgrade"} & bench.lab.calls[-1].names


async def test_an_answer_in_an_encoding_that_was_not_asked_for_is_withheld(bench: Bench) -> None:
    bench.lab.scripts["/x"] = answer(b"\x1f\x8b...", "Content-Encoding: br")
    lease = await bench.lease()
    assert problem(await bench.call(lease, "/x", headers={"Accept-Encoding": "br"})) == (502, "upstream_encoding")
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "upstream_encoding"


async def test_a_job_that_leaves_ends_the_call_upstream(bench: Bench) -> None:
    started = asyncio.Event()

    async def slow(seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        started.set()
        if not await reader.read(1):
            seen.left.set()

    bench.lab.scripts["/slow"] = slow
    lease = await bench.lease()
    _, writer = await bench.raw(lease, get("/slow"))
    await started.wait()
    writer.close()
    async with asyncio.timeout(2):
        await bench.lab.calls[-1].left.wait()
    (use,) = await bench.uses()
    assert use.status is None
    assert (await bench.world.events(kind="use.completed"))[-1]["core"]["reason"] == "cut_short"


async def test_bytes_beyond_ascii_pass_unchanged_both_ways_or_are_refused(bench: Bench) -> None:
    bench.lab.scripts["/x"] = answer(b"", "X-Name: K\xc3\xa4se", "X-Old: K\xe4se")
    lease = await bench.lease()
    head = "Host: x\r\nConnection: close\r\nX-Name: Käse\r\n".encode()
    reader, writer = await bench.raw(lease, get("/x", head))
    got = await reader.read()
    writer.close()
    assert b"K\xc3\xa4se" in got
    assert b"K\xe4se" in got, "what an upstream says is handed back as it is"
    assert bench.lab.calls[-1].values("x-name") == ["K\xc3\xa4se"], "read as bytes"
    for refused in (get("/x", b"Host: x\r\nConnection: close\r\nX-Old: K\xe4se\r\n"), get("/x?q=\xe4")):
        reader, writer = await bench.raw(lease, refused)
        assert (await reader.read()).split(b" ")[1] in {b"400", b"422"}
        writer.close()
    assert len(bench.lab.calls) == 1


async def test_an_upstreams_cookie_is_kept_by_nobody(bench: Bench) -> None:
    bench.lab.scripts["/x"] = answer(b"hi", "Set-Cookie: session=acme; Path=/")
    lease = await bench.lease()
    for _ in range(2):
        assert (await bench.call(lease, "/x")).status_code == 200
    assert [seen.values("cookie") for seen in bench.lab.calls] == [[], []]


async def test_no_proxy_and_no_password_of_the_environment_is_taken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("default login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert (await bench.call(await bench.lease(), "/x")).status_code == 200
    assert bench.lab.calls[-1].values("authorization") == []


async def test_a_call_under_a_lease_that_is_over_is_on_the_record(bench: Bench) -> None:
    lease = await bench.lease()
    bench.world.clock.forward(seconds=3600)
    assert problem(await bench.call(lease, "/x")) == (409, "lease_over")
    assert [one["core"]["reason"] for one in await bench.world.events(kind="use.denied")] == ["lease_over"]
