"""Checkpoints: the example of C2SP's page, and what is none."""

from __future__ import annotations

import base64
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.formats.checkpoint import Checkpoint, NoCheckpoint
from broker.formats.merkle import Tree

ROOT = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
TEXT = f"example.com/behind-the-sofa\n20852163\n{ROOT}\n"


def test_the_published_example_is_read_and_written() -> None:
    found = Checkpoint.read(TEXT)
    assert found == Checkpoint("example.com/behind-the-sofa", 20_852_163, base64.b64decode(ROOT))
    assert found.text() == TEXT


def test_an_empty_log_has_one() -> None:
    empty = Checkpoint("a", 0, Tree().root())
    assert Checkpoint.read(empty.text()) == empty


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "an extension\n",
        "\n" + TEXT,
        TEXT.replace("20852163", "020852163"),
        TEXT.replace("20852163", "-1"),
        TEXT.replace("20852163", "٣"),
        TEXT.replace("20852163", "9" * 20),
        TEXT.replace("2I=", "2J="),
        TEXT.replace("2I=", "2I"),
        TEXT.replace("2I=", "2I=="),
        TEXT.replace("example.com", "example com"),
        TEXT.replace("example.com", "example+com"),
        TEXT.replace("\n", "\r\n"),
    ],
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(NoCheckpoint):
        Checkpoint.read(text)


@given(st.text())
def test_any_text_can_be_read_or_is_refused(text: str) -> None:
    with suppress(NoCheckpoint):
        assert Checkpoint.read(text).text() == text
