"""An echoed key is masked in every usual form of it, however the stream is cut."""

from __future__ import annotations

import base64
import html
import itertools
import json
import random
import re
import sys
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from broker.base.spellings import Spellings
from broker.base.stretches import Stretches
from broker.proxy.redact import Redactor
from tests.proxy.conftest import Bench
from tests.support.lab import KEY, answer
from tests.support.spelling import spelled


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
    "percent, lower case, every byte": lambda key: "".join(f"%{byte:02x}" for byte in key).encode(),
    "JSON, every byte, capitals": lambda key: "".join(f"\\u{byte:04X}" for byte in key).encode(),
    "JavaScript, every byte": lambda key: "".join(f"\\x{byte:02x}" for byte in key).encode(),
    "HTML, decimal": lambda key: "".join(f"&#{byte};" for byte in key).encode(),
    "HTML, hexadecimal": lambda key: "".join(f"&#x{byte:x};" for byte in key).encode(),
    "hex": lambda key: key.hex().encode(),
    "HEX": lambda key: key.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64, after one byte": lambda key: base64.b64encode(b"x" + key),
    "Basic": lambda key: base64.b64encode(b"ab" + key + b":secret"),
    "base64url": lambda key: base64.urlsafe_b64encode(b"abc" + key + b"tail"),
}
TELLING = "rc_live_" + "~?>o\x7f" * 8  # its base64 has both + and /
KEYS = [KEY, "rc_live_" + "Zz9" * 21 + "q", 'k"/\\&<~+=' * 4, TELLING]
# What escapes look like, in keys themselves too, and keys that go on as they began.
ODD_KEYS = ["lab_AAAAAAAA+BBBB/CCCC=DDDD~EEEE1111", "%41\\u0041&amp;%25\\\\x", "41abcdef+u0041&", "aaaaaaaaaaaaaab+a"]
AROUND = st.one_of(st.binary(max_size=12), st.text("%\\&#x0u25C;al", max_size=8).map(str.encode))


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


def test_the_key_tells_the_two_alphabets_apart() -> None:
    after_three = b"abc" + TELLING.encode()
    assert base64.urlsafe_b64encode(after_three) != base64.b64encode(after_three)


@pytest.mark.parametrize("key", [*KEYS[:3], *ODD_KEYS])
@given(drawn=st.data(), places=st.lists(st.integers(0, 2_000), max_size=8), before=AROUND, after=AROUND)
def test_no_mixture_of_escapes_passes_however_the_stream_is_cut(
    key: str, drawn: st.DataObject, places: list[int], before: bytes, after: bytes
) -> None:
    form = drawn.draw(spelled(key, after))
    redactor = Redactor(key.encode())
    passed = through(redactor, cut(before + form + after, places))
    assert len(passed) == len(before + form + after)
    assert set(passed[len(before) : len(before + form)]) == set(b"*")
    assert redactor.found


@pytest.mark.parametrize("name", ["base64", "base64url", "hex"])
@settings(max_examples=25)
@given(drawn=st.data(), places=st.lists(st.integers(0, 2_000), max_size=8))
def test_an_encoded_key_may_be_escaped_as_well(name: str, drawn: st.DataObject, places: list[int]) -> None:
    encoded = ENCODINGS[name](TELLING.encode()).decode()
    before, core, after = encoded[:8].encode(), encoded[8:-8], encoded[-8:].encode()
    form = drawn.draw(spelled(core, after))
    redactor = Redactor(TELLING.encode())
    passed = through(redactor, cut(before + form + after, places))
    assert set(passed[len(before) : -len(after)]) == set(b"*")
    assert redactor.found


ESCAPED = {
    "System.Text.Json": r"lab_AAAAAAAA\u002BBBBB/CCCC=DDDD~EEEE1111",
    "Gson": r"lab_AAAAAAAA+BBBB/CCCC\u003dDDDD~EEEE1111",
    "URLEncoder": "lab_AAAAAAAA%2BBBBB%2FCCCC%3DDDDD%7EEEEE1111",
    "encodeURI": "lab_AAAAAAAA+BBBB/CCCC=DDDD%7eEEEE1111",
    "html/template": "lab_AAAAAAAA&#43;BBBB/CCCC=DDDD~EEEE1111",
    "Handlebars": "lab_AAAAAAAA+BBBB/CCCC&#x3D;DDDD~EEEE1111",
    "HtmlEncoder": "lab_AAAAAAAA&#x2B;BBBB/CCCC=DDDD~EEEE1111",
    "HTML in Go's JSON": r"lab_AAAAAAAA\u0026#43;BBBB/CCCC=DDDD~EEEE1111",
    "named": "lab&lowbar;AAAAAAAA&plus;BBBB&sol;CCCC&equals;DDDD~EEEE1111",
    "PHP, in a form": "lab_AAAAAAAA%2BBBBB%5C%2FCCCC%3DDDDD~EEEE1111",
    "JSON in JSON": r"lab_AAAAAAAA\\u002BBBBB\\\/CCCC=DDDD~EEEE1111",
    "percent twice": "lab%255FAAAAAAAA%252BBBBB%252FCCCC%253DDDDD~EEEE1111",
    "Markdown": r"lab\_AAAAAAAA\+BBBB/CCCC=DDDD\~EEEE1111",
}


