"""What a reader of the demo can try next: each line runs as it is, in a shell of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from shlex import quote

from broker.cli.demo.stage import DemoStage

# The one of the story whose own key never came.
CUSTOMER = "initech"
_USES = 'sh -c \'curl -sS -H "Authorization: Bearer $UPSTREAM_TOKEN" "$UPSTREAM_URL/facilities"\''


def commands(scene: DemoStage, customer: str) -> list[str]:
    """The lines, in order; ``customer`` is the name that CUSTOMER has upstream."""
    about = f"--org {CUSTOMER} --provider raptor-comply"
    identity = f"--identity {scene.identity}"
    mint = f"broker sandbox --dir {scene.sandbox} --mint {quote(customer)}"
    return [
        f"cd {quote(str(Path.cwd()))}",
        f'export PATH={quote(str(Path(sys.executable).parent))}:"$PATH"',
        f'export BROKER_URL={scene.broker} BROKER_TOKEN="$(cat {scene.token})"',
        "broker key list",
        f"{mint} | broker key add {about}",
        f"broker grant add --workload nightly-sync {about} --preset read-only",
        f"broker exec {identity} {about} -- {_USES}",
        f"broker lease issue {identity} {about}",
        f"broker audit search --org {CUSTOMER}",
    ]
