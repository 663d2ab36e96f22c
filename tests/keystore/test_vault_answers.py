"""Answers that no Vault gives, and places that a call must not be sent on to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import requests

from broker.base import closed
from broker.formats.envelope import Binding
from broker.keystore.keystore import KeystoreUnavailable
from broker.keystore.vault.connection import Address, Redirected, Session
from broker.keystore.vault.login import TokenFile
from broker.keystore.vault.server import Vault
from broker.keystore.vault.transit import TransitWrapper
from tests.support.fake_vault import FakeVault, Said, fake_vault

PLACE = Binding("credential", "org_a", "crd_a", 3, "stripe")
HTML = {"Content-Type": "text/html"}


@asynccontextmanager
async def wrapping(url: str, directory: Path, ca_file: Path | None = None) -> AsyncIterator[TransitWrapper]:
    token = directory / "token"
    closed.replace(token, b"the-token")
    vault = Vault(Address(url, ca_file=ca_file), TokenFile(token), connections=2, timeout=5)
    try:
        yield TransitWrapper(vault, "transit", "keybroker")
    finally:
        await vault.close()


OPERATIONS: dict[str, Callable[[TransitWrapper], Awaitable[object]]] = {
    "newest": lambda wrapper: wrapper.newest(),
    "wrap": lambda wrapper: wrapper.wrap(b"k" * 32, PLACE),
    "unwrap": lambda wrapper: wrapper.unwrap("transit/keybroker/1", b"vault:v1:abc", PLACE),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "said",
    [
        Said(body="{}"),
        Said(body="[]"),
        Said(body="null"),
        Said(body='{"data": {}}'),
        Said(body='{"data": null}'),
        Said(body='{"data": {"derived": true, "latest_version": "x", "ciphertext": "abc", "plaintext": "%%"}}'),
        Said(body='{"data": {"derived": true, "latest_version": null, "ciphertext": "", "plaintext": "aGk="}}'),
        Said(body="<html>", headers=HTML),
        Said(204, body=""),
        Said(500, body="[]"),
        Said(502, body="<html>", headers=HTML),
        Said(503, body="null"),
        Said(400, body='{"errors": 5}'),
    ],
    ids=lambda said: f"{said.status} {said.body}" if isinstance(said, Said) else said,
)
async def test_an_answer_that_is_not_vaults_is_the_one_problem(operation: str, said: Said, tmp_path: Path) -> None:
    with fake_vault(lambda _method, _path: said) as vault:
        async with wrapping(vault.url, tmp_path) as wrapper:
            with pytest.raises(KeystoreUnavailable) as caught:
                await OPERATIONS[operation](wrapper)
    assert caught.value.cause in {"failing", "standby", "not_set_up"}


def sent_on(location: str) -> Callable[[str, str], Said]:
    return lambda _method, _path: Said(307, "", {"Location": location + _path})


def serving(_method: str, _path: str) -> Said:
    return Said(body=json.dumps({"data": {"latest_version": 7, "derived": True}}))


def tokens(vault: FakeVault) -> list[str]:
    return [headers["X-Vault-Token"] for _, _, headers in vault.asked]


async def test_a_call_that_is_sent_on_to_another_port_of_the_same_host_goes_there(tmp_path: Path) -> None:
    with fake_vault(serving) as active, fake_vault(sent_on(active.url)) as standby:
        async with wrapping(standby.url, tmp_path) as wrapper:
            assert await wrapper.newest() == "transit/keybroker/7"
        assert tokens(active) == ["the-token"]


async def test_a_call_that_is_sent_on_to_another_host_is_refused_and_the_token_stays(tmp_path: Path) -> None:
    with fake_vault(serving) as other, fake_vault(sent_on(f"http://localhost:{other.port}")) as asked:
        async with wrapping(asked.url, tmp_path) as wrapper:
            with pytest.raises(KeystoreUnavailable, match="another host") as caught:
                await wrapper.newest()
        assert caught.value.cause == "redirected"
        assert len(asked.asked) == 1
        assert other.asked == []


@pytest.mark.parametrize(
    ("location", "unpinned", "pinned"),
    [
        ("https://vault.example:8201/v1/x", True, True),
        ("/v1/x", True, True),
        ("https://node-2.example:8200/v1/x", False, True),
        ("//node-2.example:8200/v1/x", False, True),
        ("https://vault.example@node-2.example/v1/x", False, True),
        ("http://vault.example:8200/v1/x", False, False),
        ("http://node-2.example:8200/v1/x", False, False),
    ],
)
def test_another_host_is_followed_only_where_its_certificate_is_vaults_own_authoritys(
    location: str, unpinned: bool, pinned: bool
) -> None:
    answer = requests.Response()
    answer.status_code, answer.url = 307, "https://vault.example:8200/v1/x"
    answer.headers["Location"] = location
    for ca_file, follows in ((None, unpinned), (Path("ca.pem"), pinned)):
        session = Session(Address("https://vault.example:8200", ca_file=ca_file), 1)
        if follows:
            assert session.get_redirect_target(answer) == location
        else:
            with pytest.raises(Redirected):
                session.get_redirect_target(answer)


async def test_an_authoritys_file_that_went_missing_is_a_cause(tmp_path: Path) -> None:
    async with wrapping("https://127.0.0.1:1", tmp_path, tmp_path / "gone.pem") as wrapper:
        with pytest.raises(KeystoreUnavailable, match="BROKER_VAULT_CA_FILE") as caught:
            await wrapper.newest()
    assert caught.value.cause == "certificate"
