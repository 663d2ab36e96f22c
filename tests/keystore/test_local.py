"""Master keys from a file or the environment: what is wrong names the place and the fix, never a key."""

from __future__ import annotations

import os
import secrets
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from broker.base.secret import Secret
from broker.formats.envelope import Binding
from broker.keystore.keystore import CannotOpen, KeystoreUnavailable
from broker.keystore.local import LocalKeyWrapper, MasterKeys, MasterKeysUnusable

PLACE = Binding("credential", "org_a", "crd_a", 1, "stripe")
ONE, TWO = (b64encode(bytes([number]) * 32).decode() for number in (1, 2))
WHERE = "BROKER_MASTER_KEYS"


def file_of(directory: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = directory / "master-keys.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def keys_of(*names: str) -> MasterKeys:
    return MasterKeys({name: Secret(secrets.token_bytes(32)) for name in names}, names[0])


def test_a_file_gives_its_keys_and_the_active_one(tmp_path: Path) -> None:
    keys = MasterKeys.from_file(file_of(tmp_path, f'active = "b"\n[keys]\na = "{ONE}"\nb = "{TWO}"\n'))
    assert keys.active == "b"
    assert keys.inactive() == ["a"]
    assert keys.keys == {"a": Secret(b"\1" * 32), "b": Secret(b"\2" * 32)}


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o644, 0o777])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = file_of(tmp_path, f'active = "a"\n[keys]\na = "{ONE}"\n', mode)
    with pytest.raises(MasterKeysUnusable) as caught:
        MasterKeys.from_file(path)
    assert f"{mode:04o}" in str(caught.value)
    assert f"chmod 600 {path}" in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_that_its_owner_alone_reads_is_accepted(tmp_path: Path, mode: int) -> None:
    assert MasterKeys.from_file(file_of(tmp_path, f'active = "a"\n[keys]\na = "{ONE}"\n', mode)).active == "a"


def test_a_missing_file_says_to_restore_it(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(MasterKeysUnusable, match="restore the file from your backup") as caught:
            MasterKeys.from_file(path)
        assert str(path) in str(caught.value)


FORM = 'needs active = "ID" and a [keys] table of ID = "base64"'
BASE64 = "must be base64 of 32 random bytes; make one with: openssl rand -base64 32"


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        pytest.param("", FORM, id="empty"),
        pytest.param("not toml", FORM, id="no TOML"),
        pytest.param(f'[keys]\na = "{ONE}"\n', FORM, id="no active"),
        pytest.param('active = "a"\n', FORM, id="no keys"),
        pytest.param(f'active = "a"\nkeys = "{ONE}"\n', FORM, id="keys is no table"),
        pytest.param('active = "a"\n[keys]\na = 1\n', FORM, id="key is a number"),
        pytest.param(f'active = "a"\n[keys.a]\nkey = "{ONE}"\n', FORM, id="key is a table"),
        pytest.param(f'active = "a"\n[keys]\na = "{ONE}"\na = "{TWO}"\n', FORM, id="one name twice"),
        pytest.param('active = "a"\n[keys]\n', "active names 'a', which is not in [keys]", id="no key at all"),
        pytest.param(f'active = "b"\n[keys]\na = "{ONE}"\n', "active names 'b', which is not", id="active unknown"),
        pytest.param(f'active = 1\n[keys]\na = "{ONE}"\n', FORM, id="active a number"),
        pytest.param(f'active = "a"\n[keys]\na = "{ONE[:-4]}"\n', f"keys.a: {BASE64}", id="30 bytes"),
        pytest.param(f'active = "a"\n[keys]\na = "{ONE[:-1]}"\n', f"keys.a: {BASE64}", id="cut off"),
        pytest.param(f'active = "a"\n[keys]\na = "{"-" * 43}="\n', f"keys.a: {BASE64}", id="the other base64"),
        pytest.param('active = "a"\n[keys]\na = ""\n', f"keys.a: {BASE64}", id="empty key"),
        pytest.param('active = "a"\n[keys]\na = "é"\n', f"keys.a: {BASE64}", id="not ASCII"),
        pytest.param(f'active = "a"\n[keys]\na = "{ONE}"\n"b c" = "{TWO}"\n', "not 'b c'", id="key id with a space"),
        pytest.param(f'active = ""\n[keys]\n"" = "{ONE}"\n', "a key id is 1 to 64 letters", id="empty key id"),
        pytest.param(
            f'active = ["a"]\n[keys]\na = "{ONE}"\n',
            FORM,
            id="active a list",
        ),
        pytest.param(
            b'active = "\xff"\n',
            FORM,
            id="not UTF-8",
        ),
    ],
)
def test_a_malformed_file_is_named_with_its_fix(tmp_path: Path, text: str | bytes, fix: str) -> None:
    path = file_of(tmp_path, text)
    with pytest.raises(MasterKeysUnusable) as caught:
        MasterKeys.from_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert fix in str(caught.value)
    assert not any(key[:30] in str(caught.value) for key in (ONE, TWO))


