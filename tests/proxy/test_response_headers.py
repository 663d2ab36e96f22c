"""What of an upstream's answer is handed back, and what is kept of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.proxy.response_headers import Addresses, request_id, response_headers

PROXY = "https://keys.example/proxy/acme/lab"
ADDRESSES = Addresses("https://api.example/v1", PROXY, "https://api.example/v1/jobs")

BEHIND = [
    # an upstream's credentials
    "Set-Cookie", "Set-Cookie2", "WWW-Authenticate", "Authentication-Info", "Proxy-Authenticate", "Proxy-Authorization",
    "Proxy-Authentication-Info", "Proxy-Status", "Proxy-Connection",
    # what speaks for the broker's own origin
    "Accept-CH", "Access-Control-Allow-Origin", "Alt-Svc", "Clear-Site-Data", "Content-Security-Policy",
    "Content-Security-Policy-Report-Only", "Cross-Origin-Embedder-Policy", "Cross-Origin-Opener-Policy",
    "Cross-Origin-Resource-Policy", "NEL", "Permissions-Policy", "Public-Key-Pins", "Referrer-Policy", "Refresh",
    "Report-To", "Reporting-Endpoints", "Server", "Service-Worker-Allowed", "Strict-Transport-Security",
    "X-Content-Type-Options", "X-Frame-Options",
    # of one hop
    "Connection", "Keep-Alive", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
    # what speaks to servers, caches and CDNs before the broker
    "Age", "Cache-Control", "Date", "Expires", "Pragma", "X-Accel-Redirect", "X-Accel-Expires", "X-Accel-Limit-Rate",
    "X-Accel-Buffering", "X-Accel-Charset", "X-Sendfile", "X-Sendfile2", "X-Sendfile-Type", "X-LiteSpeed-Location",
    "X-LiteSpeed-Cache-Control", "X-Reproxy-URL", "X-Reproxy-File", "X-Lighttpd-Send-File",
    "X-Lighttpd-Send-Tempfile", "Surrogate-Control", "Surrogate-Key", "Surrogate-Capability", "CDN-Cache-Control",
    "Cloudflare-CDN-Cache-Control", "Vercel-CDN-Cache-Control", "Edge-Control", "X-Varnish", "X-Varnish-TTL",
    # what the broker itself tells
    "X-Broker-Request-Id", "X-Broker-Tries",
]  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
def test_it_stays_behind_in_every_spelling(name: str) -> None:
    spellings = [name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", ".")]
    sent = [(spelling, "x") for spelling in spellings]
    assert response_headers([*sent, ("ETag", "e")], ADDRESSES, 200) == [("ETag", "e")]


@pytest.mark.parametrize("name", ["ETag", "Retry-After", "X-RateLimit-Remaining", "Content-Type", "X-Cache", "Vary"])
def test_what_is_for_the_job_is_handed_back(name: str) -> None:
    assert response_headers([(name, "x")], ADDRESSES, 200) == [(name, "x")]


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_content_says_no_length(status: int) -> None:
    for length in ("0", "999"):
        assert response_headers([("Content-Length", length), ("ETag", "e")], ADDRESSES, status) == [("ETag", "e")]
    for other in (200, 205, 404):
        assert response_headers([("Content-Length", "0")], ADDRESSES, other) == [("Content-Length", "0")]


@pytest.mark.parametrize("name", ["Location", "Content-Location", "Operation-Location", "Azure-AsyncOperation"])
@pytest.mark.parametrize(
    ("reference", "handed_back"),
    [
        ("https://api.example/v1/jobs/7", f"{PROXY}/jobs/7"),
        ("https://API.example:443/v1/jobs/7?a=b#c", f"{PROXY}/jobs/7?a=b#c"),
        ("/v1", PROXY),
        ("7", f"{PROXY}/7"),
        ("https://api.example:8443/v1/jobs", "https://api.example:8443/v1/jobs"),
        ("https://api.example:0/v1/jobs", "https://api.example:0/v1/jobs"),
        ("http://api.example/v1/jobs", "http://api.example/v1/jobs"),
        ("https://cdn.example/v1/jobs", "https://cdn.example/v1/jobs"),
        ("https://job@api.example/v1/jobs", "https://job@api.example/v1/jobs"),
        ("urn:job:7", "urn:job:7"),
    ],
)
def test_a_reference_to_the_upstream_leads_through_the_proxy(name: str, reference: str, handed_back: str) -> None:
    assert response_headers([(name, reference)], ADDRESSES, 202) == [(name, handed_back)]
    link = f'<{reference}>; rel="next", <https://cdn.example/x>; rel="a"'
    expected = f'<{handed_back}>; rel="next", <https://cdn.example/x>; rel="a"'
    assert response_headers([("Link", link)], ADDRESSES, 200) == [("Link", expected)]


def test_a_base_url_that_spells_its_port_out_is_the_same_place() -> None:
    spelled = Addresses("http://lab.example:80", PROXY, "http://lab.example:80/x")
    assert spelled.through_proxy("http://lab.example/y") == f"{PROXY}/y"


UNREADABLE = [
    "http://[",
    "http://[::1",
    "//[",
    "https://api.example:99999/v1",
    "https://api.example:x/v1",
    "//a\u2100b/",
]


@pytest.mark.parametrize("reference", UNREADABLE)
def test_a_reference_that_cannot_be_read_stays_as_it_is(reference: str) -> None:
    given = [("Location", reference), ("Link", f"<{reference}>; rel=next")]
    assert response_headers(given, ADDRESSES, 302) == given


@given(st.text(max_size=30), st.sampled_from(["", "//", "http://", "https://api.example", "/v1/"]))
def test_no_reference_breaks_an_answer(text: str, before: str) -> None:
    assert isinstance(ADDRESSES.through_proxy(before + text), str)


@pytest.mark.parametrize("name", ["X-Request-Id", "Request-Id", "x-amzn-RequestId", "CF-Ray"])
def test_the_upstreams_request_id_is_kept(name: str) -> None:
    assert request_id([(name, "a.B_9:/+=@-")]) == "a.B_9:/+=@-"
    assert request_id([(name, "x" * 200)]) == "x" * 200


@pytest.mark.parametrize(
    "odd", ["a\udcff\udcfeb", "a b", "", "Jane Doe <jane@acme.example>", "\x9b31m", "x" * 201, "é", "a\n", "a\0"]
)
def test_what_looks_like_no_request_id_is_not_kept(odd: str) -> None:
    assert request_id([("Request-Id", odd)]) == ""
