"""The witnesses that a broker asks, as a file lists them: a line each.

::

    line    = url " " key [" private"]        key: a witness's ("vkey"); private: the address may be an inner one
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from broker.formats.cosignature import WitnessKey
from broker.formats.signed_note import KeyUnreadable

# A note has 16 lines at most, and the log's own are among them.
MOST = 12


class ListUnusable(ValueError):
    """The file is wrong; the text names the line and the fix."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A witness: where it is asked, its key, and whether its address may be a private one."""

    url: str
    key: WitnessKey
    private: bool


def load(file: Path) -> tuple[Listed, ...]:
    """The witnesses of a file; empty lines and those that begin with ``#`` say nothing.

    Raises:
        ListUnusable: the file can't be read, or a line is none of this form.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except OSError as error:
        raise ListUnusable(
            f"{file} can't be read ({error.strerror}); make it readable for the broker's user."
        ) from None
    except UnicodeDecodeError:
        raise ListUnusable(f"{file} is not UTF-8 text; write a line `URL VKEY` for each witness.") from None
    said = {number: line.split() for number, line in enumerate(lines, 1) if line.split() and line[:1] != "#"}
    found = tuple(_read(f"{file}, line {number}", words) for number, words in said.items())
    if len({one.key for one in found}) != len(found):
        raise ListUnusable(f"{file} lists a witness twice; leave one line.")
    if len(found) > MOST:
        raise ListUnusable(f"{file} lists {len(found)} witnesses; {MOST} are asked at most.")
    return found


def _read(where: str, words: list[str]) -> Listed:
    if len(words) not in {2, 3} or words[2:] not in ([], ["private"]):
        raise ListUnusable(f"{where}: write `URL VKEY`, or `URL VKEY private` for an address inside.")
    url, key, *private = words
    parts = urlsplit(url)
    if parts.scheme not in {"https", *(["http"] if private else [])} or not parts.hostname or parts.username:
        raise ListUnusable(f"{where}: the address is to be such as https://witness.customer.example.")
    if parts.query or parts.fragment:
        raise ListUnusable(f"{where}: the address has a query or fragment; leave it out.")
    try:
        return Listed(url.rstrip("/"), WitnessKey.read(key), bool(private))
    except KeyUnreadable:
        raise ListUnusable(f"{where}: the key is no line that `broker witness key` prints.") from None
