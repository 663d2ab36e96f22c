"""A real OpenBao, and brokers that sign in to it with the policies that are shipped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import bao
from tests.support.world import World, running_world, settings_for, upstream


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bao.Bao]:
    """One server for all; a test that seals or stops it brings it back."""
    with bao.running(tmp_path_factory.mktemp("bao")) as made:
        made.set_up()
        yield made


@pytest.fixture
def vault(server: bao.Bao, tmp_path: Path) -> dict[str, Any]:
    """Settings that sign in by AppRole; each test has a prefix of its own in KV."""
    # No test's end is another's beginning.
    server.root.secrets.kv.v2.delete_metadata_and_all_versions("keybroker/broker/master-keys")
    # What is slow here is the machine; tests of what a slow Vault does set their own.
    return {**server.approle(server.root, tmp_path / "vault"), "vault_timeout": 10, "audit_deadline": 10}


@pytest.fixture
async def kv_world(tmp_path: Path, sqlite_url: str, vault: dict[str, Any]) -> AsyncIterator[World]:
    """A broker whose customers' keys are in KV, and which has no local master key."""
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, sqlite_url, url, keystore="vault-kv", **vault)
        settings.key_file().unlink()
        async with running_world(settings, state, url) as made:
            yield made
