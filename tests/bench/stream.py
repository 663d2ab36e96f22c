"""A large upload and a large download through the broker, beside the same straight to the upstream and through nginx.

One transfer at a time, in interleaved rounds of one run; nginx passes bodies on unbuffered, as the broker does.
Figures (MB are millions of bytes):

- ``stream_upload_rss_mb`` and ``stream_download_rss_mb``: the broker's largest resident memory within any such
  transfer, above its idle one, which is taken once, after a small call and before the first transfer;
- ``stream_…_mb_per_s`` through the broker, ``direct_…_mb_per_s`` and ``nginx_…_mb_per_s``: medians;
- ``stream_…_vs_direct`` and ``stream_…_vs_nginx``: ratios of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from tests.bench import broker, memory, nginx, transfer, upstream
from tests.bench.transfer import Way

SIZE = 1024**3
ROUNDS = 3
_MB = 1_000_000
_TRANSFERS = {"upload": transfer.upload, "download": transfer.download}


@contextmanager
def ways(directory: Path) -> Iterator[tuple[dict[str, Way], int]]:
    """Each way to one upstream, ``stream`` being the broker's; and the broker's process."""
    with ExitStack() as stack:
        port = stack.enter_context(upstream.running(directory / "upstream"))
        running = {"direct": Way(port, headers={"X-API-Key": broker.KEY})}
        if nginx.available():
            peer, _ = stack.enter_context(nginx.proxying(directory / "nginx", port, broker.KEY, streaming=True))
            running["nginx"] = Way(peer)
        served = stack.enter_context(broker.running(directory / "broker", f"http://127.0.0.1:{port}"))
        running["stream"] = Way(
            served.port, "/proxy/acme/raptor-comply", {"Authorization": f"Bearer {served.lease_token}"}
        )
        yield running, served.pid


def measure(directory: Path, *, size: int = SIZE, rounds: int = ROUNDS) -> dict[str, float]:
    """The named figures; those of nginx only where it is."""
    rates: dict[str, list[float]] = {}
    above_idle = dict.fromkeys(_TRANSFERS, 0)
    with ways(directory) as (running, pid):
        transfer.download(running["stream"], 1)
        idle = memory.resident(pid)
        for _ in range(rounds):
            for direction, carry in _TRANSFERS.items():
                for name, way in running.items():
                    memory.forget_peak(pid)
                    rates.setdefault(f"{name}_{direction}", []).append(carry(way, size))
                    if name == "stream":
                        above_idle[direction] = max(above_idle[direction], memory.peak(pid) - idle)
    return figures({name: median(each) for name, each in rates.items()}, above_idle)


def figures(rates: dict[str, float], above_idle: dict[str, int]) -> dict[str, float]:
    named: dict[str, float] = {}
    for direction, size in above_idle.items():
        named[f"stream_{direction}_rss_mb"] = size / _MB
        for peer in ("direct", "nginx"):
            if rate := rates.get(f"{peer}_{direction}"):
                named[f"stream_{direction}_vs_{peer}"] = rates[f"stream_{direction}"] / rate
    named |= {f"{name}_mb_per_s": rate / _MB for name, rate in rates.items()}
    return {name: round(value, 3) for name, value in named.items()}
