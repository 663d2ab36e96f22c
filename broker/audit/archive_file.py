"""An archive of one month as two files: its lines, and the note that makes them an archive.

They are for their owner alone, as what they hold names people.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker.base import closed
from broker.base.errors import Conflict
from broker.formats.archive import LINE_MOST, ArchiveRefused, Manifest, verified
from broker.formats.signed_note import NoteRefused, Signer, Verifier, opened

_NOTE_MOST = 65_536
_LINES, _NOTE = ".ndjson.gz", ".note"


class AnotherThere(Conflict):
    """Where an archive is to be put there is another one, or something else."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: something else is there; name another folder. Nothing was removed.")


class ArchiveFile:
    """Where an archive is: the path of its lines, such as ``record-202607.ndjson.gz``."""

    def __init__(self, lines: Path) -> None:
        self.lines = lines
        self.note = lines.with_name(lines.name.removesuffix(_LINES) + _NOTE)
        self._staged = lines.with_name(lines.name + ".new")

    @classmethod
    def of(cls, folder: Path, month: int) -> ArchiveFile:
        """The archive of a month in a folder."""
        return cls(folder / f"record-{month}{_LINES}")

    @classmethod
    def named(cls, path: Path) -> ArchiveFile:
        """The archive that one of its two files is of."""
        return cls(path.with_name(path.name.removesuffix(_NOTE) + _LINES) if path.suffix == _NOTE else path)

    @contextmanager
    def draft(self) -> Iterator[gzip.GzipFile]:
        """A file beside, which takes the lines.

        It is on the disk once the block ends well.
        """
        self._staged.unlink(missing_ok=True)
        closed.create(self._staged, b"")
        with self._staged.open("wb") as file:
            # The same lines make the same file, whenever they are written.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as lines:
                yield lines
            file.flush()
            os.fsync(file.fileno())

    def draft_verified(self, manifest: Manifest) -> Iterator[int]:
        """Go through the draft, as it is on the disk; as :func:`broker.formats.archive.verified`."""
        return verified(lines_of(self._staged), manifest)

    def place(self, manifest: Manifest, signer: Signer) -> None:
        """Put the draft, which was verified, in its place, with a note of ``manifest``.

        The very same archive may be there already.

        Raises:
            AnotherThere
        """
        if not self.lines.exists():
            self._staged.rename(self.lines)
        elif not self._is(manifest):
            raise AnotherThere(self.lines)
        self._staged.unlink(missing_ok=True)
        if not self.note.exists():
            closed.replace(self.note, signer.sign(manifest.text()))
        if not self._is_note(manifest, signer.verifier()):
            raise AnotherThere(self.note)
        _settle(self.lines.parent)

    def manifest(self, verifier: Verifier) -> Manifest:
        """What the note says, if it is signed.

        Raises:
            ArchiveRefused: it isn't. OSError: it can't be read.
        """
        with self.note.open("rb") as file:
            note = file.read(_NOTE_MOST + 1)
        try:
            return Manifest.read(opened(note, verifier))
        except NoteRefused as refused:
            raise ArchiveRefused(0, str(refused)) from None

    def verified(self, manifest: Manifest) -> Iterator[int]:
        """Go through all lines; as :func:`broker.formats.archive.verified`.

        Raises:
            ArchiveRefused: names the first bad line. OSError: they can't be read.
        """
        return verified(lines_of(self.lines), manifest)

    def _is_note(self, manifest: Manifest, verifier: Verifier) -> bool:
        try:
            return self.manifest(verifier) == manifest
        except ArchiveRefused:
            return False

    def _is(self, manifest: Manifest) -> bool:
        try:
            for _ in self.verified(manifest):
                pass
        except ArchiveRefused:
            return False
        return True


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a compressed file, each with its end.

    None is held that is longer than one may be.

    Raises:
        ArchiveRefused: it isn't compressed, or cut off. OSError: it can't be read.
    """
    number = 0
    with path.open("rb") as file, gzip.GzipFile(fileobj=file) as lines:
        while True:
            number += 1
            try:
                line = lines.readline(LINE_MOST + 1)
            except (gzip.BadGzipFile, EOFError, zlib.error):
                raise ArchiveRefused(number, "can't be read: the file is damaged or cut off") from None
            if not line:
                return
            if len(line) > LINE_MOST:
                raise ArchiveRefused(number, "is too long for an event")
            yield line


def _settle(folder: Path) -> None:
    """Have the names of a folder outlive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
