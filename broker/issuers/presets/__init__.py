"""The platforms that give jobs their tokens.

A preset says what its platform's tokens say, and what has to be seen to before one is trusted.
Bind what can't be registered again.  A name that somebody else can take later is none of what a trust has to bind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.issuers.presets import ci, clouds, clusters
from broker.issuers.presets.model import Preset

PRESETS: Final[Mapping[str, Preset]] = {one.id: one for one in (*clusters.PRESETS, *ci.PRESETS, *clouds.PRESETS)}
