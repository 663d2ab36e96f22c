"""A witness cosigns what goes on from what it saw, and nothing else."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from broker.base import closed
from broker.base.clock import now_ms
from broker.formats.checkpoint import Checkpoint
from broker.formats.cosignature import WitnessKey, cosigned_at
from broker.formats.ml_dsa import MlDsaSigner
from broker.formats.signed_note import Signer
from broker.formats.signed_note import opened as opened_note
from broker.formats.witness_request import BYTES_MOST, WitnessRequest
from broker.witness.folder import FolderUnusable, cosigner, opened
from broker.witness.serving import Served
from broker.witness.witness import NotCosigned, Witness
from tests.support.logs import SIGNER, MadeLog

NAME = "witness.example/w"


@pytest.fixture
def key(tmp_path: Path) -> WitnessKey:
    return cosigner(tmp_path, NAME).key()


@pytest.fixture
def witness(tmp_path: Path, key: WitnessKey) -> Iterator[Witness]:
    with opened(tmp_path, cosigner(tmp_path, None), [SIGNER.verifier()]) as made:
        yield made


async def cosigned(witness: Witness, log: MadeLog, old: int, key: WitnessKey) -> int:
    """When the witness says that it cosigned the log's checkpoint, as anybody verifies it."""
    line = await witness.add(log.request(old).encode())
    return cosigned_at(log.note() + line.text().encode(), key)


async def refused(witness: Witness, body: bytes) -> NotCosigned:
    with pytest.raises(NotCosigned) as found:
        await witness.add(body)
    return found.value


async def test_a_log_that_grows_is_cosigned_at_every_size(witness: Witness, key: WitnessKey) -> None:
    before = now_ms() // 1000
    for old, size in [(0, 0), (0, 1), (1, 1), (1, 2), (2, 7), (7, 300), (300, 300)]:
        log = MadeLog(*(str(number) for number in range(size)))
        assert before <= await cosigned(witness, log, old, key) <= now_ms() // 1000


async def test_a_log_never_goes_back(witness: Witness, key: WitnessKey) -> None:
    await cosigned(witness, MadeLog("a", "b", "c"), 0, key)
    for body in (MadeLog("a", "b").request(0), MadeLog("a", "b").request(2), MadeLog("a", "b", "c", "d").request(1)):
        answer = await refused(witness, body.encode())
        assert (answer.status, answer.size) == (409, 3)


async def test_another_history_is_not_cosigned(witness: Witness, key: WitnessKey) -> None:
    await cosigned(witness, MadeLog("a", "b", "c"), 0, key)
    assert (await refused(witness, MadeLog("a", "x", "c", "d").request(3).encode())).status == 422
    assert await cosigned(witness, MadeLog("a", "b", "c", "d"), 3, key)


async def test_a_split_view_that_is_shown_to_two_parties_gets_one_cosignature_and_leaves_its_proof(
    witness: Witness, key: WitnessKey, tmp_path: Path
) -> None:
    """A vendor shows one customer a record, and another one the same without an event."""
    # given two histories of one size, both signed by the log
    first, second = MadeLog("a", "b", "c"), MadeLog("a", "b", "x")
    shown = first.note() + (await witness.add(first.request(0).encode())).text().encode()
    # when the vendor wants the other one cosigned as well
    answer = await refused(witness, second.request(3).encode())
    # then the party that is shown it has no cosignature to accept
    assert (answer.status, answer.size) == (409, 3)
    assert cosigned_at(shown, key)
    # and the witness has both notes, which the log's own key signed: anybody can see that it has two histories
    (kept,) = tmp_path.glob("two-histories-*-3.txt")
    one, other = kept.read_bytes().split(b"\n\n\n")
    assert {opened_note(one + b"\n", SIGNER.verifier()), opened_note(other, SIGNER.verifier())} == {
        first.checkpoint().text(),
        second.checkpoint().text(),
    }


async def test_of_two_histories_that_come_at_once_one_is_cosigned(witness: Witness) -> None:
    bodies = [MadeLog("a", str(number)).request(0).encode() for number in range(8)]
    answers = await asyncio.gather(*(witness.add(body) for body in bodies), return_exceptions=True)
    assert [type(answer) for answer in answers].count(NotCosigned) == len(bodies) - 1


async def test_what_it_saw_outlives_it(witness: Witness, key: WitnessKey, tmp_path: Path) -> None:
    await cosigned(witness, MadeLog("a", "b", "c"), 0, key)
    with opened(tmp_path, cosigner(tmp_path, NAME), [SIGNER.verifier()]) as again:
        assert (await refused(again, MadeLog("x").request(0).encode())).size == 3
        assert await cosigned(again, MadeLog("a", "b", "c", "d"), 3, key)


