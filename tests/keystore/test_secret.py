"""A secret comes out where it is asked for by name, and nowhere else."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import pprint
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker.base.secret import Secret

TEXT = "rc_live_canary"
SECRET = Secret(TEXT)


@dataclass
class Holder:
    """Something with a secret in it."""

    name: str
    key: Secret


HOLDER = Holder("a", SECRET)


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r}",
        lambda secret: f"{secret!s:>40}",
        lambda secret: f"{secret:>40}",
        lambda secret: format(secret, "x"),
        "{0} {0!r}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the spelling is what is tested
        lambda secret: str([secret, {"key": secret}, (secret,)]),
        lambda secret: pprint.pformat({"key": [secret]}),
        lambda secret: repr(Holder("a", secret)),
        lambda secret: repr(asdict(Holder("a", secret))),
        lambda secret: str(ValueError("no", secret)),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: structlog.dev.ConsoleRenderer(colors=False)(None, "info", {"event": "e", "key": secret}),
        lambda secret: structlog.processors.JSONRenderer()(None, "info", {"event": "e", "key": secret}),
        lambda secret: repr(copy.copy(secret)) + repr(copy.deepcopy([secret])),
    ],
)
def test_a_secret_never_prints(show: Callable[[Secret], Any]) -> None:
    shown = str(show(SECRET))
    assert TEXT not in shown
    assert "canary" not in shown
    assert "Secret(…)" in shown or "\\u2026" in shown


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        pickle.dumps,
        lambda secret: pickle.dumps([secret], protocol=0),
        lambda secret: pickle.dumps(Holder("a", secret)),
        msgspec.json.encode,
        msgspec.msgpack.encode,
        bytes,
        vars,
        iter,
        len,
        lambda secret: secret[0],
        lambda secret: secret + "",
        lambda secret: secret in "rc_live",
        lambda secret: "".join([secret]),
    ],
)
def test_a_secret_is_refused_where_it_would_be_written(write: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError) as caught:
        write(SECRET)
    assert "canary" not in "".join(traceback.format_exception(caught.value))


def test_a_secret_does_not_reach_a_log(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("test")
    with caplog.at_level(logging.DEBUG):
        log.error("key %s %r", SECRET, SECRET)
        log.error("holder %s", HOLDER)
        log.error(SECRET)
        log.error("extra", extra={"key": SECRET})
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("failed")
    assert len(caplog.records) == 5
    assert "Secret(…)" in caplog.text
    assert "canary" not in caplog.text + "".join(str(vars(record)) for record in caplog.records)


@pytest.mark.parametrize("put", [hash, lambda secret: {secret}, lambda secret: {secret: 1}])
def test_a_secret_is_not_hashable(put: Callable[[Secret], Any]) -> None:
    with pytest.raises(TypeError, match="not hashable"):
        put(SECRET)


def test_a_secret_has_no_further_attributes() -> None:
    with pytest.raises(AttributeError):
        SECRET.note = "x"  # type: ignore[attr-defined]  # that is the test


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_secrets_are_equal_where_their_bytes_are(one: bytes, other: bytes) -> None:
    assert (Secret(one) == Secret(other)) == (one == other)
    assert (Secret(one) != Secret(other)) == (one != other)


def test_a_secret_equals_nothing_that_is_no_secret() -> None:
    secret = Secret(TEXT)
    assert secret == Secret(TEXT.encode())
    for other in (TEXT, TEXT.encode(), None, 1, object()):
        assert secret != other
        assert other != secret


@given(st.text())
def test_reveal_gives_back_what_was_put_in(text: str) -> None:
    assert Secret(text).reveal() == text.encode()
    assert Secret(text).reveal_text() == text


def test_bytes_that_are_no_text_are_revealed_as_bytes_only() -> None:
    assert Secret(b"\xff").reveal() == b"\xff"
    with pytest.raises(ValueError, match="not text"):
        Secret(b"\xff").reveal_text()


def test_the_error_of_a_secret_that_is_no_text_does_not_print_it() -> None:
    with pytest.raises(ValueError, match="not text") as caught:
        Secret(b"canary\xff").reveal_text()
    assert "canary" not in repr(caught.value)


def test_a_copy_is_the_secret_itself() -> None:
    assert copy.copy(SECRET) is SECRET
    assert copy.deepcopy(HOLDER).key is SECRET
