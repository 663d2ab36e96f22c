"""The vendor's logo on customers' pages.

It is one local file, read once and served from the broker's own origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

MOST = 256 * 1024
_KINDS = {".png": "image/png", ".webp": "image/webp", ".svg": "image/svg+xml"}


class LogoUnusable(Exception):
    """The file is none that can be shown; the message names it and the fix."""


@dataclass(frozen=True, slots=True)
class Logo:
    """An image and its media type."""

    content: bytes
    media_type: str


def load(file: Path) -> Logo:
    """The logo in a file.

    Raises:
        LogoUnusable: it can't be read, is too large, or isn't what its name says.
    """
    media_type = _KINDS.get(file.suffix.lower())
    if media_type is None:
        raise LogoUnusable(f"{file}: a logo is an .svg, .png or .webp file.")
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST + 1)
    except OSError as error:
        raise LogoUnusable(
            f"{file} can't be read ({error.strerror}); make it readable for the broker's user."
        ) from None
    if len(content) > MOST:
        raise LogoUnusable(f"{file} is larger than {MOST // 1024} KiB; save a smaller one, every visitor loads it.")
    if not _is(media_type, content):
        raise LogoUnusable(f"{file} is no {file.suffix[1:].upper()} image; save it as what its name says.")
    return Logo(content, media_type)


def _is(media_type: str, content: bytes) -> bool:
    if media_type == "image/png":
        return content.startswith(b"\x89PNG\r\n\x1a\n")
    if media_type == "image/webp":
        return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    return _is_svg(content)


def _is_svg(content: bytes) -> bool:
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - whoever runs the broker names the file
    except ElementTree.ParseError:
        return False
    return root.tag == "{http://www.w3.org/2000/svg}svg"