@pytest.mark.parametrize("writer", ESCAPED)
def test_keys_are_masked_as_these_write_them(writer: str) -> None:
    form = ESCAPED[writer].encode()
    assert through(Redactor(ODD_KEYS[0].encode()), [b'"' + form + b'"']) == b'"' + b"*" * len(form) + b'"'


SIGNS = {
    "\\": ["\\" * 2, "\\" * 4, "\\" * 8, "%5C", r"\u005c"],
    "%": ["%25", "%2525", "%252525", r"\u0025", "&percnt;"],
    "&": ["&amp;", "&amp;amp;", "%26", r"\u0026", r"\x26"],
}


@pytest.mark.parametrize(("sign", "written"), [(sign, one) for sign, many in SIGNS.items() for one in many])
def test_the_signs_of_escapes_may_be_escaped_in_a_key_again_and_again(sign: str, written: str) -> None:
    redactor = Redactor(f"key{sign}#43;l{sign}u0430m{sign}41".encode())
    form = f"key{written}#43;l{written}u0430m{written}41".encode()
    assert through(redactor, [b"[" + form + b"]"]) == b"[" + b"*" * len(form) + b"]"


@given(data=st.binary(max_size=600), places=st.lists(st.integers(0, 600), max_size=8))
def test_everything_else_passes_unchanged(data: bytes, places: list[int]) -> None:
    redactor = Redactor(KEY.encode())
    assert through(redactor, cut(data, places)) == data
    assert not redactor.found


@given(
    data=st.text("%\\&#x0u25C;abl_ntpus", max_size=400).map(str.encode),
    places=st.lists(st.integers(0, 600), max_size=8),
)
def test_escapes_of_everything_else_pass_unchanged(data: bytes, places: list[int]) -> None:
    redactor = Redactor(KEY.encode())
    assert through(redactor, cut(data, places)) == data
    assert not redactor.found


@pytest.mark.parametrize("event", [b"data: lab\n\n", b'{"id": "lab_"}\n', b"tail of no key"])
def test_only_what_could_be_a_key_is_held_back(event: bytes) -> None:
    assert Redactor(KEY.encode()).feed(event) == event
    redactor = Redactor(KEY.encode())
    assert redactor.feed(b"see lab_aB3") == b"see "
    assert redactor.feed(b"!") == b"lab_aB3!"
    assert redactor.feed(rb"a\u006cab\u") == b"a"
    assert redactor.feed(b"0430!") == rb"\u006cab\u0430!"
    whole = KEY.replace("/", "%2F").encode()
    assert redactor.feed(whole) == b"*" * len(whole)


HOSTILE = {
    "the key's beginning, escaped": "".join(f"\\u{byte:04x}" for byte in KEY[:-1].encode()),
    "the key's beginning": KEY[:-1],
    "percent": "%6c%61",
    "references": "&#108;&#00097;",
    "quoted backslashes": "\\" * 64,
    "quoted, then cut": "\\" * 15 + "u00",
    "ampersands": "&amp;" * 3,
    "one letter": "aaaa%61",
}


@pytest.mark.parametrize("key", [KEY, "a" * 64 + "+"])
@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_held_back_is_bounded_whatever_comes(name: str, key: str) -> None:
    redactor, most = Redactor(key.encode()), Spellings(key.encode()).longest
    text = HOSTILE[name].encode() * most
    came = passed = 0
    for at in range(0, 2 * most, 97):
        came += len(text[at : at + 97])
        passed += len(redactor.feed(text[at : at + 97]))
        assert came - passed <= most
    assert passed + len(redactor.flush()) == came


@pytest.mark.parametrize("size", [4_096, 3])
@pytest.mark.parametrize("key", [KEY, "a" * 64 + "+"])
@pytest.mark.parametrize("name", HOSTILE)
def test_work_grows_as_the_text_does_whatever_comes(name: str, key: str, size: int) -> None:
    text = HOSTILE[name].encode() * 8_000

    def fed(length: int) -> int:
        return work(key, cut(text[:length], list(range(0, length, size))))

    fed(1_000)  # what is remembered of escapes is there
    less = fed(8_192)
    assert less <= 8_192 * 300
    assert fed(16_384) <= 2.5 * less + 1_000  # those of the collector of garbage are counted too