def test_the_environment_gives_several_keys_with_the_active_one_first() -> None:
    for text in (f"b:{TWO},a:{ONE}", f" b:{TWO} , a:{ONE} ,".replace(" ,", ","), f"b:{TWO},\na:{ONE},"):
        keys = MasterKeys.from_text(text, WHERE)
        assert (keys.active, keys.inactive()) == ("b", ["a"])
        assert keys.keys == {"a": Secret(b"\1" * 32), "b": Secret(b"\2" * 32)}


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("", "holds no key; write id:base64 pairs"),
        (" , ,", "holds no key; write id:base64 pairs"),
        ("a", f"key 'a': {BASE64}"),
        ("a:", f"key 'a': {BASE64}"),
        (f"a:{ONE},b:{TWO[:-4]}", f"key 'b': {BASE64}"),
        (f"a:{ONE}:{TWO}", f"key 'a': {BASE64}"),
        (f"a={ONE}"[:20], BASE64),
        (f":{ONE}", "a key id is 1 to 64 letters"),
        (f"{'x' * 65}:{ONE}", "a key id is 1 to 64 letters"),
        (f"-a:{ONE}", "not '-a'"),
        (f"a b:{ONE}", "not 'a b'"),
    ],
)
def test_a_malformed_value_names_the_setting_and_the_fix(text: str, fix: str) -> None:
    with pytest.raises(MasterKeysUnusable) as caught:
        MasterKeys.from_text(text, WHERE)
    assert str(caught.value).startswith(f"{WHERE}: ")
    assert fix in str(caught.value)
    assert not any(key[:30] in str(caught.value) for key in (ONE, TWO))


@pytest.mark.parametrize("text", [ONE, f"a:{ONE},{TWO}", f"a={ONE}"])
def test_a_key_without_an_id_is_refused_without_printing_it(text: str) -> None:
    with pytest.raises(MasterKeysUnusable) as caught:
        MasterKeys.from_text(text, WHERE)
    assert not any(key[:30] in str(caught.value) for key in (ONE, TWO))


@pytest.mark.parametrize("text", [f'active = "a"\n[keys]\n"{ONE}" = "a"\n', f'active = "{ONE}"\n[keys]\na = "{ONE}"\n'])
def test_a_file_with_a_key_in_the_place_of_an_id_is_refused_without_printing_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(MasterKeysUnusable) as caught:
        MasterKeys.from_file(file_of(tmp_path, text))
    assert ONE not in str(caught.value)


def test_one_id_given_twice_is_refused() -> None:
    with pytest.raises(MasterKeysUnusable):
        MasterKeys.from_text(f"a:{ONE},a:{TWO}", WHERE)


def test_a_written_file_reads_back_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "master-keys.toml"
    umask = os.umask(0)
    try:
        keys = keys_of("2026-11", "2025.10", "x_y")
        keys.write_file(path)
        keys.write_file(path)
    finally:
        os.umask(umask)
    read = MasterKeys.from_file(path)
    assert (read.active, read.keys) == (keys.active, keys.keys)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_writing_replaces_a_file_left_open_to_others_and_a_leftover(tmp_path: Path) -> None:
    path = file_of(tmp_path, "", 0o644)
    leftover = tmp_path / "master-keys.toml.new"
    leftover.write_text("half")
    leftover.chmod(0o644)
    keys = keys_of("a")
    keys.write_file(path)
    assert MasterKeys.from_file(path).keys == keys.keys
    assert not leftover.exists()


def test_a_new_key_becomes_active_and_keeps_the_others(tmp_path: Path) -> None:
    before = keys_of("a", "b")
    after = before.with_new_key()
    assert after.active not in before.keys
    assert after.keys.items() >= before.keys.items()
    assert after.inactive() == ["a", "b"]
    assert len(after.keys[after.active].reveal()) == 32
    assert (before.active, len(before.keys)) == ("a", 2)
    # and: its name can be written and read
    after.write_file(tmp_path / "keys.toml")
    assert MasterKeys.from_file(tmp_path / "keys.toml").active == after.active


def test_many_new_keys_differ() -> None:
    keys = keys_of("a")
    for _ in range(20):
        keys = keys.with_new_key()
    assert len(keys.keys) == len({key.reveal() for key in keys.keys.values()}) == 21


def test_an_inactive_key_can_be_left_out_and_the_active_one_cannot() -> None:
    keys = keys_of("a", "b", "c")
    assert list(keys.without("b").keys) == ["a", "c"]
    assert keys.without("b").active == "a"
    for name in ("a", "none", ""):
        with pytest.raises(MasterKeysUnusable, match=r"inactive: \['b', 'c'\]"):
            keys.without(name)


