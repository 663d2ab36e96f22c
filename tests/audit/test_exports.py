"""Exports: an organization sees that it has all of its events, and nobody else's; and all of the log is held whole."""

from __future__ import annotations

import io
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from sqlalchemy import select

from broker.audit import exporting, integrating, organization_heads, receipts
from broker.audit.events import Actor, Event
from broker.audit.integrating import integrate
from broker.audit.organization_heads import head_all, head_now
from broker.audit.record import record
from broker.audit.tables import OrganizationHeadRow
from broker.base.clock import DAY_MS, Millis
from broker.base.db import EVERY_TENANT, Database, Scope
from broker.base.errors import NotFound
from broker.client import verify
from broker.formats import ids
from broker.formats.checkpoint import Checkpoint
from broker.formats.ids import OrganizationId
from broker.formats.merkle import Tree
from broker.formats.receipt import ShownEvent, entry
from broker.formats.signed_note import Signer
from tests.support.past import signers

ACME, GLOBEX = ids.new(OrganizationId), ids.new(OrganizationId)
NOW = Millis(1_790_000_000_000)
KEYS = [verify.Key(signers(0).name, signers(0).verifier().public)]
MINUTE = 60_000


async def put(db: Database, *whose: str, at: int = NOW) -> list[Event]:
    """An event of each of these organizations, a second apart."""
    made = [
        Event(
            kind="use.authorized",
            time=Millis(at + offset * 1000),
            actor=Actor("operator", "opr_1", 'Ada Ö "quoted" \\ \t', "192.0.2.1"),
            organization=OrganizationId(each) if each else "",
            note=f"event {offset}",
        )
        for offset, each in enumerate(whose)
    ]
    async with db.write(EVERY_TENANT) as session:
        await record(session, *made)
    return made


async def head(db: Database, organization: OrganizationId, at: int) -> OrganizationHeadRow:
    await integrate(db, signers)
    made = await head_now(db, organization, Millis(at))
    assert made is not None
    await integrate(db, signers)
    return made


async def text_of(lines: AsyncIterator[bytes]) -> list[str]:
    return [line.decode() async for line in lines]


async def exported(
    db: Database, organization: OrganizationId = ACME, since: int | None = None, until: int | None = None
) -> list[str]:
    """An export of a time whose heads are there."""
    async with db.read(Scope.of(organization)) as session:
        first = await organization_heads.before(session, organization, Millis(since)) if since else None
        last = await organization_heads.behind(session, organization, Millis(until or 0))
        while until is None and last is not None:
            behind = await organization_heads.behind(session, organization, Millis(last.time + 1))
            if behind is None:
                break
            last = behind
    assert last is not None
    wanted = exporting.Between(organization, first, last)
    return await text_of(exporting.of_organization(db, wanted, personal=False))


def refusal(lines: Sequence[str], keys: Sequence[verify.Key] = KEYS) -> str:
    with pytest.raises(verify.Refused) as refused:
        verify.export(lines, keys)
    return str(refused.value)


async def test_an_export_has_all_events_of_one_organization_and_nothing_of_others(db: Database) -> None:
    # given events of two organizations, and of none
    mine = [event for event in await put(db, ACME, GLOBEX, "", ACME, GLOBEX, ACME) if event.organization == ACME]
    await head(db, ACME, NOW + MINUTE)
    # when one's are exported
    lines = await exported(db)
    # then they verify, and they are all
    found = verify.export(lines, KEYS)
    assert (found.organization, found.events, found.since, found.until) == (ACME, 3, 0, NOW + MINUTE)
    told = [json.loads(json.loads(line)["core"])["id"] for line in lines[2:-1]]
    assert told == [event.id for event in mine]
    assert GLOBEX not in "".join(lines)
    assert "192.0.2.1" not in "".join(lines), "the personal part is withheld"
    # and it is the same with personal parts
    async with db.read(EVERY_TENANT) as session:
        last = await organization_heads.behind(session, ACME, Millis(0))
    assert last is not None
    whole = await text_of(exporting.of_organization(db, exporting.Between(ACME, None, last), personal=True))
    assert "Ada Ö" in whole[2]
    assert "192.0.2.1" in whole[2]
    assert verify.export(whole, KEYS) == found


