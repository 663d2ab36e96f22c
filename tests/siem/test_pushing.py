"""Every sink gets every event, whatever happens to it or to who pushes; none holds anything else up."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from broker.audit.events import BROKER, Event
from broker.audit.record import record
from broker.base.clock import now_ms
from broker.base.db import EVERY_TENANT, Database
from broker.siem import cursors
from broker.siem.senders import append
from broker.siem.sinks import SinksUnusable, load
from tests.siem.receiver import Received, http_receiver, syslog_receiver
from tests.support.certificates import certify
from tests.support.world import World, running_world, settings_for, upstream

Pushes = Callable[[str], AbstractAsyncContextManager[World]]


@pytest.fixture
async def pushes(tmp_path: Path, database_url: str) -> AsyncIterator[Pushes]:
    """A broker with the sinks that a file declares."""
    async with upstream() as (state, url):

        @asynccontextmanager
        async def begin(declared: str) -> AsyncIterator[World]:
            (tmp_path / "sinks.toml").write_text(declared)
            settings = settings_for(tmp_path, database_url, url, sinks=tmp_path / "sinks.toml")
            async with running_world(settings, state, url) as world:
                yield world

        yield begin


def https(url: str, name: str = "siem", more: str = "") -> str:
    return f'[[sink]]\nkind = "https"\nname = "{name}"\nurl = "{url}"\nprivate = true\n{more}\n'


def to_file(path: Path, name: str = "disk", more: str = "") -> str:
    return f'[[sink]]\nkind = "file"\nname = "{name}"\npath = "{path}"\n{more}\n'


async def size(world: World) -> int:
    """How many events there are, but for the one of this question."""
    return int((await world.events(kind="audit.read"))[-1]["index"])


async def test_a_receiver_has_every_event_once_and_with_each_batch_the_newest_checkpoint(
    pushes: Pushes, tmp_path: Path
) -> None:
    received, secret = Received(), tmp_path / "authorization"
    secret.write_text("Splunk 1234-abcd\n")
    secret.chmod(0o600)
    with http_receiver(received) as url:
        async with pushes(https(url, more=f'authorization_file = "{secret}"')) as world:
            await world.organization("acme")
            await world.work()
            await world.organization("globex")
            await world.work()
            note = (await world.http.get("/v1/audit/log/checkpoint")).text
            (begun,) = await world.events(kind="audit.exported")
    assert begun["core"]["reason"] == "format=ocsf,sink=siem,from=0"
    assert received.indices() == [*range(len(received.indices()))]
    assert len(received.indices()) >= 4
    assert json.loads(received.batches[-1][-1])["raw_data"] == note
    assert all(headers["Authorization"] == "Splunk 1234-abcd" for headers in received.headers)


async def test_a_sink_that_is_away_holds_up_no_other_and_gets_everything_later(pushes: Pushes, tmp_path: Path) -> None:
    received, file = Received(), tmp_path / "audit.ndjson"
    received.status = 503
    with http_receiver(received) as url:
        async with pushes(https(url) + to_file(file)) as world:
            await world.organization("acme")
            await world.work()
            assert received.indices() == []
            pushed = sequences(file)
            assert pushed == [*range(len(pushed))]
            metrics = (await world.http.get("/metrics")).text
            away = re.search(r'keybroker_sink_behind\{of="events",sink="siem"\} ([0-9.]+)', metrics)
            assert away is not None
            assert float(away[1]) >= 3
            assert 'keybroker_sink_behind{of="events",sink="disk"} 0.0' in metrics
            # when
            received.status = 200
            await world.work(seconds=60)
            assert received.indices()[: len(pushed)] == pushed


async def test_operators_are_told_once_that_a_sink_is_away_and_once_that_it_is_well(pushes: Pushes) -> None:
    received = Received()
    received.status = 401
    with http_receiver(received) as url:
        async with pushes(https(url)) as world:

            async def told() -> list[str]:
                return [one["kind"] for one in await world.items("/v1/notices") if one["kind"].startswith("sink_")]

            await world.work()
            assert await told() == []
            for _ in range(3):
                await world.work(hours=1)
            assert await told() == ["sink_behind"]
            received.status = 200
            for _ in range(2):
                await world.work(hours=1)
            assert await told() == ["sink_behind", "sink_well"]
            (notice,) = [one for one in await world.items("/v1/notices") if one["kind"] == "sink_behind"]
            assert "siem" in str(notice)


async def test_a_sink_that_is_declared_no_more_is_forgotten_and_else_keeps_months(
    pushes: Pushes, tmp_path: Path
) -> None:
    received = Received()
    received.status = 500
    with http_receiver(received) as url:
        async with pushes(https(url)) as world:
            await world.work()
            async with world.services.parts.db.read(EVERY_TENANT) as session:
                assert await cursors.behind(session, 1) == ["siem"]
    (tmp_path / "sinks.toml").write_text("sink = []")
    settings = world.settings
    async with (
        upstream() as (state, upstream_url),
        running_world(settings, state, upstream_url, bootstrap=False) as world,
    ):
        await world.work()
        async with world.services.parts.db.read(EVERY_TENANT) as session:
            assert await cursors.behind(session, 1) == []


# Syslog


async def test_syslog_over_tls_takes_every_event_and_a_broken_connection_is_tried_again(
    pushes: Pushes, tmp_path: Path
) -> None:
    certify(tmp_path)
    received = Received()
    with syslog_receiver(tmp_path, received) as port:
        declared = (
            f'[[sink]]\nkind = "syslog"\nname = "siem"\nformat = "cef"\nhost = "127.0.0.1"\nport = {port}\n'
            f'private = true\nca_file = "{tmp_path / "ca.pem"}"\n'
        )
        async with pushes(declared) as world:
            received.status = 500
            await world.organization("acme")
            await world.work()
            assert received.batches == []
            received.status = 200
            await world.work(seconds=60)
            many = await size(world)
    messages = [message.decode() for batch in received.batches for message in batch]
    head = re.compile(r"<86>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ keybroker - audit - \ufeffCEF:0\|Keybroker\|Keybroker\|")
    assert all(head.match(message) for message in messages)
    numbers = [int(found[1]) for message in messages if (found := re.search(r" cn1=(\d+) cn1Label=logIndex", message))]
    assert numbers == [*range(len(numbers))]
    assert 3 <= len(numbers) <= many
    assert "audit.checkpoint" in messages[-1]


async def test_a_receiver_whose_certificate_nobody_vouches_for_is_sent_nothing(pushes: Pushes, tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
        certify(tmp_path / name)
    received = Received()
    with syslog_receiver(tmp_path / "theirs", received) as port:
        declared = (
            f'[[sink]]\nkind = "syslog"\nname = "siem"\nhost = "127.0.0.1"\nport = {port}\nprivate = true\n'
            f'ca_file = "{tmp_path / "ours" / "ca.pem"}"\n'
        )
        async with pushes(declared) as world:
            await world.work()
    assert received.batches == []


async def test_an_address_within_the_network_is_sent_nothing_unless_it_is_declared_private(pushes: Pushes) -> None:
    received = Received()
    with http_receiver(received) as url:
        declared = https(url.replace("http:", "https:")).replace("private = true", "")
        async with pushes(declared) as world:
            await world.work()
            (count,) = re.findall(
                r'sink_behind\{of="events",sink="siem"\} ([0-9.]+)', (await world.http.get("/metrics")).text
            )
            assert float(count) > 0
    assert received.batches == []


# Files


def sequences(file: Path) -> list[int]:
    found = [json.loads(line)["metadata"] for line in file.read_text().splitlines()]
    return [one["sequence"] for one in found if "sequence" in one]


async def test_a_file_that_is_moved_away_is_begun_anew_and_a_day_has_its_own(pushes: Pushes, tmp_path: Path) -> None:
    dated, plain = tmp_path / "audit-{date}.ndjson", tmp_path / "audit.ndjson"
    async with pushes(to_file(dated, "dated") + to_file(plain, "plain")) as world:
        await world.work()
        plain.rename(tmp_path / "audit.ndjson.1")
        await world.organization("acme")
        await world.work(hours=24)
    days = sorted(path for path in tmp_path.glob("audit-2*.ndjson"))
    assert len(days) == 2
    of_days = [number for day in days for number in sequences(day)]
    of_both = sequences(tmp_path / "audit.ndjson.1") + sequences(plain)
    for numbers in (of_days, of_both):
        assert numbers == [*range(len(numbers))]
    assert plain.stat().st_mode & 0o007 == 0


def test_a_batch_is_in_a_file_whole_or_not_at_all(tmp_path: Path) -> None:
    """The disk is full after some bytes; or a process ended amid a line."""
    file = tmp_path / "audit.ndjson"
    append(file, b"one\n")
    left = iter([4, 2])

    def full(descriptor: int, data: bytes) -> int:
        try:
            return os.write(descriptor, data[: next(left)])
        except StopIteration:
            raise OSError(errno.ENOSPC, "No space left on device") from None

    with pytest.raises(OSError, match="No space left"):
        append(file, b"two\nthree\n", full)
    assert file.read_bytes() == b"one\n"
    with file.open("ab") as torn:
        torn.write(b"two\nthr" + b"e" * 100_000)
    append(file, b"three\n")
    assert file.read_bytes() == b"one\ntwo\nthree\n"


async def test_a_file_on_a_full_disk_gets_everything_once_there_is_room(pushes: Pushes) -> None:
    """/dev/full refuses every byte."""
    link = Path("/dev/full")
    async with pushes(to_file(link)) as world:
        await world.work()
        assert (await world.http.get("/healthz")).status_code == 200
        assert 'keybroker_sink_behind{of="events",sink="disk"} 0.0' not in (await world.http.get("/metrics")).text


# Crashes


@pytest.fixture
def receiving(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A receiver's process: its address, and the file of the numbers that it took."""
    kept = tmp_path / "numbers"
    command = [sys.executable, "-m", "tests.siem.receiver", str(kept)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/", kept
        process.kill()


@pytest.mark.timeout(300)
async def test_a_worker_that_is_killed_a_hundred_times_leaves_no_hole(
    db: Database, database_url: str, receiving: tuple[str, Path]
) -> None:
    url, kept = receiving
    for _ in range(12):
        events = [Event(kind="leak.checked", time=now_ms(), actor=BROKER) for _ in range(500)]
        async with db.write(EVERY_TENANT) as session:
            await record(session, *events)
    command = [sys.executable, "-m", "tests.siem.killed", database_url, url, "100"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    taken = [int(line) for line in kept.read_text().split()]
    killed = re.search(r"killed (\d+)", done.stderr)
    assert killed is not None
    assert int(killed[1]) > 50, "most were killed amid their work"
    assert set(taken) == set(range(6_001)), "and the event that says that it began"
    assert len(taken) > len(set(taken)), "some came twice, as was allowed"


# Declarations


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("sink = 1", "sink"),
        ('[[sink]]\nkind = "ftp"\nname = "a"', "number 1"),
        ('[[sink]]\nkind = "https"\nname = "a"\nurl = "http://siem.example/"', "must be https:"),
        ('[[sink]]\nkind = "https"\nname = "a"\nurl = "https://u:p@siem.example/"', "without a password"),
        ('[[sink]]\nkind = "file"\nname = "A b"\npath = "/tmp/x"', "name"),
        ('[[sink]]\nkind = "file"\nname = "a"\npath = "/no/such/folder/x"', "no folder"),
        ('[[sink]]\nkind = "file"\nname = "a"\npath = "/tmp/x"\ncolour = "red"', "colour"),
        ('[[sink]]\nkind = "file"\nname = "a"\npath = "/tmp/x"\n' * 2, "two sinks are called a"),
        ('[[sink]]\nkind = "syslog"\nname = "a"\nhost = "siem.example"\nca_file = "/no/such.pem"', "ca_file"),
        ("[[sink", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, declared: str, said: str) -> None:
    file = tmp_path / "sinks.toml"
    file.write_text(declared)
    with pytest.raises(SinksUnusable) as refused:
        load(file)
    assert said in str(refused.value)
    assert str(file) in str(refused.value)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    secret, file = tmp_path / "secret", tmp_path / "sinks.toml"
    secret.write_text("Bearer x")
    secret.chmod(0o644)
    file.write_text(https("https://siem.example/", more=f'authorization_file = "{secret}"'))
    with pytest.raises(SinksUnusable, match="chmod 600"):
        load(file)


def test_no_file_declares_no_sinks() -> None:
    assert load(None) == ()
