"""The master key in OpenBao's transit engine: what Vault itself refuses, and rotation under load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import hvac
import pytest

from broker import keystore_setup
from broker.base import closed
from broker.base.clock import now_ms
from broker.base.secret import Secret
from broker.formats.envelope import Binding, Envelope
from broker.keystore.envelope import EnvelopeKeystore
from broker.keystore.internal import INTERNAL_ROOT_KEK
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.vault.batches import InBatches
from broker.keystore.vault.login import AppRole, TokenFile
from broker.keystore.vault.server import Address, Vault
from broker.keystore.vault.transit import TransitWrapper
from broker.rewrap import rewrap_all
from tests.support.bao import Bao
from tests.support.world import World, running_world, settings_for, upstream

PLACE = Binding("credential", "org_a", "crd_a", 3, "stripe")


@pytest.fixture
async def connection(vault: dict[str, Any]) -> AsyncIterator[Vault]:
    login = AppRole("approle", vault["vault_role_id"], vault["vault_secret_id_file"])
    made = Vault(Address(vault["vault_url"]), login, connections=4, timeout=5)
    yield made
    await made.close()


@pytest.fixture
def wrapper(connection: Vault) -> TransitWrapper:
    return TransitWrapper(connection, "transit", "keybroker")


@pytest.fixture
def store(wrapper: TransitWrapper) -> EnvelopeKeystore:
    return EnvelopeKeystore(wrapper)


@pytest.fixture
async def world(tmp_path: Path, database_url: str, vault: dict[str, Any], server: Bao) -> AsyncIterator[World]:
    """A broker without a master key of its own."""
    async with upstream() as (state, url):
        settings = settings_for(tmp_path, database_url, url, keystore="vault-transit", **vault)
        settings.key_file().unlink()
        async with running_world(settings, state, url) as made:
            yield made
    server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=1)


async def test_a_value_opens_in_its_place(store: EnvelopeKeystore) -> None:
    sealed = await store.seal(Secret(b"value"), PLACE)
    assert (await store.open(sealed, PLACE)).reveal() == b"value"
    assert Envelope.decode(sealed).kek_id.startswith("transit/keybroker/")
    assert b"value" not in sealed


@pytest.mark.parametrize(
    "elsewhere",
    [
        replace(PLACE, purpose="intake-private-key"),
        replace(PLACE, organization="org_b"),
        replace(PLACE, organization=""),
        replace(PLACE, credential="crd_b"),
        replace(PLACE, version=4),
        replace(PLACE, provider="github"),
    ],
)
async def test_vault_itself_refuses_a_data_key_of_another_place(
    store: EnvelopeKeystore, wrapper: TransitWrapper, elsewhere: Binding
) -> None:
    sealed = await store.seal(Secret(b"value"), PLACE)
    for work in (store.open, store.rewrap):
        if work is store.open:
            with pytest.raises(CannotOpen):
                await work(sealed, elsewhere)
    # and: not because of the value's own seal, which the broker checks
    parts = Envelope.decode(sealed)
    with pytest.raises(CannotOpen, match="data key"):
        await wrapper.unwrap(parts.kek_id, parts.wrapped_key, elsewhere)


async def test_each_organization_has_a_derived_key_of_its_own(server: Bao, store: EnvelopeKeystore) -> None:
    """Not even root unwraps with the whole binding but another organization's context."""
    sealed = Envelope.decode(await store.seal(Secret(b"value"), PLACE))
    import base64

    data = {
        "ciphertext": sealed.wrapped_key.decode(),
        "associated_data": base64.b64encode(PLACE.associated_data()).decode(),
    }
    for context, opens in ((b"org_a", True), (b"org_b", False)):
        given = {**data, "context": base64.b64encode(context).decode()}
        if opens:
            assert server.root.write_data("transit/decrypt/keybroker", data=given)["data"]["plaintext"]
        else:
            with pytest.raises(hvac.exceptions.InvalidRequest, match="authentication failed"):
                server.root.write_data("transit/decrypt/keybroker", data=given)


async def test_altered_bytes_do_not_open(store: EnvelopeKeystore) -> None:
    sealed = await store.seal(Secret(b"value"), PLACE)
    for place in range(0, len(sealed), 7):
        altered = bytearray(sealed)
        altered[place] ^= 1
        with pytest.raises((CannotOpen, KeystoreUnavailable)):
            await store.open(bytes(altered), PLACE)


async def test_the_broker_may_not_rotate_export_or_delete_the_key(server: Bao, vault: dict[str, Any]) -> None:
    client = hvac.Client(server.url, token="")
    client.auth.approle.login(vault["vault_role_id"], vault["vault_secret_id_file"].read_text().strip())
    for attempt in (
        lambda: client.secrets.transit.rotate_key("keybroker"),
        lambda: client.secrets.transit.export_key("keybroker", "encryption-key"),
        lambda: client.secrets.transit.update_key_configuration("keybroker", deletion_allowed=True),
        lambda: client.secrets.transit.delete_key("keybroker"),
        lambda: client.secrets.transit.create_key("another"),
        client.sys.list_policies,
    ):
        with pytest.raises(hvac.exceptions.Forbidden):
            attempt()


async def test_operators_may_rotate_and_retire_the_key_and_not_make_it_exportable(server: Bao) -> None:
    token = server.root.auth.token.create(policies=["keybroker-operator"], ttl="5m")["auth"]["client_token"]
    transit = hvac.Client(server.url, token=token).secrets.transit
    transit.rotate_key("keybroker")
    transit.update_key_configuration("keybroker", min_decryption_version=1)
    for more in ({"exportable": True}, {"allow_plaintext_backup": True}, {"deletion_allowed": True}):
        with pytest.raises(hvac.exceptions.Forbidden):
            transit.update_key_configuration("keybroker", **more)