async def test_an_export_with_any_one_event_taken_out_is_refused(db: Database) -> None:
    await put(db, *([ACME, GLOBEX] * 20))
    await head(db, ACME, NOW + MINUTE)
    lines = await exported(db)
    verify.export(lines, KEYS)
    for at in range(2, len(lines) - 1):
        assert "one is missing" in refusal(lines[:at] + lines[at + 1 :])
    for at in range(len(lines)):  # and one that is cut off
        assert refusal(lines[:at])
    assert refusal([*lines, "\n"]) == f"line {len(lines) + 1}: nothing is to follow the last head"


async def test_an_export_of_a_later_time_goes_on_from_the_head_before(db: Database) -> None:
    await put(db, *([ACME] * 5), GLOBEX)
    await head(db, ACME, NOW + MINUTE)
    await put(db, *([ACME, GLOBEX] * 7), at=NOW + 2 * MINUTE)
    await head(db, ACME, NOW + 10 * MINUTE)
    lines = await exported(db, since=NOW + MINUTE)
    found = verify.export(lines, KEYS)
    assert (found.events, found.since, found.until) == (7, NOW + MINUTE, NOW + 10 * MINUTE)
    # an event in between, the edge or the head before can't be left out of it
    changed = json.loads(lines[1])
    changed["edge"] = changed["edge"][:-1]
    assert refusal([lines[0], _line(changed), *lines[2:]]).startswith("line 2:")
    assert refusal([lines[0], '{"head":null,"edge":[]}\n', *lines[2:]]).startswith(f"line {len(lines)}:")


async def test_another_organizations_head_or_event_is_refused(db: Database) -> None:
    await put(db, ACME, GLOBEX, ACME, GLOBEX)
    await head(db, ACME, NOW + MINUTE)
    await head(db, GLOBEX, NOW + MINUTE)
    mine, others = await exported(db), await exported(db, GLOBEX)
    assert f"not a head of {ACME}" in refusal([*mine[:-1], others[-1]])
    assert f"is not of {ACME}" in refusal([*mine[:2], others[2], *mine[3:]])
    assert "is not of" in refusal([mine[0].replace(ACME, GLOBEX), *mine[1:]])


async def test_a_head_is_made_once_a_day_of_whoever_something_happened_to(db: Database) -> None:
    async def heads() -> list[tuple[str, int]]:
        async with db.read(EVERY_TENANT) as session:
            query = select(OrganizationHeadRow).order_by(OrganizationHeadRow.idx)
            return [(row.organization_id, row.size) for row in await session.scalars(query)]

    now = NOW
    await put(db, ACME, GLOBEX, ACME)
    await integrate(db, signers)
    await head_all(db, lambda: now)
    assert sorted(await heads()) == sorted([(ACME, 2), (GLOBEX, 1)])
    await put(db, ACME)
    await integrate(db, signers)
    await head_all(db, lambda: now)
    assert len(await heads()) == 2, "the day isn't over"
    now = Millis(NOW + DAY_MS)
    await head_all(db, lambda: now)
    await integrate(db, signers)
    await head_all(db, lambda: now)
    assert (await heads())[2:] == [(ACME, 3)]


async def test_more_heads_are_due_than_one_transaction_makes(db: Database) -> None:
    many = [ids.new(OrganizationId) for _ in range(205)]
    await put(db, *many)
    await integrate(db, signers)
    await head_all(db, lambda: NOW)
    await integrate(db, signers)
    for organization in (many[0], many[100], many[204]):
        assert verify.export(await exported(db, organization), KEYS).events == 1