async def test_each_log_is_for_itself(tmp_path: Path, key: WitnessKey) -> None:
    others = Signer("log.example/1", b"t" * 32)
    with opened(tmp_path, cosigner(tmp_path, NAME), [SIGNER.verifier(), others.verifier()]) as witness:
        await cosigned(witness, MadeLog("a", "b"), 0, key)
        assert await cosigned(witness, MadeLog("x", signer=others), 0, key)


async def test_a_log_may_have_two_keys(tmp_path: Path, key: WitnessKey) -> None:
    next_ = Signer(SIGNER.name, b"n" * 32)
    with opened(tmp_path, cosigner(tmp_path, NAME), [SIGNER.verifier(), next_.verifier()]) as witness:
        await cosigned(witness, MadeLog("a"), 0, key)
        assert await cosigned(witness, MadeLog("a", "b", signer=next_), 1, key)


async def test_a_log_may_sign_with_ml_dsa_as_well(witness: Witness, key: WitnessKey) -> None:
    log = MadeLog("a", signer=Signer(SIGNER.name, SIGNER.seed))
    line = MlDsaSigner(SIGNER.name, bytes(32)).sign(log.checkpoint(), 1)
    note = log.note() + line.text().encode()
    cosignature = await witness.add(WitnessRequest(0, (), note).encode())
    assert cosigned_at(note + cosignature.text().encode(), key)


async def test_what_it_does_not_know_is_not_cosigned(witness: Witness) -> None:
    unknown = MadeLog("a", signer=Signer("log.example/9", b"s" * 32)).request(0)
    assert (await refused(witness, unknown.encode())).status == 404
    forged = MadeLog("a", signer=Signer(SIGNER.name, b"x" * 32)).request(0)
    assert (await refused(witness, forged.encode())).status == 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n\n",
        b"old 0\n\nnothing\n",
        MadeLog("a").request(0).encode().replace(b"old 0", b"old 00"),
        MadeLog("a").request(2).encode(),
        WitnessRequest(0, (), SIGNER.sign(f"{MadeLog('a').checkpoint().text()}more\n")).encode(),
        WitnessRequest(0, (), SIGNER.sign(Checkpoint(SIGNER.name, 9 * 10**18, bytes(32)).text())).encode(),
    ],
)
async def test_what_is_no_request_is_refused(witness: Witness, body: bytes) -> None:
    assert (await refused(witness, body)).status == 400


async def test_a_proof_where_there_is_nothing_to_prove_is_refused(witness: Witness, key: WitnessKey) -> None:
    log = MadeLog("a")
    assert (await refused(witness, WitnessRequest(0, (bytes(32),), log.note()).encode())).status == 422
    await cosigned(witness, log, 0, key)
    assert (await refused(witness, WitnessRequest(1, (bytes(32),), log.note()).encode())).status == 422


async def test_over_http_it_answers_as_the_specification_has_it(witness: Witness, key: WitnessKey) -> None:
    transport = httpx2.ASGITransport(app=Served(witness))
    async with httpx2.AsyncClient(transport=transport, base_url="http://witness.example") as http:
        log = MadeLog("a", "b")
        answer = await http.post("/add-checkpoint", content=log.request(0).encode())
        assert answer.status_code == 200
        assert cosigned_at(log.note() + answer.content, key)
        conflict = await http.post("/add-checkpoint", content=MadeLog("a").request(0).encode())
        assert (conflict.status_code, conflict.headers["content-type"]) == (409, "text/x.tlog.size")
        assert conflict.content == b"2\n"
        assert (await http.post("/add-checkpoint", content=b"x")).status_code == 400
        assert (await http.post("/add-checkpoint", content=b"x" * (BYTES_MOST + 1))).status_code == 413
        assert (await http.get("/add-checkpoint")).status_code == 405
        assert (await http.get("/")).status_code == 404


def test_its_key_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    with pytest.raises(FolderUnusable, match="--name"):
        cosigner(folder, None)
    made = cosigner(folder, NAME)
    assert stat.S_IMODE((folder / "witness.key").stat().st_mode) == 0o600
    assert cosigner(folder, None) == cosigner(folder, NAME) == made
    with pytest.raises(FolderUnusable, match=NAME):
        cosigner(folder, "another")
    (folder / "witness.key").chmod(0o644)
    with pytest.raises(closed.OpenToOthers, match="chmod 600"):
        cosigner(folder, None)


@pytest.mark.parametrize("name", ["a b", "a+b", "", "a\x07"])
def test_a_name_that_no_line_can_hold_makes_no_key(name: str, tmp_path: Path) -> None:
    with pytest.raises(FolderUnusable, match="--name"):
        cosigner(tmp_path, name)


@pytest.mark.parametrize("content", [b"", b"\xff", b"x\n"])
def test_what_is_no_key_is_never_replaced(content: bytes, tmp_path: Path) -> None:
    closed.create(tmp_path / "witness.key", content)
    with pytest.raises(FolderUnusable, match="another folder"):
        cosigner(tmp_path, NAME)
    assert (tmp_path / "witness.key").read_bytes() == content
