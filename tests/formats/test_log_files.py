"""Files that prove something of the log: the vectors that another implementation is held to, and ours."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from broker.client import verify
from broker.formats import export
from broker.formats.audit_event import Personal, commitment_of, entry_of
from broker.formats.audit_event import encode as encode_part
from broker.formats.export import NoHead, OrganizationHead
from broker.formats.receipt import entry, shown, withheld

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "log.json").read_text())
KEYS = verify.keys(VECTORS["keys"])


def verified(kind: str, text: str) -> object:
    if kind == "receipt":
        return verify.receipt(text, KEYS)
    if kind == "consistency":
        return verify.consistency(VECTORS["saved"], text, KEYS)
    found = verify.export(io.StringIO(text, newline="\n"), KEYS)
    assert (kind == "log") == (not found.organization)
    return found


@pytest.mark.parametrize("vector", VECTORS["accept"], ids=lambda vector: vector["what"])
def test_a_vector_is_verified(vector: dict[str, str]) -> None:
    assert verified(vector["kind"], vector["text"])


@pytest.mark.parametrize("vector", VECTORS["reject"], ids=lambda vector: vector["what"])
def test_another_is_refused(vector: dict[str, str]) -> None:
    assert all(vector["text"] != accepted["text"] for accepted in VECTORS["accept"])
    with pytest.raises(verify.Refused):
        verified(vector["kind"], vector["text"])


def test_what_vectors_say_is_read_as_it_was_meant() -> None:
    by_name = {vector["what"]: vector for vector in VECTORS["accept"]}
    whole = verify.receipt(by_name["receipt of an event with its personal part"]["text"], KEYS)
    assert (whole.index, whole.core["kind"], whole.personal) == (2, "use.authorized", {"note": 'Grüße, "Ada"\t\u2028'})
    between = verify.export(io.StringIO(by_name["export between two heads"]["text"], newline="\n"), KEYS)
    assert (between.events, between.until - between.since, between.checkpoint.size) == (2, 5_000, 11)


@given(st.text(), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_any_text_of_a_person_is_written_as_the_verifier_reads_it(note: str, salt_core: bytes, salt: bytes) -> None:
    try:
        personal = encode_part(Personal(note=note))
    except ValueError:  # half a surrogate pair is in no event
        return
    core = b'{"kind":"use.denied","time":1}'
    made = shown(core, salt_core, personal, salt)
    hidden = withheld(core, salt_core, commitment_of(personal, salt))
    assert entry(made) == entry(hidden) == entry_of(core, salt_core, personal, salt)
    line = export.event(7, made).decode()
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert json.loads(line)["personal"].encode() == personal
    assert line == json.dumps(json.loads(line), ensure_ascii=False, separators=(",", ":")) + "\n"


def test_a_heads_reason_is_read_as_it_was_written() -> None:
    head = OrganizationHead(12, bytes(range(32)), 345)
    assert OrganizationHead.read(head.reason()) == head
    for other in ("", head.reason() + ",", head.reason().replace("12", "012"), head.reason().replace("=345", "=-1")):
        with pytest.raises(NoHead):
            OrganizationHead.read(other)


@pytest.mark.parametrize(
    "text", ["", "x", "name+00000000+AAAA", "name+1+" + base64.b64encode(b"\x04" + bytes(32)).decode()]
)
def test_a_file_without_keys_is_refused(text: str) -> None:
    with pytest.raises(verify.Refused, match="keys"):
        verify.keys(text)


def cosigned(note: str, seed: bytes, time: int) -> str:
    """A checkpoint with the line of a witness, as C2SP tlog-cosignature has it."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    text = note.partition("\n\n")[0] + "\n"
    signed = time.to_bytes(8) + key.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    public = b"\x04" + key.public_key().public_bytes_raw()
    key_id = hashlib.sha256(b"witness.example\n" + public).digest()[:4]
    return f"{note}— witness.example {base64.b64encode(key_id + signed).decode()}\n"


def witness_line(seed: bytes) -> str:
    public = b"\x04" + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    key_id = hashlib.sha256(b"witness.example\n" + public).digest()[:4]
    return f"witness.example+{key_id.hex()}+{base64.b64encode(public).decode()}\n"


def test_a_witness_among_the_keys_is_one_that_has_to_have_cosigned() -> None:
    trusted = verify.keys(VECTORS["keys"] + witness_line(bytes(32)))
    with pytest.raises(verify.Refused, match="has not cosigned"):
        verify.checkpoint(VECTORS["saved"], trusted)
    found = cosigned(VECTORS["saved"], bytes(32), 1_790_000_000)
    assert verify.checkpoint(found, trusted).size == 7
    with pytest.raises(verify.Refused, match="has not cosigned"):
        verify.checkpoint(cosigned(VECTORS["saved"], b"\7" * 32, 1), trusted)
    other = found.replace("\n7\n", "\n8\n")
    with pytest.raises(verify.Refused):
        verify.checkpoint(other, trusted)


def test_a_retired_key_is_good_to_its_size() -> None:
    assert verify.checkpoint(VECTORS["saved"], verify.keys("# good to size 7\n" + VECTORS["keys"])).size == 7
    with pytest.raises(verify.Refused, match="signed no more"):
        verify.checkpoint(VECTORS["saved"], verify.keys("# good to size 6\n" + VECTORS["keys"]))