async def test_an_export_of_nothing_says_so(db: Database) -> None:
    await put(db, GLOBEX)
    await integrate(db, signers)
    with pytest.raises(NotFound, match="Nothing is on the record"):
        await exporting.between(db, ACME, None, None, NOW)


async def test_all_of_the_log_verifies_against_a_saved_checkpoint(db: Database) -> None:
    await put(db, *([ACME, GLOBEX, ""] * 100))
    await integrate(db, signers)
    saved = await newest(db)
    await put(db, *([ACME, GLOBEX] * 10), at=NOW + 10 * MINUTE)
    await integrate(db, signers)
    lines = await text_of(exporting.of_log(db, personal=False))
    found = verify.export(lines, KEYS, saved)
    assert (found.organization, found.events, found.checkpoint) == ("", 320, await newest(db))


async def newest(db: Database) -> verify.Checkpoint:
    async with db.read(EVERY_TENANT) as session:
        row = await integrating.newest(session)
    assert row is not None
    return verify.checkpoint(row.note.decode(), KEYS)


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


class Rewritten:
    """What somebody makes of a log who owns the database and the signing key: all proofs are theirs to make."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.events = [json.loads(line) for line in lines[2:-1]]
        self.header = [*lines[:2]]

    def lines(self, signer: Signer) -> list[str]:
        """The log as it is now, signed again."""
        tree, made = Tree(), []
        for index, event in enumerate(self.events):
            made.append(_line({**event, "index": index}))
            tree.add(entry(ShownEvent(**{name: value for name, value in event.items() if name != "index"})))
        note = signer.sign(Checkpoint(signer.name, tree.size, tree.root()).text())
        return [*self.header, *made, _line({"checkpoint": note.decode()})]

    def change(self, at: int, name: str, value: object) -> None:
        core = json.loads(self.events[at]["core"])
        core[name] = value
        self.events[at]["core"] = json.dumps(core, separators=(",", ":"))


def altered(log: Rewritten) -> None:
    log.change(7, "reason", "other")


def dropped(log: Rewritten) -> None:
    log.events.append(log.events.pop(7))


def swapped(log: Rewritten) -> None:
    log.events[7], log.events[8] = log.events[8], log.events[7]


def put_in(log: Rewritten) -> None:
    log.events.insert(7, dict(log.events[6]))


def cut_off(log: Rewritten) -> None:
    del log.events[25:]


def dated_back(log: Rewritten) -> None:
    log.events.append(dict(log.events[-1]))
    log.change(len(log.events) - 1, "time", NOW - 30 * 86_400_000)


@pytest.mark.parametrize("rewrite", [altered, dropped, swapped, put_in, cut_off, dated_back])
async def test_a_rewritten_log_is_found_by_one_saved_checkpoint_though_it_is_signed_again(
    db: Database, rewrite: Callable[[Rewritten], None]
) -> None:
    # given a log of which somebody saved a checkpoint
    await put(db, *([ACME, GLOBEX] * 15))
    await integrate(db, signers)
    saved, lines = await newest(db), await text_of(exporting.of_log(db, personal=False))
    # when the vendor rewrites it, with its own key
    log = Rewritten(lines)
    assert log.lines(signers(0)) == lines
    rewrite(log)
    rewritten = log.lines(signers(0))
    # then it is refused for whoever has the checkpoint
    with pytest.raises(verify.Refused) as refused:
        verify.export(rewritten, KEYS, saved)
    expected: dict[Callable[[Rewritten], None], str] = {
        cut_off: "25 are here: the end was cut off",
        dated_back: "line 33: the event is from 2592029 s before",
    }
    assert expected.get(rewrite, "was rewritten") in str(refused.value)


async def test_a_log_that_another_key_signed_is_refused(db: Database) -> None:
    await put(db, ACME)
    await integrate(db, signers)
    log = Rewritten(await text_of(exporting.of_log(db, personal=False)))
    assert "no key that you trust" in refusal(log.lines(Signer(signers(0).name, bytes(31) + b"\7")))


async def test_a_clock_that_was_wrong_can_be_accepted(db: Database) -> None:
    await put(db, ACME, ACME)
    await put(db, ACME, at=NOW - 20 * MINUTE)
    await integrate(db, signers)
    lines = await text_of(exporting.of_log(db, personal=False))
    assert "line 5: the event is from 1201 s before" in refusal(lines)
    assert verify.export(lines, KEYS, skew=30 * MINUTE).events == 3


async def test_ten_thousand_mutations_of_an_export_are_all_found(db: Database) -> None:
    await put(db, *([ACME, GLOBEX] * 6))
    await head(db, ACME, NOW + MINUTE)
    await put(db, *([ACME, GLOBEX] * 6), at=NOW + 2 * MINUTE)
    await head(db, ACME, NOW + 10 * MINUTE)
    async with db.read(EVERY_TENANT) as session:
        first = await organization_heads.before(session, ACME, Millis(NOW + MINUTE))
        last = await organization_heads.behind(session, ACME, Millis(NOW + 2 * MINUTE))
    assert first is not None
    assert last is not None
    wanted = exporting.Between(ACME, first, last)
    exports = [
        "".join(await text_of(exporting.of_organization(db, wanted, personal=personal))) for personal in (False, True)
    ]
    exports.append("".join(await text_of(exporting.of_log(db, personal=True))))
    accepted, tried, chance = [], 0, random.Random(19)
    while tried < 10_002:
        text = exports[tried % 3]
        mutant = mutated(text, chance)
        if mutant == text:
            continue
        tried += 1
        try:
            verify.export(io.StringIO(mutant, newline="\n"), KEYS)
            accepted.append(mutant)
        except verify.Refused:
            pass
    assert not accepted, accepted[0]


def mutated(text: str, chance: random.Random) -> str:
    """A text with one thing changed: a character, a line, two lines, or its end."""
    at, lines = chance.randrange(len(text)), text.splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    drawn = chance.choice('0123456789abcdefABCXYZ+/= \n\\"{}[]:,.-_é')
    match chance.randrange(8):
        case 0:
            return text[:at] + drawn + text[at + 1 :]
        case 1:
            return text[:at] + drawn + text[at:]
        case 2:
            return text[:at] + text[at + 1 :]
        case 3:
            return text[:at] + chr(ord(text[at]) ^ 1 << chance.randrange(7)) + text[at + 1 :]
        case 4:
            lines[one], lines[other] = lines[other], lines[one]
        case 5:
            del lines[one]
        case 6:
            lines.insert(other, lines[one])
        case _:
            return text[:at]
    return "".join(lines)


async def test_a_receipt_proves_one_event_alone(db: Database) -> None:
    events = await put(db, *([ACME, GLOBEX] * 150))
    await integrate(db, signers)
    for at in (0, 1, 255, 256, 299):
        event = events[at]
        whose = Scope.of(OrganizationId(event.organization))
        text = (await receipts.of_event(db, whose, event.id, personal=False)).decode()
        proven = verify.receipt(text, KEYS)
        assert (proven.index, proven.core["id"], proven.personal) == (at, event.id, None)
        whole = verify.receipt((await receipts.of_event(db, whose, event.id, personal=True)).decode(), KEYS)
        assert whole.personal is not None
        assert (whole.entry, whole.personal["note"]) == (proven.entry, event.note)
        with pytest.raises(NotFound):
            await receipts.of_event(
                db, Scope.of(GLOBEX if event.organization == ACME else ACME), event.id, personal=False
            )


async def test_a_receipt_waits_for_the_log(db: Database) -> None:
    (event,) = await put(db, ACME)
    with pytest.raises(receipts.NotYet, match="takes events in every second"):
        await receipts.of_event(db, EVERY_TENANT, event.id, personal=False)
    await integrate(db, signers)
    assert await receipts.of_event(db, EVERY_TENANT, event.id, personal=False)
