"""The same broker over each keystore, and OpenBao's own audited read, in one run.

A lease for use needs no key, so it is issued at the same rate over every keystore; revealing a key, and each proxied
call, opens one.  Figures, for ``local``, ``vault_transit``, ``vault_kv`` and ``vault_transit_cached`` (60 s):
``keystore_NAME_reveal_per_s``, ``…_p99_ms``, ``…_lease_per_s``, and ``…_vs_openbao_read`` of the reveal.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from tests.bench import broker, openbao
from tests.bench.lease import sandbox
from tests.bench.load import Measured, http
from tests.bench.rounds import Contender, interleaved, middle

CONNECTIONS = 32
SECONDS = 3.0
ROUNDS = 3


def measure(directory: Path) -> dict[str, float]:
    """The named figures."""
    with ExitStack() as stack:
        state, upstream = stack.enter_context(sandbox())
        bao = stack.enter_context(openbao.running(directory / "openbao"))
        given = bao.server.approle(bao.server.root, directory / "vault")
        vault = {f"BROKER_{name.upper()}": str(value) for name, value in given.items()}
        transit, kv = {"BROKER_KEYSTORE": "vault-transit", **vault}, {"BROKER_KEYSTORE": "vault-kv", **vault}
        cached = {"BROKER_KEYSTORE_CACHE_SECONDS": "60", **transit}
        read = http("GET", "/v1/secret/data/tenants/acme", {"X-Vault-Token": bao.token, "X-Vault-Request": "true"})
        contenders = {"openbao_read": Contender(bao.port, read)}
        there = state.add_organization("acme")
        for name, more in (
            ("local", {}),
            ("vault_transit", transit),
            ("vault_transit_cached", cached),
            ("vault_kv", kv),
        ):
            home = directory / name
            home.mkdir()
            served = stack.enter_context(broker.running(home, upstream, state.add_key(there)[1], more=more))
            for mode in ("use", "reveal"):
                body = json.dumps({"organization": "acme", "provider": "raptor-comply", "mode": mode}).encode()
                job = {"Authorization": f"Bearer {served.access_token}"}
                contenders[f"{name}_{mode}"] = Contender(served.port, http("POST", "/v1/leases", job, body))
        rounds = interleaved(contenders, rounds=ROUNDS, connections=CONNECTIONS, seconds=SECONDS)
    return figures({name: middle(each) for name, each in rounds.items()})


def figures(measured: dict[str, Measured]) -> dict[str, float]:
    read = measured.pop("openbao_read")
    named = {"keystore_openbao_read_per_s": read.rate, "keystore_openbao_read_p99_ms": read.p99}
    for name, each in measured.items():
        shown = f"keystore_{name.removesuffix('_use')}_lease" if name.endswith("_use") else f"keystore_{name}"
        named |= {f"{shown}_per_s": each.rate, f"{shown}_p99_ms": each.p99}
        if name.endswith("_reveal"):
            named[f"{shown}_vs_openbao_read"] = each.rate / read.rate
    return {name: round(value, 2) for name, value in named.items()}
