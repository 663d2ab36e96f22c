"""Plant keys and search everything the program writes, says or shows for every encoding of them."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.client.client import Client
from broker.client.identity import Identity, generate, public
from broker.client.submission import submit_key
from broker.keystore.local import MasterKeys
from broker.sandbox.app import create_sandbox
from broker.sandbox.serve import running as serving
from broker.sandbox.state import Faults, State
from tests.support.databases import Postgres
from tests.support.lab import KEY as LAB_KEY
from tests.support.lab import answer, lab_upstream
from tests.support.processes import free_port
from tests.support.program import Program


def encodings(secret: bytes) -> Iterator[bytes]:
    """The forms in which a secret might lie about."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield json.dumps(secret.decode("latin-1")).strip('"').encode()
    yield secret[::-1]
    yield secret.decode("latin-1").encode("utf-16-le")
    for shift in range(3):  # wherever it begins within a base64 text
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * shift + secret)
            yield text[8 : len(text) // 4 * 4 - 4]


def found(secrets: dict[str, bytes], where: str, data: bytes) -> list[str]:
    """Which secrets stand in ``data``."""
    return [f"{name} in {where}" for name, secret in secrets.items() if any(form in data for form in encodings(secret))]


@pytest.mark.parametrize("encode", [bytes, base64.b64encode, bytes.hex, urllib.parse.quote, base64.urlsafe_b64encode])
@pytest.mark.parametrize("prefix", [b"", b"a", b"ab", b"abc"])
def test_the_search_itself_finds_every_encoding(encode: Any, prefix: bytes) -> None:
    secret = b"rc_live_" + bytes(range(65, 91))
    hidden = encode(prefix + secret + b"tail")
    data = b"noise " + (hidden.encode() if isinstance(hidden, str) else hidden) + b" noise"
    assert found({"it": secret}, "here", data) == ["it in here"]
    assert found({"it": b"rc_live_" + bytes(range(66, 92))}, "here", data) == []


async def dump(postgres: Postgres, url: str) -> bytes:
    """Every row of every table, bytes in clear."""
    async with postgres.superuser(url) as connection:
        tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        rows = [
            value if isinstance(value, bytes) else str(value).encode()
            for table in tables
            for row in await connection.fetch(f"SELECT * FROM {table['tablename']}")
            for value in row.values()
        ]
    return b"\n".join(rows)


async def test_planted_secrets_are_found_nowhere(
    tmp_path: Path, database_url: str, prepared_postgres: Postgres
) -> None:
    master = MasterKeys({}, "").with_new_key()
    master.write_file(tmp_path / "master-keys.toml")
    state = State()
    async with (
        serving(create_sandbox("canary-admin-token", state)) as upstream,
        lab_upstream(tmp_path / "providers") as lab,
    ):
        lab.scripts |= dict(echoes())
        program = await asyncio.to_thread(Program, tmp_path, database_url, upstream, free_port())
        try:
            secrets, said = await asyncio.to_thread(live, program, state)
            processes = processes_of(program.process.pid)
        finally:
            await asyncio.to_thread(program.stop)
    secrets |= {f"master key {name}": key.reveal() for name, key in master.keys.items()}

    leaks = [leak for where, data in said for leak in found(secrets, where, data)]
    leaks += found(secrets, "process listing", processes)
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "master-keys.toml":
            leaks += found(secrets, path.name, path.read_bytes())
    if database_url.startswith("postgresql"):
        leaks += found(secrets, "database", await dump(prepared_postgres, database_url))
        directory = Path(prepared_postgres.socket)
        for path in directory.rglob("*"):
            if path.is_file() and not path.is_socket():
                leaks += found(secrets, str(path.relative_to(directory)), path.read_bytes())
    assert leaks == []
    assert secrets.keys() >= {"customer key", "revealed key", "lease token", "access token", "operator token", "link"}


def processes_of(pid: int) -> bytes:
    """Command line, title and environment as others can see them."""
    listing = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
    return listing + Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


_KEPT = ("X-Request-Id", "Request-Id", "X-Amzn-RequestId", "CF-Ray")  # of an upstream's answer, masked
_SHOWN = ("Set-Cookie", "Location", "Link", "Content-Location", "Server", "Retry-After", "ETag", "X-Key")


def echoes() -> Iterator[tuple[str, bytes]]:
    """Answers of an upstream that writes the key wherever something of an answer may be kept or told."""
    key = LAB_KEY.encode()
    written = [LAB_KEY, urllib.parse.quote(LAB_KEY, safe=""), key.hex(), base64.b64encode(b"a" + key).decode()]
    yield "/facilities", answer(f'[{{"id": "{LAB_KEY}"}}, {{"id": "lab-1"}}]'.encode())  # what tells whose the key is
    yield "/status-line", answer(b"hi", status=f"200 {LAB_KEY}")
    yield "/failure", answer(key, *(f"{name}: {LAB_KEY}" for name in _KEPT), status=f"500 {LAB_KEY}")
    for name in _KEPT:
        for number, form in enumerate(written):
            yield f"/{name}/{number}", answer(b"hi", f"{name}: {form}")
            yield f"/{name}/amid/{number}", answer(b"hi", f"{name}: id-{form}-1")
    for name in _SHOWN:
        for number, form in enumerate(written):
            yield f"/{name}/{number}", answer(key, f"{name}: https://h.example/{form}", status="302 Found")
    fields = "".join(f"{name}: {LAB_KEY}\r\n" for name in (*_KEPT, *_SHOWN)).encode()
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Request-Id\r\n\r\n"
    yield "/trailers", chunked + b"2\r\nhi\r\n0\r\n" + fields + b"\r\n"
    yield "/unreadable-line", b"HTTP/1.1 20 " + key + b"\r\n\r\n"
    yield "/unreadable-field", b"HTTP/1.1 200 OK\r\n" + key + b"\r\n\r\n"
    yield "/unreadable-chunk", chunked + key + b"\r\n"


def live(program: Program, state: State) -> tuple[dict[str, bytes], list[tuple[str, bytes]]]:
    """The main job and all that goes wrong in it; the secrets that were about, and every answer with its origin."""
    said: list[tuple[str, bytes]] = []
    http = httpx2.Client(base_url=program.url, timeout=30)

    def call(method: str, path: str, *, hands_over: bool = False, **options: Any) -> Any:
        response = http.request(method, path, **options)
        if not hands_over:
            about = f"{response.reason_phrase} {response.headers.multi_items()}"
            said.append((f"{method} {path}", response.content + about.encode()))
        return response

    operator_token = call(
        "POST", "/v1/bootstrap", hands_over=True, json={"token": program.bootstrap, "name": "ada"}
    ).json()["token"]
    http.headers["Authorization"] = f"Bearer {operator_token}"
    keys = {}
    for slug in ("acme", "globex"):
        call("POST", "/v1/organizations", json={"slug": slug, "name": slug})
        keys[slug] = state.add_key(state.add_organization(slug))[1]
    wanted = {"organization": "acme", "provider": "raptor-comply", "contact": "a@b.example"}
    link = call("POST", "/v1/intakes", hands_over=True, json=wanted).json()["link"]
    never = "rc_live_" + "C4nary9Z" * 8
    for wrong in ("rc_live_C4naryShort", never):
        with pytest.raises(Exception, match=r"key|Raptor"):
            submit_key(link, wrong.encode())
    state.faults = Faults(outage=True)
    receipt = submit_key(link, keys["acme"].encode())
    said.append(("receipt", json.dumps(receipt["receipt"]).encode()))
    state.faults = Faults()
    status_link = f"{receipt['status_page']}#{receipt['status_code']}"
    for one in (link, status_link):  # as some mail programs write them
        path = one.removeprefix(program.url).replace("#", "%23")
        call("GET", path)
        call("GET", f"{path}/")
    call("POST", "/v1/credentials", json={"organization": "globex", "provider": "raptor-comply", "key": keys["acme"]})
    call("POST", "/v1/credentials", json={"organization": "globex", "provider": "raptor-comply", "key": keys["globex"]})
    call("POST", "/v1/credentials", json={"key": keys["acme"], keys["globex"]: [keys["acme"]]})

    private = generate()
    workload = call("POST", "/v1/workloads", json={"name": "sync", "jwks": public(private)}).json()
    call("POST", "/v1/workloads", json={"name": "leaky", "jwks": {"keys": [private]}})
    grant = {"workload": "sync", "organizations": ["globex"], "provider": "raptor-comply", "modes": ["use", "reveal"]}
    call("POST", "/v1/grants", json=grant)
    client = Client(Identity(program.url, workload["id"], private))
    access_token = client.token()
    lease = client.lease("globex", "raptor-comply", purpose="canary")
    revealed = client.lease("globex", "raptor-comply", mode="reveal")
    assert revealed.key == keys["globex"]
    under = {"Authorization": f"Bearer {lease.token}"}
    call("GET", "/proxy/globex/raptor-comply/facilities", headers=under)
    call("GET", "/proxy/globex/raptor-comply/facilities", headers={"Authorization": "", "X-API-Key": lease.token})
    call("GET", "/proxy/globex/raptor-comply/facilities", headers={"Authorization": "", "X-API-Key": keys["globex"]})
    call("GET", f"/proxy/globex/raptor-comply/facilities?key={keys['globex']}", headers=under)
    call("POST", "/proxy/globex/raptor-comply/cyber-assets", headers=under, content=b"{not json")
    call("GET", "/proxy/globex/raptor-comply/a/../b", headers=under)
    call("GET", "/proxy/acme/raptor-comply/facilities", headers=under)
    call("POST", "/v1/credentials", json={"organization": "globex", "provider": "lab", "key": LAB_KEY})
    call("POST", "/v1/grants", json={**grant, "provider": "lab", "modes": ["use"]})
    in_lab = {"Authorization": f"Bearer {client.lease('globex', 'lab').token}", "X-Broker-Retry": "off"}
    answered = []
    for path, _ in echoes():
        try:
            answered.append(call("GET", f"/proxy/globex/lab{path}", headers=in_lab).status_code)
        except httpx2.RemoteProtocolError:  # its beginning was handed on already
            assert path == "/unreadable-chunk"
    assert Counter(answered)[502] == 2
    assert set(answered) == {200, 302, 500, 502}
    call("POST", f"/v1/leases/{lease.id}/revoke", json={})
    call("GET", "/proxy/globex/raptor-comply/facilities", headers=under)
    client.close()
    for path in (
        "credentials",
        "intakes",
        "organizations",
        "workloads",
        "grants",
        "leases",
        "operators",
        "notices",
        "audit/events",
    ):
        call("GET", f"/v1/{path}")
    call("GET", "/metrics")
    call("GET", "/openapi.json")
    call("GET", "/readyz")
    command = [sys.executable, "-m", "broker", "key", "list", "--json"]
    environment = {**program.environment, "BROKER_URL": program.url, "BROKER_TOKEN": operator_token}
    listed = subprocess.run(command, env=environment, capture_output=True, check=True)
    said.append(("broker key list", listed.stdout + listed.stderr))
    http.close()
    secrets = {
        "customer key": keys["acme"],
        "revealed key": keys["globex"],
        "echoed key": LAB_KEY,
        "refused key": never,
        "lease token": lease.token,
        "access token": access_token,
        "operator token": operator_token,
        "bootstrap token": program.bootstrap,
        "link": link.partition("#")[2],
        "status code": status_link.partition("#")[2],
        "job's private key": private["d"],
    }
    return {name: secret.encode() for name, secret in secrets.items()}, said
