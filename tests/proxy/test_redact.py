"""An echoed key is masked in every usual form of it, however the stream is cut."""

from __future__ import annotations

import base64
import html
import itertools
import json
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.proxy.redact import Redactor
from tests.proxy.conftest import Bench
from tests.support.lab import KEY, answer


def _lower_escapes(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])


Encode = Callable[[bytes], bytes]
ENCODINGS: dict[str, Encode] = {
    "raw": lambda key: key,
    "percent": lambda key: urllib.parse.quote(key, safe="").encode(),
    "percent, lower case": lambda key: _lower_escapes(urllib.parse.quote(key, safe="")).encode(),
    "percent, every byte": lambda key: "".join(f"%{byte:02X}" for byte in key).encode(),
    "JSON": lambda key: json.dumps(key.decode())[1:-1].encode(),
    "JSON, slashes": lambda key: json.dumps(key.decode())[1:-1].replace("/", "\\/").encode(),
    "JSON, every byte": lambda key: "".join(f"\\u{byte:04x}" for byte in key).encode(),
    "HTML": lambda key: html.escape(key.decode()).encode(),
    "hex": lambda key: key.hex().encode(),
    "base64": base64.b64encode,
    "base64, after one byte": lambda key: base64.b64encode(b"x" + key),
    "Basic": lambda key: base64.b64encode(b"ab" + key + b":secret"),
    "base64url": lambda key: base64.urlsafe_b64encode(b"abc" + key + b"tail"),
}
KEYS = [KEY, "rc_live_" + "Zz9" * 21 + "q", 'k"/\\&<~+=' * 4]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def through(redactor: Redactor, chunks: list[bytes]) -> bytes:
    return b"".join(redactor.feed(chunk) for chunk in chunks) + redactor.flush()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("name", ENCODINGS)
@given(places=st.lists(st.integers(0, 2_000), max_size=8), before=st.binary(max_size=40), after=st.binary(max_size=40))
def test_no_form_of_the_key_passes_however_the_stream_is_cut(
    name: str, key: str, places: list[int], before: bytes, after: bytes
) -> None:
    form = ENCODINGS[name](key.encode())
    data = before + form + after
    redactor = Redactor(key.encode())
    passed = through(redactor, cut(data, places))
    assert len(passed) == len(data), "masked byte for byte: lengths stay true"
    core = form[4:-4] if "64" in name or name == "Basic" else form
    assert core not in passed
    assert redactor.found


@given(data=st.binary(max_size=600), places=st.lists(st.integers(0, 600), max_size=8))
def test_everything_else_passes_unchanged(data: bytes, places: list[int]) -> None:
    redactor = Redactor(KEY.encode())
    assert through(redactor, cut(data, places)) == data
    assert not redactor.found


@pytest.mark.parametrize("event", [b"data: lab\n\n", b'{"id": "lab_"}\n', b"tail of no key"])
def test_only_what_could_be_a_key_is_held_back(event: bytes) -> None:
    assert Redactor(KEY.encode()).feed(event) == event
    redactor = Redactor(KEY.encode())
    assert redactor.feed(b"see lab_aB3") == b"see "
    assert redactor.feed(b"!") == b"lab_aB3!"


def test_half_a_key_at_the_end_is_masked_and_its_public_prefix_is_not() -> None:
    redactor = Redactor(KEY.encode())
    assert through(redactor, [b"key: " + KEY[:40].encode()]) == b"key: " + b"*" * 40
    assert through(Redactor(KEY.encode()), [b"keys begin with lab_"]) == b"keys begin with lab_"


async def test_an_upstream_that_echoes_the_key_shows_the_job_none_of_it(bench: Bench) -> None:
    echoed = b" ".join(ENCODINGS[name](KEY.encode()) for name in ENCODINGS)
    bench.lab.scripts["/debug"] = answer(echoed, f"X-Echo: {KEY}", f"Location: /base/y?key={KEY}", f"ETag: {KEY}")
    got = await bench.call(await bench.lease(), "/debug")
    assert got.status_code == 200
    assert len(got.content) == len(echoed)
    assert KEY not in got.text + str(got.headers)
    assert KEY[:20] not in got.text + str(got.headers)
    completed = (await bench.world.events(kind="use.completed"))[-1]
    assert completed["core"]["reason"] == "key_echoed"
