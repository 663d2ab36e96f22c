"""How the site of the documents is built: ``make docs``.

The pages are plain Markdown that reads as well where the repository is shown.  So no page has a word for the generator:
what stands below what is taken from the lists of links that its readers have anyway.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
_SOFTWARE = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# An item of a list or the first cell of a row, that begins with a link to a page.
_LISTED = re.compile(r"^(?:- |\| |\d+\. )\**\[[^\]]+\]\(([^):#]+)\.md\)", re.MULTILINE)

project = "Keybroker"
release = version = _SOFTWARE["version"]
html_title = f"{project} {release}"
root_doc = "README"
include_patterns = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**.md"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
# A first word of a code block that no lexer knows is an error too.
nitpicky = True
html_theme = "furo"
html_copy_source = html_show_sphinx = html_show_copyright = False
html_theme_options = {"source_repository": "", "navigation_with_keys": False}
# The site begins where people look for it, also as files without a server.
templates_path = ["_site"]
html_additional_pages = {"index": "start.html"}


def _navigation(_app: object, name: str, source: list[str]) -> None:
    """Let the pages that a page lists stand below it."""
    if Path(name).name == "README" and (below := dict.fromkeys(_LISTED.findall(source[0]))):
        source[0] += "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(below) + "\n```\n"


def setup(app: Any) -> None:  # noqa: ANN401 - the generator is not installed where types are checked
    """Called by the generator."""
    app.connect("source-read", _navigation)
