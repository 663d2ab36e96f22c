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
from broker.client.errors import CallFailed
from broker.client.identity import Identity, IdentityUnusable, generate, read
from tests.client.served import ClientBench


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
