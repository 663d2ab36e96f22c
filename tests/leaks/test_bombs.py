"""Archives that are made to take memory and time: what they may take is counted before it is taken."""

from __future__ import annotations

import bz2
import gzip
import io
import random
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.leaks import inside, sources
from tests.leaks.test_scan import KEY, scan

FORMS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def read(path: Path) -> tuple[list[str], list[str]]:
    """Where something was read, all of it, and why something was not."""
    said: list[str] = []
    places = []
    for source in sources.files(path, lambda _where, why: said.append(why)):
        places.append(source.where)
        try:
            while source.stream.read1(1 << 20):
                pass
        except sources.UNREADABLE as error:
            said.append(sources.said(error))
    return places, said


def zipped(members: dict[str, bytes], form: int = zipfile.ZIP_STORED) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", form) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return packed.getvalue()


def repeated(count: int, *, told: int) -> bytes:
    """A zip of one member that its index names so often; the record at the end says another number."""
    data = zipped({"a": b"x"})
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    index = data[start:end] * count
    return data[:start] + index + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, told, told, len(index), start, 0)


@pytest.mark.parametrize(
    "wrapped", [bytes, gzip.compress, b"#!/bin/sh\n".__add__, lambda data: zipped({"inner.zip": data})]
)
def test_an_index_with_too_many_entries_is_refused_before_anything_is_made_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrapped: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a").write_bytes(wrapped(repeated(100_001, told=1)))
    made: list[str] = []

    class Counted(zipfile.ZipInfo):
        def __init__(self, filename: str, *rest: object) -> None:
            made.append(filename)
            super().__init__(filename, *rest)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(zipfile, "ZipInfo", Counted)
    _, said = read(tmp_path)
    assert said == ["holds too many entries"]
    assert [name for name in made if name != "inner.zip"] == []


def test_members_that_overlap_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(repeated(3, told=3))
    places, said = read(tmp_path)
    assert places == [f"{tmp_path}/a.zip!a"]
    assert said == ["has members that overlap"]


def tarred(members: dict[str, bytes], **options: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, **options) as tar:  # type: ignore[call-overload]  # handed on
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    made: bytes = packed.getvalue()
    return made


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_entries_are_counted_through_all_archives_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    monkeypatch.setattr(sources, "_ENTRIES_MAX", 100)
    (tmp_path / "a").write_bytes(pack({str(number): b"x" for number in range(101)}))
    (tmp_path / "b").write_bytes(pack({name: pack({str(number): b"x" for number in range(60)}) for name in "xy"}))
    (tmp_path / "c").write_bytes(pack({str(number): b"x" for number in range(100)}))
    places, said = read(tmp_path)
    assert said == ["holds too many entries"] * 2
    assert len([place for place in places if "/c!" in place]) == 100
    assert len([place for place in places if "/b!x!" in place]) == 60


def test_archives_amid_other_bytes_are_counted_and_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"x\xff" + gzip.compress(b"a") * 200
    (tmp_path / "a").write_bytes(data)
    monkeypatch.setattr(sources, "_ENTRIES_MAX", 100)
    places, said = read(tmp_path)
    assert len(places) == 1 + 10
    assert said == ["holds too many entries"]
    searched = 0

    class Noting(bytes):
        def find(self, sub: bytes, start: int = 0, end: int | None = None) -> int:  # type: ignore[override]  # bytes' own takes more
            nonlocal searched
            at = super().find(sub, start, end)
            searched += (at if at >= 0 else len(self)) - start
            return at

    assert len(list(inside.all_of(Noting(data)))) == 200
    assert searched <= 4 * len(data)


@pytest.mark.parametrize("form", FORMS)
def test_a_member_of_any_form_is_read_piece_by_piece(tmp_path: Path, form: int) -> None:
    text = random.Random(1).randbytes(50_000) + KEY.encode()
    (tmp_path / "a.zip").write_bytes(b"MZ" + zipped({"a.txt": text, "b.txt": KEY.encode()}, form))
    assert {one["where"].split("!")[-1] for one in scan(str(tmp_path))} >= {"a.txt", "b.txt"}


def test_what_bzip2_packed_well_takes_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_UNPACKED_MAX", 1_000_000)
    (tmp_path / "a.zip").write_bytes(zipped({"zeros": b"\0" * 80_000_000}, zipfile.ZIP_BZIP2))
    (tmp_path / "b.bz2").write_bytes(bz2.compress(b"\0" * 80_000_000))
    tracemalloc.start()
    try:
        _, said = read(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert said == ["unpacks to too much"] * 2


def test_a_tar_whose_headers_are_copied_to_every_entry_is_refused(tmp_path: Path) -> None:
    headers = {f"x.{number}": "y" for number in range(200)}
    (tmp_path / "a.tar").write_bytes(tarred({"a": b"x"}, pax_headers=headers))
    assert read(tmp_path)[1] == ["has too many headers"]
