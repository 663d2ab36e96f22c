"""The forms of keys that provider files declare, read without the server's parts."""

from __future__ import annotations

import tomllib
from pathlib import Path

from broker.leaks.candidates import Declared

_BUNDLED = Path(__file__).parent.parent / "providers" / "definitions"


def declared(extra: Path | None = None) -> list[Declared]:
    """The forms of the bundled files and of your own folder, whose ids replace bundled ones."""
    found: dict[str, Declared] = {}
    for folder in filter(None, (_BUNDLED, extra)):
        for path in sorted(folder.glob("*.toml")):
            document = tomllib.loads(path.read_text(encoding="utf-8"))
            key = document["key"]
            found[document["id"]] = Declared(document["id"], key["pattern"], tuple(key.get("scan_names", ())))
    return list(found.values())
