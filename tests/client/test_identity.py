"""A job's identity: the file that holds it, and the assertions that it dates."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.client import identity
from broker.client.client import Client
from broker.client.errors import CallFailed
from broker.client.identity import Identity, IdentityUnusable, generate, read
from tests.client.served import RAPTOR, ClientBench
from tests.support.processes import free_port


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.identity.json"
    Identity("https://broker.example", "wkl_1", generate()).write(path)
    return path


def test_a_file_that_is_open_to_others_is_refused(file: Path) -> None:
    file.chmod(0o644)
    with pytest.raises(IdentityUnusable, match=r"others can read it.*chmod 600"):
        read(file)


def off_by(seconds: int) -> SimpleNamespace:
    """This machine's clock, ``seconds`` ahead."""
    return SimpleNamespace(time=lambda: time.time() + seconds)


@pytest.mark.parametrize("seconds", [-60, 0, 60])
async def test_a_clock_a_minute_off_either_way_gets_a_token(
    bench: ClientBench, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "time", off_by(seconds))
    assert await asyncio.to_thread(bench.client().token)


@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_clock_that_is_further_off_is_named_beside_the_brokers(
    bench: ClientBench, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "time", off_by(seconds))
    with pytest.raises(CallFailed) as refused:
        await asyncio.to_thread(bench.client().token)
    assert refused.value.code == "invalid_client"
    assert "The broker's clock reads 20" in str(refused.value)
    assert "This machine's clock reads 20" in str(refused.value)


def asserted() -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of an assertion."""
    parts = Identity("https://broker.example", "wkl_1", generate()).assertion().split(".")[:2]
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts)
    return header, claims


def test_an_assertion_is_for_the_issuer_alone_and_says_what_it_is_for() -> None:
    header, claims = asserted()
    assert claims["aud"] == "https://broker.example"
    assert header["typ"] == "client-authentication+jwt"


def test_an_assertion_is_good_for_no_longer_than_two_minutes_in_all() -> None:
    _, claims = asserted()
    assert claims["iat"] == claims["nbf"] == claims["exp"] - 120
    assert abs(claims["exp"] - 60 - time.time()) < 30


@pytest.mark.parametrize(
    "jwk", ["{}", '{"alg": "EdDSA", "kid": "k", "kty": "OKP", "crv": "Ed25519", "x": "A", "d": "A"}']
)
def test_a_file_whose_key_is_none_says_so_and_shows_nothing_of_it(file: Path, jwk: str) -> None:
    file.write_text(f'{{"broker": "https://broker.example", "client_id": "wkl_1", "jwk": {jwk}}}')
    with pytest.raises(IdentityUnusable, match=r"jwk.*broker workload add"):
        read(file)


def test_the_environment_names_the_file_and_where_its_broker_is_now(file: Path) -> None:
    named = {"BROKER_IDENTITY": str(file)}
    assert identity.from_environment(named) == read(file)
    moved = identity.from_environment({**named, "BROKER_URL": "https://new.example/"})
    assert (moved.broker, moved.moved_from, moved.client_id) == (
        "https://new.example",
        "https://broker.example",
        "wkl_1",
    )
    same = identity.from_environment({**named, "BROKER_URL": "https://broker.example/"})
    assert same.moved_from == ""
    with pytest.raises(IdentityUnusable, match="BROKER_IDENTITY: is not set"):
        identity.from_environment({})


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8080", "https://broker.example@elsewhere.example", "https://a.example/?"]
)
def test_an_address_that_is_none_is_refused_by_the_variables_name(file: Path, address: str) -> None:
    with pytest.raises(IdentityUnusable, match="BROKER_URL: is not the address of a broker"):
        read(file, broker=address)


async def test_a_broker_that_moved_is_called_without_an_edit_of_the_file(bench: ClientBench, tmp_path: Path) -> None:
    await bench.grant()
    path = tmp_path / "old.json"
    Identity("https://gone.example", bench.identity.client_id, bench.identity.private_jwk).write(path)
    with Client(read(path, broker=bench.url)) as client:
        lease = await asyncio.to_thread(client.lease, "acme", RAPTOR)
    assert lease.proxy_url.startswith(bench.url)


async def test_what_is_signed_for_another_address_opens_nothing_here(bench: ClientBench, tmp_path: Path) -> None:
    # given a job whose BROKER_URL somebody has changed to a place of theirs
    path = tmp_path / "job.json"
    bench.identity.write(path)
    misled = read(path, broker="https://elsewhere.example")
    # when they bring what it signed for them to the broker
    form = {"grant_type": "client_credentials", **misled.proof()}
    answer = await bench.world.http.post("/oauth/token", data=form)
    # then it is refused
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_an_error_says_who_named_the_address(tmp_path: Path, bench: ClientBench) -> None:
    path, nowhere = tmp_path / "job.json", f"http://127.0.0.1:{free_port()}"
    Identity(nowhere, bench.identity.client_id, bench.identity.private_jwk).write(path)
    with Client(read(path)) as client, pytest.raises(CallFailed, match="The address is the identity file's") as failed:
        await asyncio.to_thread(client.token)
    assert failed.value.code == "unreachable"
    other = f"http://127.0.0.1:{free_port()}"
    told = f"The address is BROKER_URL's; the identity file names {nowhere}"
    with Client(read(path, broker=other)) as client, pytest.raises(CallFailed, match=told):
        await asyncio.to_thread(client.token)
    # the same where a broker answers, but by another name of its own
    with (
        Client(read(path, broker=bench.url.replace("127.0.0.1", "localhost"))) as client,
        pytest.raises(CallFailed, match=told.replace(other, nowhere)) as refused,
    ):
        await asyncio.to_thread(client.token)
    assert refused.value.code == "invalid_client"
