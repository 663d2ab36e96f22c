"""Each form tells every kind of event, as its schema has it, with what proves the event; no text breaks out of it."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from broker.audit.events import KINDS, Actor, AuditTarget, Outcome
from broker.formats.audit_event import entry_of
from broker.siem import cef, ecs, ocsf
from broker.siem.kinds import ACTIVITIES, MEANINGS, OTHER, Class, meaning
from tests.siem.events import MARK, SOURCE, every, least, told, whole
from tests.support.ids import nth

SCHEMA = json.loads((Path(__file__).parents[1] / "vectors" / "ocsf" / "1.8.0.json").read_text())
VALID = jsonschema_rs.Draft202012Validator(SCHEMA)


def test_every_kind_of_the_catalogue_has_a_meaning_and_no_other_has() -> None:
    assert MEANINGS.keys() == KINDS.keys()
    for kind, what in MEANINGS.items():
        assert what.activity in {*ACTIVITIES[what.of], OTHER}, kind
        assert 1 <= what.severity <= 5, kind


def test_a_kind_of_a_later_version_is_told_all_the_same() -> None:
    assert meaning("later.kind", "GET") == (Class.ENTITY_MANAGEMENT, OTHER, 1)


# OCSF


def test_every_event_is_valid_ocsf() -> None:
    for one in every():
        made = json.loads(ocsf.event(one, SOURCE))
        VALID.validate(made)
        assert made["type_uid"] == made["class_uid"] * 100 + made["activity_id"]
        assert made["metadata"]["event_code"] == one.kind
    VALID.validate(json.loads(ocsf.mark(MARK, SOURCE)))


def test_the_schema_refuses_what_is_no_ocsf() -> None:
    """So the test above shows something."""
    good = json.loads(ocsf.event(told(whole("use.completed")), SOURCE))
    for path, value in (
        (("actor",), None),
        (("src_endpoint",), {"svc_name": 1}),
        (("src_endpoint",), {}),
        (("activity_id",), 77),
        (("class_uid",), 3001),
        (("actor", "user"), {"type_id": 1}),
        (("metadata", "version"), None),
        (("no_attribute",), "x"),
        (("time",), "2026-11-25"),
    ):
        bad = copy.deepcopy(good)
        inner = bad
        for name in path[:-1]:
            inner = inner[name]
        if value is None:
            del inner[path[-1]]
        else:
            inner[path[-1]] = value
        assert not VALID.is_valid(bad), path


def test_an_event_of_each_class_has_what_the_class_is_about() -> None:
    def of(kind: str, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = json.loads(ocsf.event(told(whole(kind, **more)), SOURCE))
        return made

    use = of("use.completed", target=AuditTarget("api.raptormaps.com", "DELETE", "/facilities/1"))
    assert (use["class_uid"], use["activity_name"], use["duration"]) == (6003, "Delete", 35)
    assert use["api"]["operation"] == "DELETE /facilities/1"
    assert use["resources"] == [{"uid": nth("crd"), "type": "Credential", "version": "2"}]
    assert (use["src_endpoint"], use["dst_endpoint"]) == ({"ip": "192.0.2.7"}, {"hostname": "api.raptormaps.com"})
    denied = of("use.denied")
    assert (denied["action_id"], denied["disposition_id"], denied["status_id"]) == (2, 2, 2)
    assert denied["status_detail"] == "grant_expired"
    login = of("auth.token_issued")
    assert (login["class_uid"], login["user"]["uid"], login["status_id"]) == (3002, nth("wkl"), 1)
    assert of("auth.token_refused")["status_id"] == 2
    grant = of("grant.created")
    assert (grant["class_uid"], grant["privileges"], grant["user"]["uid"]) == (3003, ["use raptor-comply"], nth("wkl"))
    assert of("workload.created")["class_uid"] == 3001
    key = of("credential.version.activated")
    assert (key["class_uid"], key["activity_name"], key["entity"]["uid"]) == (3004, "Activate", nth("crd"))
    assert of("use.completed", outcome=Outcome(None, 5))["status_id"] == 2


def test_what_a_siem_keeps_of_an_event_proves_it() -> None:
    """The exact core bytes, their salt, and the personal part's commitment give the entry that the log has."""
    for one in every():
        for made in (json.loads(ocsf.event(one, SOURCE)), json.loads(ecs.event(one, SOURCE))):
            raw = made["raw_data"] if "raw_data" in made else made["event"]["original"]
            proof = (made["unmapped"] if "unmapped" in made else made["keybroker"])["audit"]
            assert entry_from(raw, proof["salt_core"], proof["personal_commitment"]) == proof["commitment"]
        fields = extension(cef.event(one, SOURCE).decode())
        assert entry_from(fields["cs6"], fields["cs4"], fields["cs5"]) == fields["cs1"]


def entry_from(core: str, salt_core: str, personal_commitment: str) -> str:
    import hashlib

    cc = hashlib.sha256(b"auditcore/v1\0" + base64.b64decode(salt_core) + core.encode()).digest()
    cp = base64.b64decode(personal_commitment)
    return base64.b64encode(hashlib.sha256(b"auditentry/v1\0" + cc + cp).digest()).decode()


