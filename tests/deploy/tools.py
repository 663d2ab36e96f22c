"""Tools that the tests ask and that not every machine has."""

from __future__ import annotations

import shutil

import pytest


def needs(tool: str, *, package: str) -> pytest.MarkDecorator:
    """Skip where the tool is missing, and say how to get it."""
    return pytest.mark.skipif(
        shutil.which(tool) is None,
        reason=f"nothing here to check with: no {tool} (on Debian: apt-get install {package})",
    )