async def test_several_keys_at_once_unwrap_what_each_wrapped() -> None:
    keys = keys_of("a", "b", "c")
    wrapped = [await LocalKeyWrapper(MasterKeys(keys.keys, name)).wrap(b"d" * 32, PLACE) for name in keys.keys]
    assert [kek_id for kek_id, _ in wrapped] == ["a", "b", "c"]
    for kek_id, data in wrapped:
        assert await LocalKeyWrapper(keys).unwrap(kek_id, data, PLACE) == b"d" * 32
        for other in {"a", "b", "c"} - {kek_id}:
            with pytest.raises(CannotOpen):
                await LocalKeyWrapper(keys).unwrap(other, data, PLACE)


async def test_a_wrapped_key_that_is_cut_off_does_not_unwrap() -> None:
    wrapper = LocalKeyWrapper(keys_of("a"))
    kek_id, data = await wrapper.wrap(b"d" * 32, PLACE)
    for end in range(len(data)):
        with pytest.raises(CannotOpen):
            await wrapper.unwrap(kek_id, data[:end], PLACE)


async def test_a_key_added_to_the_file_reaches_a_running_wrapper(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    old = keys_of("a")
    old.write_file(path)
    wrapper = LocalKeyWrapper(MasterKeys.from_file(path), path)
    before = await wrapper.wrap(b"d" * 32, PLACE)
    # when: another process rotates, and wraps with the new key
    new = old.with_new_key()
    new.write_file(path)
    foreign = await LocalKeyWrapper(new).wrap(b"e" * 32, PLACE)
    # then: the running wrapper unwraps that, wraps with the new key itself, and still unwraps the old
    assert await wrapper.unwrap(*foreign, PLACE) == b"e" * 32
    assert wrapper.active == new.active
    assert (await wrapper.wrap(b"f" * 32, PLACE))[0] == new.active
    assert await wrapper.unwrap(*before, PLACE) == b"d" * 32


async def test_a_key_taken_out_of_the_file_is_gone_once_the_change_is_met(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys = keys_of("a", "b")
    keys.write_file(path)
    wrapper = LocalKeyWrapper(MasterKeys.from_file(path), path)
    kek_id, data = await LocalKeyWrapper(MasterKeys(keys.keys, "b")).wrap(b"d" * 32, PLACE)
    assert await wrapper.unwrap(kek_id, data, PLACE) == b"d" * 32
    keys.without("b").write_file(path)
    assert wrapper.active == "a"
    with pytest.raises(KeystoreUnavailable):
        await wrapper.unwrap(kek_id, data, PLACE)


async def test_loaded_keys_open_and_seal_nothing_new_while_the_file_is_away(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    keys_of("a").write_file(path)
    wrapper = LocalKeyWrapper(MasterKeys.from_file(path), path)
    before = await wrapper.wrap(b"d" * 32, PLACE)
    path.unlink()
    assert await wrapper.unwrap(*before, PLACE) == b"d" * 32
    # what a key seals that nobody but this process has would be lost with it
    with pytest.raises(KeystoreUnavailable, match="nothing new is sealed"):
        await wrapper.wrap(b"d" * 32, PLACE)
    # and: the file that comes back is read
    keys_of("b").write_file(path)
    assert wrapper.active == "b"


@pytest.mark.parametrize(("text", "mode"), [("active = ", 0o600), ("half of an edit", 0o600), (None, 0o644)])
async def test_loaded_keys_stay_in_use_while_the_file_is_wrong(tmp_path: Path, text: str | None, mode: int) -> None:
    path = tmp_path / "keys.toml"
    keys_of("a").write_file(path)
    wrapper = LocalKeyWrapper(MasterKeys.from_file(path), path)
    kek_id, data = await wrapper.wrap(b"d" * 32, PLACE)
    # given: an editor that writes in place, or a restore with the usual mode
    if text is None:
        text = path.read_text()
    path.unlink()
    file = file_of(tmp_path, text, mode)
    file.rename(path)
    # then
    assert wrapper.active == "a"
    assert await wrapper.unwrap(kek_id, data, PLACE) == b"d" * 32


async def test_a_file_replaced_between_reading_it_and_using_it_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    old = keys_of("a")
    old.write_file(path)
    loaded = MasterKeys.from_file(path)
    new = old.with_new_key()
    new.write_file(path)
    foreign = await LocalKeyWrapper(new).wrap(b"e" * 32, PLACE)
    assert await LocalKeyWrapper(loaded, path).unwrap(*foreign, PLACE) == b"e" * 32


def test_master_keys_do_not_print() -> None:
    keys = MasterKeys.from_text(f"a:{ONE}", WHERE)
    assert ONE not in repr(keys) + repr(vars(keys)) + repr(LocalKeyWrapper(keys))
