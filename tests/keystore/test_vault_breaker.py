"""The breaker: when it leaves a Vault alone, when it looks again, and that a call counts once."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from broker.base import closed
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.breaker import Breaker
from broker.keystore.vault.login import TokenFile
from broker.keystore.vault.server import Address, Vault
from tests.support.clock import FakeClock


def test_it_opens_after_three_failures_in_a_row_and_says_why() -> None:
    breaker = Breaker(FakeClock())
    for cause in ("slow", "slow"):
        breaker.failed(cause)
        assert breaker.refusal() is None
    breaker.succeeded()
    for cause in ("slow", "unreachable"):
        breaker.failed(cause)
        assert breaker.refusal() is None
    breaker.failed("sealed")
    assert breaker.refusal() == "sealed"


def test_one_call_a_second_looks_whether_it_is_over() -> None:
    clock = FakeClock()
    breaker = Breaker(clock)
    for _ in range(3):
        breaker.failed("sealed")
    clock.now += 1
    assert breaker.refusal() is None, "one looks"
    assert breaker.refusal() == "sealed", "the others wait for what it finds"
    breaker.failed("standby")
    assert breaker.refusal() == "standby"
    clock.now += 1
    assert breaker.refusal() is None
    breaker.succeeded()
    assert [breaker.refusal() for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("leaves", ["at its deadline", "before it"])
async def test_a_slow_call_counts_once_whoever_waits_for_it(
    leaves: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    closed.replace(token, b"t")
    vault = Vault(Address("http://127.0.0.1:1"), TokenFile(token), connections=4, timeout=0.5)
    failures: list[str] = []
    monkeypatch.setattr(Breaker, "failed", lambda _breaker, cause: failures.append(cause))
    answered = threading.Event()

    def work(_client: Any) -> None:
        answered.wait(30)
        raise KeystoreUnavailable("", cause="slow")

    calls = [asyncio.create_task(vault.call(work)) for _ in range(2)]
    if leaves == "before it":
        await asyncio.sleep(0.05)
        calls[0].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    answered.set()
    async with asyncio.timeout(30):
        while vault.under_way:
            await asyncio.sleep(0.01)
    assert failures == ["slow", "slow"]
    await vault.close()
