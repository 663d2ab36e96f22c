"""axe on a page: what people with a screen reader, a keyboard or weak eyes stumble over."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

# WCAG 2.2 AA, and what axe's authors hold to be good practice beside.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def _script() -> str:
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("axe is not here; `make test` installs it")
    return (Path(found.origin).parent / "axe.min.js").read_text()


async def stumbles(page: Page) -> list[str]:
    """What axe finds on the page as it is now: rule, element and reason of each."""
    # Evaluated and not added as an element, which the page's own policy forbids.
    await page.evaluate(_script())
    found: dict[str, Any] = await page.evaluate(
        "rules => axe.run(document, {runOnly: {type: 'tag', values: rules}})", _RULES
    )
    return [
        f"{one['id']}: {node['html'][:200]} ({node['failureSummary']})"
        for one in found["violations"]
        for node in one["nodes"]
    ]
