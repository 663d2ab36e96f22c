"""A job's identity: the file that holds it, and the assertions that it dates."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from broker.client import identity
from broker.client.errors import CallFailed
from broker.client.identity import Identity, IdentityUnusable, generate, read
from tests.client.served import Desk

ROOT, SOMEBODY = 0, 12345


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "job.identity.json"
    Identity("https://broker.example", "wkl_1", generate()).write(path)
    return path


def owned(path: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give ``path`` away, or, for want of the right, let it look so."""
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner, owner)
        return
    found = path.stat()
    seen = os.stat_result([found.st_mode, 0, 0, 1, owner, owner, *found[6:10]])
    monkeypatch.setattr(os, "fstat", lambda _descriptor: seen)


@pytest.mark.parametrize(
    ("owner", "mode"),
    [(SOMEBODY, 0o600), (SOMEBODY, 0o400), (ROOT, 0o600), (ROOT, 0o400), (ROOT, 0o440), (ROOT, 0o640)],
)
def test_a_file_that_only_its_owner_or_roots_group_reads_is_taken(
    file: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(file, owner, mode, monkeypatch)
    assert read(file).client_id == "wkl_1"


@pytest.mark.parametrize(
    ("owner", "mode"),
    [
        (SOMEBODY, 0o440),
        (SOMEBODY, 0o640),
        (ROOT, 0o444),
        (ROOT, 0o644),
        (ROOT, 0o404),
        (ROOT, 0o601),
        (ROOT, 0o602),
        (ROOT, 0o660),
        (ROOT, 0o620),
        (ROOT, 0o610),
    ],
)
def test_a_file_that_is_open_to_more_is_refused(
    file: Path, owner: int, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned(file, owner, mode, monkeypatch)
    with pytest.raises(IdentityUnusable, match=r"others can read it.*chmod 600"):
        read(file)


def test_a_mounted_secret_is_judged_by_the_file_behind_its_link(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.with_name("link.json")
    link.symlink_to(file)  # as Kubernetes does
    owned(file, ROOT, 0o440, monkeypatch)
    assert read(link).client_id == "wkl_1"
    owned(file, ROOT, 0o444, monkeypatch)
    with pytest.raises(IdentityUnusable, match="others can read it"):
        read(link)


def off_by(seconds: int) -> SimpleNamespace:
    """This machine's clock, ``seconds`` ahead."""
    return SimpleNamespace(time=lambda: time.time() + seconds)


@pytest.mark.parametrize("seconds", [-60, 0, 60])
async def test_a_clock_a_minute_off_either_way_gets_a_token(
    desk: Desk, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "time", off_by(seconds))
    assert await asyncio.to_thread(desk.client().token)


@pytest.mark.parametrize("seconds", [-300, 300])
async def test_a_clock_that_is_further_off_is_named_beside_the_brokers(
    desk: Desk, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "time", off_by(seconds))
    with pytest.raises(CallFailed) as refused:
        await asyncio.to_thread(desk.client().token)
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
