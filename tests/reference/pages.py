"""Which pages there are, and what makes each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tests.reference import commands, events, notices, platforms, problems, routes, settings

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "commands.md": commands.made,
    "settings.md": settings.made,
    "platforms.md": platforms.made,
    "routes.md": routes.made,
    "problems.md": problems.made,
    "events.md": events.made,
    "notices.md": notices.made,
}
