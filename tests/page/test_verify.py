"""verify.js says in a real browser what verify.py says: of the vectors, of altered receipts, and of odd ones."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.async_api import Browser, Page, Route

from broker.client import verify
from broker.formats import merkle
from broker.formats.audit_event import entry_from, entry_of

SCRIPT = Path(verify.__file__).with_suffix(".js")
VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "log.json").read_text())
# Loaded as the console loads it, as a file of its own; what is refused is told in its words.
SAID = """async (cases) => {
    const verify = await import("/verify.js");
    const said = async ({keys, kind, text}) => {
        try {
            const trusted = verify.keys(keys);
            if (kind === "checkpoint") return `of ${(await verify.checkpoint(text, trusted)).size}`;
            if (kind !== "receipt") return `from ${(await verify.consistency(kind, text, trusted))[0].size}`;
            const {index, personal, checkpoint: {size}} = await verify.receipt(text, trusted);
            return `${index} of ${size}, ${personal === null ? "withheld" : "whole"}`;
        } catch (problem) {
            return problem instanceof verify.Refused ? problem.message : `${problem.stack}`;
        }
    };
    return Promise.all(cases.map(said));
}"""
BASE64 = {"base64 in another spelling", "not base64"}
# Of these JavaScript or a browser may think otherwise than Python.
ODD = " \t\r\v\f\0\x1c\x1e\x1f\x7f\x85\xa0\u1680\u180e\u200b\u2028\u2029\u3000\ufeff\U0001f511é+=-_/\\\"'09"


class Case(NamedTuple):
    """What is shown, and to whom; ``kind`` is ``receipt``, ``checkpoint``, or the checkpoint that was saved."""

    keys: str
    text: str
    kind: str = "receipt"


def by_python(case: Case) -> str:
    """What verify.py says of it."""
    try:
        trusted = verify.keys(case.keys)
        if case.kind == "checkpoint":
            return f"of {verify.checkpoint(case.text, trusted).size}"
        if case.kind != "receipt":
            return f"from {verify.consistency(case.kind, case.text, trusted)[0].size}"
        proven = verify.receipt(case.text, trusted)
    except verify.Refused as refused:
        return str(refused)
    return f"{proven.index} of {proven.checkpoint.size}, {'withheld' if proven.personal is None else 'whole'}"


@pytest.fixture
async def blank(browser: Browser) -> AsyncIterator[Page]:
    """A page that has nothing, and the script beside it."""

    async def answer(route: Route) -> None:
        if route.request.url.endswith("/verify.js"):
            await route.fulfill(body=SCRIPT.read_text(), content_type="text/javascript")
        else:
            await route.fulfill(body="<!doctype html><title>-</title>", content_type="text/html")

    context = await browser.new_context()
    await context.route("http://localhost/**", answer)
    page = await context.new_page()
    await page.goto("http://localhost/")
    yield page
    await context.close()


async def differing(page: Page, cases: Sequence[Case]) -> list[tuple[str, str, Case]]:
    """Cases of which the two say different things, and what."""
    said = await page.evaluate(SAID, [case._asdict() for case in cases])
    both = [(by_python(case), by_script, case) for case, by_script in zip(cases, said, strict=True)]
    return [found for found in both if found[0] != found[1] and not {*found[:2]} <= BASE64]


async def test_the_script_verifies_and_refuses_what_verify_py_does(blank: Page) -> None:
    kinds = {"receipt": "receipt", "consistency": VECTORS["saved"]}
    for of in ("accept", "reject"):
        vectors = [vector for vector in VECTORS[of] if vector["kind"] in kinds]
        assert len(vectors) > 3
        cases = [Case(VECTORS["keys"], vector["text"], kinds[vector["kind"]]) for vector in vectors]
        assert not await differing(blank, cases)
        verified = [by_python(case)[:1].isdigit() or by_python(case).startswith("from ") for case in cases]
        assert set(verified) == {of == "accept"}


async def test_altered_receipts_are_refused_in_the_same_words(blank: Page) -> None:
    drawn = random.Random(20)
    receipts = [vector["text"] for vector in VECTORS["accept"] if vector["kind"] == "receipt"]
    cases = [Case(VECTORS["keys"], altered(drawn, drawn.choice(receipts))) for _ in range(600)]
    cases += [Case(altered_text(drawn, VECTORS["keys"]), drawn.choice(receipts)) for _ in range(100)]
    grown = next(vector["text"] for vector in VECTORS["accept"] if vector["kind"] == "consistency")
    cases += [Case(VECTORS["keys"], altered_text(drawn, grown), VECTORS["saved"]) for _ in range(100)]
    assert not await differing(blank, cases)
    told = {by_python(case) for case in cases}
    assert len(told) > 12, told


def altered(drawn: random.Random, receipt: str) -> str:
    """A receipt of which one or two things are otherwise, within its event or around it."""
    if drawn.random() < 0.5:
        return altered_text(drawn, receipt)
    title, extra, rest = receipt.split("\n", 2)
    event = altered_text(drawn, base64.b64decode(extra.removeprefix("extra ")).decode())
    return "\n".join([title, "extra " + base64.b64encode(event.encode("utf-8", "surrogatepass")).decode(), rest])


def altered_text(drawn: random.Random, text: str) -> str:
    for _ in range(drawn.randint(1, 2)):
        text = altered_once(drawn, text) or "\n"
    return text


def altered_once(drawn: random.Random, text: str) -> str:
    at, lines = drawn.randrange(len(text)), text.split("\n")
    line = drawn.randrange(len(lines))
    changes = [
        text[:at] + text[at + 1 :],
        text[:at] + drawn.choice(ODD) + text[at:],
        text[:at] + drawn.choice(ODD) + text[at + 1 :],
        text[:at] + drawn.choice("ABCDwxyz0189+/=") + text[at + 1 :],
        text[:at],
        "\n".join([*lines[:line], *lines[line + 1 :]]),
        "\n".join([*lines[: line + 1], *lines[line:]]),
        "\n".join([*lines[:line], drawn.choice(lines), *lines[line:]]),
    ]
    return drawn.choice(changes)


class Signer(NamedTuple):
    """Who signs: a log, or a witness of it."""

    name: str = "log.example"
    seed: bytes = b"\1" * 32
    witness: bool = False

    def key(self) -> bytes:
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        return (b"\4" if self.witness else b"\1") + public

    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + self.key()).digest()[:4]

    def line(self) -> str:
        return f"{self.name}+{self.id().hex()}+{base64.b64encode(self.key()).decode()}\n"

    def sign(self, text: str, time: int = 1_790_000_000) -> str:
        """The line of its signature, or cosignature."""
        before = time.to_bytes(8) if self.witness else b""
        whole = f"cosignature/v1\ntime {time}\n{text}" if self.witness else text
        signed = before + Ed25519PrivateKey.from_private_bytes(self.seed).sign(whole.encode())
        return f"— {self.name} {base64.b64encode(self.id() + signed).decode()}\n"


def checkpoint_of(log: Signer, size: int, root: bytes) -> str:
    return f"{log.name}\n{size}\n{base64.b64encode(root).decode()}\n"


SALT = bytes(range(32))


def subtree(level: int, number: int) -> bytes:
    """Some hash for each whole subtree, of a tree that may be as large as one likes."""
    return hashlib.sha256(f"{level} {number}".encode()).digest()


def issued(
    core: str = "{}", personal: str | None = None, log: Signer | None = None, at: tuple[int, int] = (3, 9)
) -> Case:
    """A receipt of what a log really committed to, at an index of its size; ``personal`` is spelled as it is given."""
    log, (index, size), salt = log or Signer(), at, base64.b64encode(SALT).decode()
    shown = '"core":"{}","salt_core":"{}",'.format(core.replace('"', '\\"'), salt)
    if personal is None:
        entry = entry_from(core.encode(), SALT, SALT)
        shown += f'"personal_commitment":"{salt}"'
    else:
        meant: str = json.loads(f'"{personal}"', strict=False)
        entry = entry_of(core.encode(), SALT, meant.encode("utf-8", "surrogatepass"), SALT)
        shown += f'"personal":"{personal}","salt_personal":"{salt}"'
    proof = merkle.inclusion(index, size, subtree)
    text = checkpoint_of(log, size, verify.root_by_inclusion(entry, index, size, proof))
    extra, *hashes = [base64.b64encode(each).decode() for each in (f"{{{shown}}}".encode(), *proof)]
    lines = ["c2sp.org/tlog-proof@v1", f"extra {extra}", f"index {index}", *hashes, "", text, log.sign(text)]
    return Case(log.line(), "\n".join(lines))


CORES = [
    "",
    "[]",
    "1",
    "null",
    "{}",
    " {}",
    "\ufeff{}",
    "{}\0",
    ",",
    '{"a":NaN}',
    '{"a":-Infinity}',
    '{"a":"\u2028é🔑"}',
]
CORES += ['{"a":1,}', '{"a":1e5}', '{"a":01}', '{"a":"\t"}', '{"a":1,"a":2}', 'x","salt_core":"y', "NaN", '{"a":"\\n"}']
PERSONAL = [
    "",
    "{}",
    "[]",
    "null",
    r"{\"a\":1}",
    r"{\u0022a\u0022:1}",
    r"\ud800",
    r"\ud83d\ude00",
    r"\u007f",
    r"\/",
    r"\b",
]


async def test_what_a_log_signed_is_read_in_the_same_way_however_odd_it_is(blank: Page) -> None:
    plain = [character for character in ODD if character not in {'"', "\\"}]
    notes = [rf"{{\"note\":\"{character}\"}}" for character in (*plain, r"\\n", r"\\\"")]
    cases = [issued(personal=each) for each in (*PERSONAL, *notes)] + [issued(core) for core in CORES]
    cases += [issued(log=Signer(f"log{character}example")) for character in plain if character != "+"]
    assert not await differing(blank, cases)
    told = [by_python(case) for case in cases]
    for one in ("3 of 9, whole", "3 of 9, withheld", "the event is no object of JSON", "not a receipt of an event"):
        assert told.count(one) > 2, one


async def test_a_log_of_any_size_is_read_in_the_same_way(blank: Page) -> None:
    sizes = [1, 2, 3, 5, 8, 255, 257, 2**32 + 1, 2**53 - 1, 2**53 + 1, 10**16 - 1]
    whole = [issued(at=(size * part // 7, size)) for size in sizes for part in range(7)]
    assert all(by_python(case).endswith("withheld") for case in whole)
    largest = issued(at=(7, 10**16 - 1))
    retired = [
        largest._replace(keys=f"# good to size {size}\n{largest.keys}")
        for size in (0, 2**53 - 1, 10**16 - 2, 10**16 - 1, 10**16)
    ]
    assert not await differing(blank, [*whole, *retired])


async def test_keys_and_witnesses_are_held_to_the_same_rules(blank: Page) -> None:
    log, other, witness = Signer(), Signer(seed=b"\3" * 32), Signer("witness.example", b"\2" * 32, witness=True)
    text = checkpoint_of(log, 7, bytes(32))
    short = base64.b64encode(witness.id() + b"short").decode()
    signatures = [
        log.sign(text),
        log.sign(text) + other.sign(text),
        log.sign(text) + witness.sign(text),
        log.sign(text) + witness.sign(text, 2**63),
        log.sign(text) + witness.sign(text + "x\n"),
        log.sign(text) + f"— {witness.name} {short}\n",
        other.sign(text),
        Signer("log.example.org").sign(text),
        f"— {log.name} {base64.b64encode(log.id()).decode()}\n",
    ]
    no_point = Signer("log.example").line().rpartition("+")[0] + "+" + base64.b64encode(b"\1" + b"\xff" * 32).decode()
    files = [log.line(), other.line(), log.line() + other.line(), log.line() + witness.line(), witness.line()]
    files += ["", "#\n", "x", "x+", "+\n" + log.line(), f"{no_point}\n", log.line().replace("\n", "\u2028") * 2]
    files += [f"# good to size {size}\n{witness.line()}{log.line()}{other.line()}" for size in ("6", "7", "06")]
    files += [f"ml+1+AA==\n{log.line()}", f"{log.line()}\x1c# good to size 6\x85{other.line()}"]
    cases = [Case(keys, f"{text}\n{lines}", "checkpoint") for keys in files for lines in signatures]
    assert not await differing(blank, cases)
    assert len({by_python(case) for case in cases}) > 6
