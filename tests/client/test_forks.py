"""A process that forks shares nothing of the broker's with its children: each has its own, and gives its own back."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.served import RAPTOR, ClientBench

# Every program ends by itself where a lock of its parent's stops it.
BEGINNING = f"""
import json, multiprocessing, os, signal, sys, threading, time, urllib.request, warnings
from pathlib import Path
import httpx2
from broker.client.client import Client
from broker.client.identity import read

warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads: that is the case here
signal.alarm(60)
client = Client(read(Path(sys.argv[1])))
RAPTOR = {RAPTOR!r}
THEIRS = "https://upstream.example"

def say(**what):
    os.write(1, json.dumps(what).encode() + b"\\n")  # in one piece, whoever else writes

def call(acme):
    request = urllib.request.Request(acme.url + "/facilities", headers=acme.headers())
    return urllib.request.urlopen(request).status

def forked(work):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            work()
        except BaseException as error:
            say(error=repr(error))
            os._exit(1)
        os._exit(0)
    return child

def wait(child):
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@dataclass
class ForkingJob:
    """A job that forks."""

    process: subprocess.Popen[str]

    async def line(self) -> dict[str, Any]:
        """The next thing that it, or a child, says."""
        assert self.process.stdout is not None
        said = await asyncio.to_thread(self.process.stdout.readline)
        return json.loads(said) if said else {}

    def go_on(self) -> None:
        """Let it pass its next ``input()``."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    async def rest(self) -> list[dict[str, Any]]:
        """What it says until it ends well."""
        output, errors = await asyncio.to_thread(self.process.communicate, None, 90)
        assert self.process.returncode == 0, (output, errors)
        return [json.loads(line) for line in output.splitlines()]


@dataclass
class JobStarter:
    """Starts programs with the job's identity file."""

    bench: ClientBench
    identity: Path
    started: list[subprocess.Popen[str]]

    def start(self, program: str) -> ForkingJob:
        process = subprocess.Popen(
            [sys.executable, "-c", BEGINNING + program, str(self.identity)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return ForkingJob(process)


@pytest.fixture
async def jobs(bench: ClientBench, tmp_path: Path) -> AsyncIterator[JobStarter]:
    await bench.grant()
    made = JobStarter(bench, tmp_path / "job.json", [])
    bench.identity.write(made.identity)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


async def test_a_child_that_leaves_a_with_gives_nothing_of_its_parents_back(jobs: JobStarter) -> None:
    program = jobs.start("""
with client.upstream("acme", RAPTOR) as acme:
    child = os.fork()
    if child == 0:
        sys.exit(0)  # by way of every with
    wait(child)
    say(status=call(acme))
    input()
""")
    assert await program.line() == {"status": 200}
    assert await jobs.bench.states() == ["active"]
    program.go_on()
    await program.rest()
    assert await jobs.bench.states() == ["ended"]


async def test_a_child_that_uses_its_parents_upstream_has_a_token_and_a_lease_of_its_own(jobs: JobStarter) -> None:
    program = jobs.start("""
with client.upstream("acme", RAPTOR) as acme:
    def work():
        with acme:
            say(token=acme.token, access=client.token(), url=acme.url, status=call(acme))
    say(token=acme.token, access=client.token(), url=acme.url, status=call(acme))
    wait(forked(work))
    say(status=call(acme))
    input()
""")
    parent, child, after = [await program.line() for _ in range(3)]
    assert (parent["status"], child["status"], after) == (200, 200, {"status": 200})
    assert (parent["url"], parent["token"] != child["token"]) == (child["url"], True)
    assert parent["access"] != child["access"]
    assert await jobs.bench.count("auth.token_issued") == 2
    # the child gave its own back, and the parent's goes on
    assert await jobs.bench.states() == ["active", "ended"]
    program.go_on()
    await program.rest()
    assert await jobs.bench.states() == ["ended", "ended"]


async def test_locks_that_a_thread_holds_while_its_process_forks_do_not_stop_the_child(
    jobs: JobStarter, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a parent whose thread waits for a token, with every lock that this needs
    tokens = jobs.bench.world.services.token_endpoint
    answered, asked, let_go = tokens.answer, asyncio.Event(), asyncio.Event()

    async def first_waits(*arguments: Any) -> Any:
        if not asked.is_set():
            asked.set()
            await let_go.wait()
        return await answered(*arguments)

    monkeypatch.setattr(tokens, "answer", first_waits)
    program = jobs.start("""
thread = threading.Thread(target=client.token)
thread.start()
input()
wait(forked(lambda: say(child=len(client.leases()))))
say(done=True)
thread.join()
say(parent=len(client.leases()))
""")
    await asked.wait()
    # When it forks, then the child calls the broker, and the parent does once it may
    program.go_on()
    assert await program.line() == {"child": 0}
    assert await program.line() == {"done": True}
    let_go.set()
    assert await program.rest() == [{"parent": 0}]


async def test_workers_that_a_server_forks_have_leases_that_last(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR, ttl=2)  # before the fork, as a program does that is loaded first

def serve():
    seen = set()
    def handle():
        until = time.monotonic() + 4.5  # longer than a lease that nobody renews
        while time.monotonic() < until:
            seen.add((call(acme), acme.token))
            time.sleep(0.1)
    threads = [threading.Thread(target=handle) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(seen=sorted(seen))
    acme.close()

for worker in [forked(serve) for _ in range(2)]:
    wait(worker)
say(seen=[(call(acme), acme.token)])
acme.close()
""")
    said = await program.rest()
    assert [len(each["seen"]) for each in said] == [1, 1, 1]
    assert {each["seen"][0][0] for each in said} == {200}
    assert len({each["seen"][0][1] for each in said}) == 3
    assert await jobs.bench.states() == ["ended"] * 3


async def test_multiprocessings_fork_works_too(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR)

def one(_number):
    return os.getpid(), acme.token, call(acme)

with multiprocessing.get_context("fork").Pool(3) as pool:
    for process, token, status in pool.map(one, range(12), chunksize=1):
        say(process=process, token=token, status=status)
say(process=os.getpid(), token=acme.token, status=call(acme))
""")
    said = await program.rest()
    assert {each["status"] for each in said} == {200}
    pairs = {(each["process"], each["token"]) for each in said}
    assert len(pairs) == len({process for process, _ in pairs}) == len({token for _, token in pairs}) > 1


async def test_a_child_of_a_child_is_another_process_still(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR)

def parent():
    say(token=acme.token)
    wait(forked(lambda: say(token=acme.token)))
    say(token=acme.token)

say(token=acme.token)
wait(forked(parent))
""")
    first, child, grandchild, again = [each["token"] for each in await program.rest()]
    assert len({first, child, grandchild}) == 3
    assert again == child


async def test_a_transport_of_the_parents_has_connections_of_its_own_in_a_child(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR)
http = httpx2.Client(base_url=THEIRS, transport=acme.transport(THEIRS))

def wrong(path, name):
    answers = [http.get(path) for _ in range(30)]
    return sum(answer.status_code != 200 or name not in answer.text for answer in answers)

def work():
    say(wrong=wrong("/control-centers", "Control"))
    http.close()

http.get("/facilities")  # leaves a connection that can be used again
child = forked(work)
say(wrong=wrong("/facilities", "Riverside Substation"))
wait(child)
say(wrong=wrong("/facilities", "Riverside Substation"))
""")
    said = await program.rest()
    assert [each["wrong"] for each in said] == [0, 0, 0]


async def test_an_access_that_is_refused_to_a_child_stays_refused_without_asking_again(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR)
say(token=acme.token)
input()

def work():
    for _ in range(3):
        try:
            acme.token
        except Exception as error:
            say(refused=type(error).__name__, code=error.code)

wait(forked(work))
""")
    await program.line()
    (lease,) = await jobs.bench.leases()
    await jobs.bench.world.call("POST", f"/v1/grants/{lease['grant']}/revoke", json={"reason": "test"})
    program.go_on()
    assert await program.rest() == [{"refused": "AccessDenied", "code": "no_grant"}] * 3
    assert await jobs.bench.count("lease.denied") == 1


async def test_what_was_closed_before_the_fork_is_closed_in_the_child(jobs: JobStarter) -> None:
    program = jobs.start("""
acme = client.upstream("acme", RAPTOR)
acme.close()

def work():
    try:
        acme.token
    except Exception as error:
        say(code=error.code)
    acme.close()

wait(forked(work))
""")
    assert await program.rest() == [{"code": "lease_over"}]
    assert await jobs.bench.count("lease.issued") == 1


async def test_a_child_has_a_key_of_its_own_for_its_bound_leases(jobs: JobStarter) -> None:
    program = jobs.start("""
import base64
with client.upstream("acme", RAPTOR, bound=True) as acme:
    def use():
        url = acme.url + "/facilities"
        headers = acme.headers("GET", url)
        key = json.loads(base64.urlsafe_b64decode(headers["DPoP"].partition(".")[0] + "=="))["jwk"]["x"]
        say(status=urllib.request.urlopen(urllib.request.Request(url, headers=headers)).status, key=key)
    use()
    def work():
        with acme:
            use()
    wait(forked(work))
    use()
""")
    parent, child, after = await program.rest()
    assert (parent["status"], child["status"], after["status"]) == (200, 200, 200)
    assert parent["key"] == after["key"] != child["key"]
