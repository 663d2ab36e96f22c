"""The bytes of an audit event are RFC 8785's, and the commitment covers all of them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.audit_event import (
    LARGEST,
    MAX_BYTES,
    ActorCore,
    Committed,
    Core,
    NotCanonical,
    OutcomeCore,
    Personal,
    TargetCore,
    commit,
    encode,
    entry_of,
)

NUMBERS = st.integers(0, LARGEST)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PARTS = (ActorCore, OutcomeCore, TargetCore, Core, Personal)


def some(fields: tuple[str, ...], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of these fields, each with one of the values."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(fields, values))


OUTCOMES = st.builds(OutcomeCore, NUMBERS, NUMBERS, NUMBERS, st.none() | NUMBERS)
TARGETS = st.builds(TargetCore, WORDS, WORDS, st.lists(WORDS, max_size=3).map(tuple))
ALWAYS = {"id", "kind", "decision", "time", "v", "actor"}
NUMBERED = {"version"}
CORES = st.builds(
    lambda actor, words, numbers, more: Core(actor=actor, **words, **numbers, **more),
    st.builds(ActorCore, WORDS, WORDS),
    st.fixed_dictionaries(dict.fromkeys(("id", "kind", "decision"), WORDS)).flatmap(
        lambda given: some(
            tuple(set(Core.__struct_fields__) - ALWAYS - NUMBERED - {"outcome", "target"}), WORDS.filter(bool)
        ).map(lambda more: given | more)
    ),
    st.fixed_dictionaries({"time": NUMBERS, "v": NUMBERS}, optional={"version": NUMBERS}),
    st.fixed_dictionaries({}, optional={"outcome": OUTCOMES, "target": TARGETS}),
)
PERSONAL = some(Personal.__struct_fields__, WORDS).map(lambda texts: Personal(**texts))


def document(part: Core | Personal) -> Mapping[str, Any]:
    """What a part says, without what it leaves out; of a core, some fields are always there."""
    always = ALWAYS if isinstance(part, Core) else set()
    said: dict[str, Any] = json.loads(json.dumps(msgspec.to_builtins(part)))
    return {name: value for name, value in said.items() if name in always or value}


@given(CORES)
def test_the_bytes_of_a_core_are_those_of_rfc_8785(core: Core) -> None:
    assert encode(core) == rfc8785.dumps(document(core))


@given(PERSONAL)
def test_the_bytes_of_a_personal_part_are_those_of_rfc_8785(personal: Personal) -> None:
    assert encode(personal) == rfc8785.dumps(document(personal))


@given(CORES)
def test_the_bytes_read_as_the_same_part(core: Core) -> None:
    assert msgspec.json.decode(encode(core), type=Core) == core
    assert json.loads(encode(core)) == document(core)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_fields_are_declared_in_the_order_of_rfc_8785_with_ascii_names(part: type[msgspec.Struct]) -> None:
    names = part.__struct_encode_fields__
    assert list(names) == sorted(names)
    assert "".join(names).isascii()


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_no_field_can_hold_what_has_no_canonical_form(part: type[msgspec.Struct]) -> None:
    """Numbers are bounded by who builds the part: the audit's Event."""
    held = (msgspec.inspect.StrType, msgspec.inspect.IntType, msgspec.inspect.NoneType, msgspec.inspect.StructType)

    def of(kind: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
        if isinstance(kind, msgspec.inspect.UnionType):
            return [one for each in kind.types for one in of(each)]
        if isinstance(kind, msgspec.inspect.VarTupleType):
            return of(kind.item_type)
        return [kind]

    info = msgspec.inspect.type_info(part)
    assert isinstance(info, msgspec.inspect.StructType)
    assert all(isinstance(one, held) for field in info.fields for one in of(field.type))


def test_half_a_surrogate_pair_has_no_canonical_form() -> None:
    with pytest.raises(NotCanonical, match="surrogate"):
        encode(Personal(note="\ud800"))


def test_a_part_of_exactly_the_cap_is_the_largest() -> None:
    most = "x" * (MAX_BYTES - len(b'{"note":""}'))
    assert len(encode(Personal(note=most))) == MAX_BYTES
    with pytest.raises(NotCanonical, match="capped"):
        encode(Personal(note=most + "x"))


@given(CORES, PERSONAL, st.binary(min_size=64, max_size=64))
def test_the_entry_follows_from_what_is_stored(core: Core, personal: Personal, salts: bytes) -> None:
    made = commit(core, personal, salts)
    assert (made.core, made.personal) == (encode(core), encode(personal))
    assert made.salt_core + made.salt_personal == salts
    assert made.entry == entry_of(made.core, made.salt_core, made.personal, made.salt_personal)
    assert commit(core, personal, salts) == made


def salts_of(made: Committed) -> set[bytes]:
    """Both of one event."""
    return {made.salt_core, made.salt_personal}


def test_fresh_salts_hide_equal_events_from_each_other() -> None:
    # more than are drawn from the system at once
    made = [commit(CORE, Personal(address="192.0.2.1")) for _ in range(300)]
    assert all(len(one.salt_core) == len(one.salt_personal) == len(one.entry) == 32 for one in made)
    assert len({one.entry for one in made}) == 300
    assert len(set.union(*map(salts_of, made))) == 600


def test_a_process_that_was_forked_does_not_use_its_parents_salts() -> None:
    commit(CORE, Personal())  # more are drawn than were needed
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, b"".join(salts_of(commit(CORE, Personal()))))
        os._exit(0)
    os.waitpid(child, 0)
    drawn = os.read(reading, 64)
    os.close(reading)
    os.close(writing)
    ours = set.union(*(salts_of(commit(CORE, Personal())) for _ in range(300)))
    assert ours.isdisjoint({drawn[:32], drawn[32:]})


def changed(made: Committed) -> list[bytes]:
    """The entries of everything that differs from ``made`` in one bit of one part."""
    parts = (made.core, made.salt_core, made.personal, made.salt_personal)
    entries = []
    for place, part in enumerate(parts):
        flipped = [*parts]
        flipped[place] = bytes((part[0] ^ 1,)) + part[1:]
        entries.append(entry_of(*flipped))
    return entries


@given(CORES, PERSONAL)
def test_a_change_to_any_stored_part_changes_the_entry(core: Core, personal: Personal) -> None:
    made = commit(core, personal)
    swapped = entry_of(made.personal, made.salt_personal, made.core, made.salt_core)
    entries = [made.entry, swapped, *changed(made)]
    assert len(set(entries)) == len(entries)


CORE = Core(
    v=3, id="evt_1", time=1, kind="use.denied", actor=ActorCore("broker", "broker"), decision="denied", reason="paused"
)


def test_the_entry_is_that_of_the_specification() -> None:
    made = commit(CORE, Personal(), bytes(range(64)))
    assert made.core == (
        b'{"actor":{"id":"broker","type":"broker"},"decision":"denied","id":"evt_1","kind":"use.denied",'
        b'"reason":"paused","time":1,"v":3}'
    )
    assert made.personal == b"{}"
    assert made.entry.hex() == "52cd4eb23023450bcbabca3ed8734309b9b2c1dd69486ccd9a2cf0bee04e6c82"