def work(key: str, chunks: list[bytes], *, setting_up: bool = False) -> int:
    """How many functions are called."""
    redactor, calls = Redactor(key.encode()), 0

    def count(_frame: object, _event: str, _argument: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        if setting_up:
            redactor = Redactor(key.encode())
        for chunk in chunks:
            redactor.feed(chunk)
    finally:
        sys.setprofile(None)
    return calls


def test_no_table_of_the_key_is_made_for_a_text_without_escapes() -> None:
    text = json.dumps([{"id": f"fac_{number:04d}", "name": "Riverside Substation"} for number in range(20)])
    assert work(KEY, [text.encode()], setting_up=True) < 150


def test_binary_data_is_not_followed_sign_by_sign() -> None:
    data = random.Random(5).randbytes(1 << 16)
    assert sum(data.count(sign) for sign in b"%\\&") > 700
    assert work(KEY, [data]) < 500


@settings(max_examples=50)
@given(
    drawn=st.data(),
    seed=st.integers(0, 1_000),
    before=st.integers(0, 3_000),
    after=st.integers(0, 3_000),
    places=st.lists(st.integers(0, 8_000), max_size=3),
)
def test_no_mixture_of_escapes_passes_within_binary_data(
    drawn: st.DataObject, seed: int, before: int, after: int, places: list[int]
) -> None:
    around = random.Random(seed).randbytes(before + after)
    assume(not around[:before].endswith(b"\\"))  # it would be a part of how the key is spelled
    form = drawn.draw(spelled(KEY, around[before:]) | st.just(KEY.encode()))
    passed = through(Redactor(KEY.encode()), cut(around[:before] + form + around[before:], places))
    assert passed == around[:before] + b"*" * len(form) + around[before:]


@pytest.mark.parametrize("seed", range(3))
def test_a_backslash_in_binary_data_before_the_key_is_one_of_its_spellings(seed: int) -> None:
    before, after = (random.Random(seed + place).randbytes(250) + b"." for place in (0, 9))
    passed = through(Redactor(KEY.encode()), [before + b"\\" + KEY.encode() + after])
    assert passed == before + b"*" * (1 + len(KEY)) + after


@given(least=st.integers(1, 90), text=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 4)), max_size=12))
def test_every_stretch_is_found(least: int, text: list[tuple[int, int]]) -> None:
    drawn = b"".join(b"a" * some + b"." * others for some, others in text)
    found = Stretches(b"a", least).of(drawn)
    assert list(found) == sorted(found)
    for run in re.finditer(b"a+", drawn):
        if len(run[0]) >= least or run.end() == len(drawn):
            assert any(begin <= run.start() and run.end() <= end for begin, end in found)


def test_a_chunk_of_escapes_is_read_in_pieces_so_that_others_have_their_turn() -> None:
    text, escapes = b"x" * 100_000, b"%41" * 30_000
    assert len(list(Redactor(KEY.encode()).parts(text))) == 1
    redactor = Redactor(KEY.encode())
    parts = list(redactor.parts(escapes))
    assert b"".join(parts) + redactor.flush() == escapes
    assert len(parts) > 10


def test_half_a_key_at_the_end_is_masked_and_its_public_prefix_is_not() -> None:
    redactor = Redactor(KEY.encode())
    assert through(redactor, [b"key: " + KEY[:40].encode()]) == b"key: " + b"*" * 40
    assert through(Redactor(KEY.encode()), [b"keys begin with lab_"]) == b"keys begin with lab_"
    escaped = KEY[:40].replace("/", "%2F").encode()
    for tail in (b"", b"%", b"%2"):
        assert through(Redactor(KEY.encode()), [b"key: " + escaped + tail]) == b"key: " + b"*" * len(escaped + tail)


async def test_an_upstream_that_echoes_the_key_shows_the_job_none_of_it(bench: Bench) -> None:
    echoed = b" ".join(ENCODINGS[name](KEY.encode()) for name in ENCODINGS)
    bench.lab.scripts["/debug"] = answer(
        echoed, f"X-Echo: {KEY}", f"Location: /base/y?key={KEY}", f"ETag: {KEY}", f"X-{KEY.replace('/', '%2F')}: 1"
    )
    got = await bench.call(await bench.lease(), "/debug")
    assert got.status_code == 200
    assert len(got.content) == len(echoed)
    assert KEY not in got.text + str(got.headers)
    assert KEY[:20] not in got.text + str(got.headers)
    completed = (await bench.world.events(kind="use.completed"))[-1]
    assert completed["core"]["reason"] == "key_echoed"


async def test_an_answer_that_ends_like_a_key_begins_arrives_whole(bench: Bench) -> None:
    for body in (b"keys begin with " + KEY[:4].encode(), b"100%", rb"a \u"):
        bench.lab.scripts["/x"] = answer(body)
        assert (await bench.call(await bench.lease(), "/x")).content == body