def test_the_commitment_is_the_one_of_the_record() -> None:
    one = told(whole("use.completed"))
    personal = json.dumps(one.personal, separators=(",", ":")).encode()
    assert one.entry == entry_of(one.core_bytes, one.salt_core, personal, bytes(range(32, 64)))


# ECS

CATEGORIES = {"api", "authentication", "configuration", "iam"}
TYPES = {"access", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start"}


def test_every_event_has_the_sets_of_ecs() -> None:
    for one in every():
        made = json.loads(ecs.event(one, SOURCE))
        assert set(made["event"]["category"]) <= CATEGORIES
        assert set(made["event"]["type"]) <= TYPES
        assert made["event"]["outcome"] in {"success", "failure"}
        assert (made["event"]["kind"], made["event"]["action"]) == ("event", one.kind)
        assert (made["event"]["id"], made["event"]["sequence"]) == (one.core["id"], one.index)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["@timestamp"])


def test_a_use_in_ecs() -> None:
    made = json.loads(ecs.event(told(whole("use.completed")), SOURCE))
    assert made["event"]["type"] == ["access", "allowed"]
    assert made["event"]["duration"] == 35_000_000
    assert made["user"] == {"id": nth("wkl"), "name": "nightly-sync"}
    assert made["organization"] == {"id": nth("org")}
    assert made["source"] == {"address": "192.0.2.7", "ip": "192.0.2.7"}
    assert made["url"] == {"domain": "api.raptormaps.com", "path": "/facilities"}
    assert made["http"] == {"request": {"method": "GET", "id": nth("req")}, "response": {"status_code": 200}}


# CEF


def header(line: str) -> list[str]:
    return [re.sub(r"\\([\\|])", r"\1", part) for part in re.split(r"(?<!\\)\|", line, maxsplit=7)]


def extension(line: str) -> dict[str, str]:
    """As a receiver reads it: a field begins with its name and an unescaped equals sign."""
    text = re.split(r"(?<!\\)\|", line, maxsplit=7)[7]
    found = {}
    starts = [*re.finditer(r"(?:^| )([A-Za-z0-9]+)=", text)]
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        value = text[start.end() : following.start() if following else None]
        assert start[1] not in found, f"{start[1]} twice: {line}"
        found[start[1]] = re.sub(r"\\(.)", lambda it: "\n" if it[1] == "n" else it[1], value)
    return found


def test_every_event_is_one_line_of_cef() -> None:
    for one in every():
        line = cef.event(one, SOURCE).decode()
        assert "\n" not in line
        parts = header(line)
        assert parts[:5] == ["CEF:0", "Keybroker", "Keybroker", "0.1.0", one.kind]
        assert parts[5] == KINDS[one.kind]
        assert 0 <= int(parts[6]) <= 10
        fields = extension(line)
        assert (fields["externalId"], fields["cn1"], fields["cn1Label"]) == (one.core["id"], "7", "logIndex")
        assert fields["cs6"] == one.core_bytes.decode()


EVIL = "x\nCEF:0|a|b=c src=6.6.6.6 \\| act=allowed\r\x1b[31m\u202e\x00 \\n cs1=forged"


def test_no_text_from_outside_ends_a_line_or_begins_a_field() -> None:
    one = told(
        whole(
            "use.denied",
            actor=Actor("workload", nth("wkl"), EVIL, "192.0.2.7", EVIL),
            target=AuditTarget("api.raptormaps.com", "GET", EVIL),
            note=EVIL,
        )
    )
    line = cef.event(one, SOURCE).decode()
    assert line.isprintable()
    fields = extension(line)
    assert (fields["src"], fields["act"]) == ("192.0.2.7", "denied")
    assert fields["cs1"] == one.proof()["commitment"]
    for name in ("suser", "requestClientApplication", "request", "msg"):
        assert "src=6.6.6.6" in fields[name]
    for made in (ocsf.event(one, SOURCE), ecs.event(one, SOURCE)):
        assert b"\n" not in made


def test_a_value_is_escaped_as_the_format_says() -> None:
    one = told(whole("use.completed", note="a=b\\c|d"))
    assert r"msg=a\=b\\c|d " in cef.event(one, SOURCE).decode()
    assert extension(cef.event(one, SOURCE).decode())["msg"] == "a=b\\c|d"


# Checkpoints


def test_a_checkpoint_is_told_with_its_note_as_it_is() -> None:
    note = MARK.note.decode()
    made = json.loads(ocsf.mark(MARK, SOURCE))
    assert (made["raw_data"], made["unmapped"]["audit"]["size"]) == (note, 7)
    assert made["metadata"]["event_code"] == "audit.checkpoint"
    elastic = json.loads(ecs.mark(MARK, SOURCE))
    assert (elastic["event"]["original"], elastic["keybroker"]["audit"]["size"]) == (note, 7)
    line = cef.mark(MARK, SOURCE).decode()
    assert "\n" not in line
    assert (extension(line)["cs6"], extension(line)["cn1"]) == (note, "7")


@pytest.mark.parametrize("form", [ocsf, ecs, cef])
def test_the_least_that_an_event_may_have_is_told(form: Any) -> None:
    for kind in KINDS:
        assert kind.encode() in form.event(told(least(kind)), SOURCE)
