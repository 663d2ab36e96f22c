"""The script of the one page that has one: two files, named in its policy by their hashes.

They are served as they stand in the sources: ``verify.js`` decides, and is short enough to be read and compared with
one's own copy; ``event.js`` fetches and shows.  The first is loaded first, so the second's import finds it and loads
nothing: what the policy doesn't name runs nowhere.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi.responses import Response

import broker.client
from broker.base.errors import NotFound
from broker.web.console.page import CSP, FOR_GOOD, HOME, routes

_FILES: Final = (Path(broker.client.__file__).parent / "verify.js", Path(__file__).parent / "static" / "event.js")

router = routes()


@dataclass(frozen=True, slots=True)
class Script:
    """A file that a page runs; ``integrity`` is its hash as browsers compare it."""

    path: str
    content: bytes

    @property
    def name(self) -> str:
        """What the file is called."""
        return self.path.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal, as `sha256sum` prints it."""
        return hashlib.sha256(self.content).hexdigest()

    @property
    def integrity(self) -> str:
        """SHA-256 as a policy and an element have it."""
        return "sha256-" + base64.b64encode(hashlib.sha256(self.content).digest()).decode()


@cache
def scripts() -> tuple[Script, ...]:
    """The files, in the order in which they are loaded; their address changes with them."""
    contents = [file.read_bytes() for file in _FILES]
    version = hashlib.sha256(b"".join(contents)).hexdigest()[:12]
    return tuple(
        Script(f"{HOME}/static/{version}/{file.name}", content) for file, content in zip(_FILES, contents, strict=True)
    )


@cache
def policy() -> str:
    """The console's policy, by which these files run as well, and ask this broker alone."""
    named = " ".join(f"'{script.integrity}'" for script in scripts())
    return f"{CSP}; script-src {named}; connect-src 'self'"


@router.get("/static/{version}/{name}")
async def script(version: str, name: str) -> Response:
    """One of the files, of this version alone: a browser keeps it for good."""
    for each in scripts():
        if each.path == f"{HOME}/static/{version}/{name}":
            return Response(each.content, media_type="text/javascript", headers=FOR_GOOD)
    raise NotFound("The console has no such file.")