async def test_a_key_that_is_not_derived_seals_nothing(server: Bao, vault: dict[str, Any], tmp_path: Path) -> None:
    server.root.secrets.transit.create_key("plain", key_type="aes256-gcm96")
    token = tmp_path / "token"
    closed.replace(token, server.root_token.encode())
    connection = Vault(Address(server.url), TokenFile(token), connections=1, timeout=10)
    store = EnvelopeKeystore(TransitWrapper(connection, "transit", "plain"))
    for work in (store.seal(Secret(b"value"), PLACE), store.check()):
        with pytest.raises(KeystoreUnavailable, match="derived=true") as caught:
            await work
        assert caught.value.cause == "not_derived"
    await connection.close()


async def test_a_whole_broker_holds_no_master_key(world: World, tmp_path: Path) -> None:
    await world.key_for("acme")
    job = await world.job()
    await world.grant(job, "acme", modes=("use", "reveal"))
    lease = await job.lease("acme")
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert (await job.lease("acme", mode="reveal"))["key"] == world.upstream_keys["acme"]
    assert not list(tmp_path.rglob("master-keys*"))
    assert (await world.call("GET", "/readyz"))["keystore"] == "ok"


async def test_the_key_rotates_under_load_and_everything_moves_to_its_newest_version(world: World, server: Bao) -> None:
    # given keys and jobs at work
    await world.key_for("acme")
    await world.key_for("globex")
    job = await world.job()
    await world.grant(job, "acme", "globex")
    lease = await job.lease("acme")
    over = asyncio.Event()
    answers: list[int] = []

    async def works() -> None:
        while not over.is_set():
            answers.append((await world.proxied(lease, "/facilities")).status_code)

    load = [asyncio.create_task(works()) for _ in range(4)]
    # when: rotated in Vault, then re-wrapped, each while jobs go on
    server.root.secrets.transit.rotate_key("keybroker")
    newest = server.root.secrets.transit.read_key("keybroker")["data"]["latest_version"]
    progress: list[tuple[int, int]] = []
    async with keystore_setup.opened(world.settings, world.services.parts.db, now_ms, may_create=False) as commands_own:
        commands_own.stores["own"] = world.services.parts.keys.keystore()
        done = await rewrap_all(
            world.services,
            to=commands_own.moving_to("vault-transit"),
            advance=lambda done, total: progress.append((done, total)),
        )
    await world.key_for("initech")
    over.set()
    await asyncio.gather(*load)
    # then
    assert set(done.held) == {f"transit/keybroker/{newest}", INTERNAL_ROOT_KEK}
    assert progress[0] == (0, 3), "two keys and the internal root; what is under that stays"
    assert progress[-1][0] == progress[-1][1] >= 3
    assert set(answers) == {200}
    assert len(answers) > 4
    # and the old version can be retired in Vault
    server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=newest)
    assert (await world.proxied(lease, "/facilities")).status_code == 200
    assert (await world.call("GET", "/v1/credentials"))["items"]


async def test_a_version_that_was_retired_in_vault_is_named(store: EnvelopeKeystore, server: Bao) -> None:
    sealed = await store.seal(Secret(b"value"), PLACE)
    server.root.secrets.transit.rotate_key("keybroker")
    newest = server.root.secrets.transit.read_key("keybroker")["data"]["latest_version"]
    try:
        server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=newest)
        with pytest.raises(KeystoreUnavailable, match="min_decryption_version") as caught:
            await store.open(sealed, PLACE)
        assert caught.value.cause == "key_version"
    finally:
        server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=1)
    assert (await store.open(sealed, PLACE)).reveal() == b"value"


async def test_many_data_keys_go_in_one_call_and_one_that_is_refused_is_refused_alone(
    connection: Vault, wrapper: TransitWrapper
) -> None:
    # given
    together = EnvelopeKeystore(InBatches(wrapper))
    places = [replace(PLACE, organization=f"org_{n}", version=n) for n in range(20)]
    # when
    sealed = await asyncio.gather(*(together.seal(Secret(str(n).encode()), place) for n, place in enumerate(places)))
    # then
    assert [await EnvelopeKeystore(wrapper).open(one, place) for one, place in zip(sealed, places, strict=True)] == [
        Secret(str(n).encode()) for n in range(20)
    ]
    before = connection.answers
    assert len(await asyncio.gather(*map(together.open, sealed, places))) == 20
    assert connection.answers == before + 1
    # and: one row was copied to another place
    moved = [*sealed[:7], sealed[8], *sealed[8:]]
    opened = await asyncio.gather(*map(together.open, moved, places), return_exceptions=True)
    assert [n for n, one in enumerate(opened) if isinstance(one, CannotOpen)] == [7]
    assert sum(isinstance(one, Secret) for one in opened) == 19


async def test_a_version_that_vault_opens_no_more_keeps_no_other_value_waiting(
    connection: Vault, wrapper: TransitWrapper, server: Bao
) -> None:
    together = EnvelopeKeystore(InBatches(wrapper))
    old = await together.seal(Secret(b"old"), PLACE)
    server.root.secrets.transit.rotate_key("keybroker")
    newest = server.root.secrets.transit.read_key("keybroker")["data"]["latest_version"]
    fresh = await EnvelopeKeystore(TransitWrapper(connection, "transit", "keybroker")).seal(Secret(b"new"), PLACE)
    server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=newest)
    try:
        refused, opened = await asyncio.gather(
            together.open(old, PLACE), together.open(fresh, PLACE), return_exceptions=True
        )
    finally:
        server.root.secrets.transit.update_key_configuration("keybroker", min_decryption_version=1)
    assert isinstance(refused, KeystoreUnavailable)
    assert refused.cause == "key_version"
    assert opened == Secret(b"new")
