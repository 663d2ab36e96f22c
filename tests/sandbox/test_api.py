"""The documented API, as a customer's key meets it."""

from __future__ import annotations

import re

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.sandbox.app import create_sandbox
from broker.sandbox.state import State
from tests.sandbox.conftest import Sandbox

KINDS = ["facilities", "control-centers", "cyber-systems", "cyber-assets"]
READ_ONLY = KINDS[:3]


def refusal(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, error and message of an answer that has nothing else."""
    body = answer.json()
    assert set(body) == {"error", "message"}
    return answer.status_code, body["error"], body["message"]


async def test_a_key_has_the_documented_form_and_lists_its_facilities(sandbox: Sandbox) -> None:
    organization, key = await sandbox.customer()
    assert re.fullmatch(r"rc_live_[A-Za-z0-9]{64}", key["X-API-Key"])
    answer = await sandbox.http.get("/facilities", headers=key)
    assert answer.status_code == 200
    assert [item["id"] for item in answer.json()] == organization["facilities"]
    assert all(set(item) == {"id", "name"} and item["id"].startswith("fac_") for item in answer.json())


@pytest.mark.parametrize("kind", KINDS)
async def test_what_a_key_lists_it_can_read_one_by_one(sandbox: Sandbox, kind: str) -> None:
    _, key = await sandbox.customer()
    for item in (await sandbox.http.get(f"/{kind}", headers=key)).json():
        assert (await sandbox.http.get(f"/{kind}/{item['id']}", headers=key)).json() == item


async def test_a_call_without_a_key_says_so(sandbox: Sandbox) -> None:
    answer = await sandbox.http.get("/facilities")
    assert refusal(answer) == (401, "Unauthorized", "Missing X-API-Key header")


@pytest.mark.parametrize("text", ["", "rc_live_short", "rc_live_" + "a" * 64, "Bearer x"])
async def test_an_unknown_key_is_invalid(sandbox: Sandbox, text: str) -> None:
    await sandbox.customer()
    answer = await sandbox.http.get("/facilities", headers={"X-API-Key": text})
    assert refusal(answer) == (401, "Unauthorized", "Invalid API key")


@pytest.mark.parametrize("kind", KINDS)
async def test_another_tenants_ids_are_not_found(sandbox: Sandbox, kind: str) -> None:
    acme, _ = await sandbox.customer("Acme")
    _, key = await sandbox.customer("Globex")
    for wanted in (acme[kind][0], "nothing"):
        answer = await sandbox.http.get(f"/{kind}/{wanted}", headers=key)
        assert refusal(answer) == (404, "Not Found", "Resource not found")


async def test_another_tenants_cyber_asset_can_be_neither_changed_nor_deleted(sandbox: Sandbox) -> None:
    acme, acme_key = await sandbox.customer("Acme")
    _, key = await sandbox.customer("Globex")
    path = f"/cyber-assets/{acme['cyber-assets'][0]}"
    before = (await sandbox.http.get(path, headers=acme_key)).json()
    assert (await sandbox.http.patch(path, headers=key, json={"name": "taken"})).status_code == 404
    assert (await sandbox.http.delete(path, headers=key)).status_code == 404
    assert (await sandbox.http.get(path, headers=acme_key)).json() == before


async def test_a_cyber_asset_is_created_read_changed_and_deleted(sandbox: Sandbox) -> None:
    _, key = await sandbox.customer()
    made = await sandbox.http.post("/cyber-assets", headers=key, json={"name": "RTU 9", "type": "rtu"})
    assert made.status_code == 201
    path = f"/cyber-assets/{made.json()['id']}"
    assert made.json() == {"id": made.json()["id"], "name": "RTU 9", "type": "rtu"}
    changed = await sandbox.http.patch(path, headers=key, json={"description": "new"})
    assert changed.json() == {**made.json(), "description": "new"}
    assert changed.json() in (await sandbox.http.get("/cyber-assets", headers=key)).json()
    gone = await sandbox.http.delete(path, headers=key)
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await sandbox.http.get(path, headers=key)).status_code == 404
    assert (await sandbox.http.delete(path, headers=key)).status_code == 404


@pytest.mark.parametrize("kind", READ_ONLY)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_what_the_role_may_only_read_it_may_not_write(sandbox: Sandbox, kind: str, method: str) -> None:
    organization, key = await sandbox.customer()
    for path in (f"/{kind}", f"/{kind}/{organization[kind][0]}", f"/{kind}/nothing"):
        if method != "POST" or path == f"/{kind}":
            answer = await sandbox.http.request(method, path, headers=key, json={"name": "x"})
            assert refusal(answer) == (403, "Forbidden", "The api_user role may only read this resource")
    assert len((await sandbox.http.get(f"/{kind}", headers=key)).json()) == len(organization[kind])


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/cyber-assets", "GET, HEAD, POST"),
        ("PATCH", "/cyber-assets", "GET, HEAD, POST"),
        ("PUT", "/cyber-assets/x", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/cyber-assets/x", "DELETE, GET, HEAD, PATCH"),
        ("OPTIONS", "/facilities/x", "GET, HEAD"),
    ],
)
async def test_a_method_that_a_resource_lacks_is_not_allowed(
    sandbox: Sandbox, method: str, path: str, allow: str
) -> None:
    _, key = await sandbox.customer()
    answer = await sandbox.http.request(method, path, headers=key)
    assert refusal(answer) == (405, "Method Not Allowed", "Method Not Allowed")
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Body is not valid JSON"),
        (b"{not json", "Body is not valid JSON"),
        (b"\xff\xfe\x00", "Body is not valid JSON"),
        (b"[" * 100_000, "Body is not valid JSON"),
        (b"[]", "Body must be an object"),
        (b'"name"', "Body must be an object"),
        (b"{}", "Field required: name"),
        (b'{"type": "rtu"}', "Field required: name"),
        (b'{"name": ""}', "Fields must be non-empty strings"),
        (b'{"name": "  "}', "Fields must be non-empty strings"),
        (b'{"name": null}', "Fields must be non-empty strings"),
        (b'{"name": 1}', "Fields must be non-empty strings"),
        (b'{"name": "\\ud800"}', "Fields must be non-empty strings"),
        (b'{"name": "a", "id": "ca_mine"}', "Unknown field: id"),
        (b'{"name": "a", "\\ud800": "b"}', "Unknown field: \\ud800"),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_body_that_is_no_cyber_asset_is_refused(sandbox: Sandbox, body: bytes, message: str) -> None:
    organization, key = await sandbox.customer()
    answer = await sandbox.http.post("/cyber-assets", headers=key, content=body)
    assert refusal(answer) == (422, "Unprocessable Entity", message)
    if not message.startswith("Field required"):
        path = f"/cyber-assets/{organization['cyber-assets'][0]}"
        assert refusal(await sandbox.http.patch(path, headers=key, content=body))[2] == message
    listed = await sandbox.http.get("/cyber-assets", headers=key)
    assert [item["id"] for item in listed.json()] == organization["cyber-assets"]


async def test_an_unknown_path_is_not_found_with_a_key_and_unauthorized_without(sandbox: Sandbox) -> None:
    _, key = await sandbox.customer()
    for path in ("/", "/users/me/organizations", "/facilities/", "/facilities/a%2Fb", "/facilities/a/b"):
        assert (await sandbox.http.get(path, headers=key)).status_code == 404
        assert (await sandbox.http.get(path)).status_code == 401


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"]),
    st.sampled_from(
        ["/", "/facilities", "/facilities/x", "/cyber-assets", "/cyber-assets/x", "/_admin/faults", "/%00"]
    ),
    st.binary(max_size=20) | st.sampled_from([b"", b'{"name": "x"}', b'{"name": "\\udfff"}', b'{"latency_ms": 1e9}']),
)
async def test_no_request_breaks_the_sandbox(method: str, path: str, body: bytes) -> None:
    state = State()
    _, text = state.add_key(state.add_organization("Acme"))
    transport = httpx2.ASGITransport(app=create_sandbox("token", state))
    headers = {"X-API-Key": text, "X-Admin-Token": "token"}
    async with httpx2.AsyncClient(transport=transport, base_url="http://sandbox") as http:
        answer = await http.request(method, path, content=body, headers=headers)
    assert answer.status_code < 500
