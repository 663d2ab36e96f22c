"""Finding planted keys in a generated tree of source, logs and binaries, beside two peers in interleaved rounds.

- ``leaks_mb_per_s``: ``broker scan``'s own reading and finding, in process;
- ``regex_mb_per_s``: every pattern's plain ``re.finditer`` over each whole file;
- ``detect_secrets_mb_per_s``: Yelp's detect-secrets with its default plugins, in process;
- ``leaks_vs_regex``, ``leaks_vs_detect_secrets``: ratios of these medians;
- ``leaks_slowest_mb_per_s``: the least of the rates, in CPU time, for texts that are made to take long: names of
  providers over and over, a key in every line, beginnings without keys, short runs of base64, every second byte a
  candidate;
- ``…_found``: how many of the planted keys each found (``leaks_planted``).
"""

from __future__ import annotations

import io
import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import default_settings

from broker.leaks import sources
from broker.leaks.candidates import Finder, scan
from broker.leaks.patterns import declared

SIZE = 8_000_000
ROUNDS = 3
_MB = 1_000_000
_TEXT = """def class return import self request response token key value config error user account facility asset
task-list risk- sk rc live data with for in while if else None True False 0x1f 127.0.0.1 https://example.com/path?x=1"""
_WORDS = _TEXT.split()
_NUMBER = b"0a1b2c3d" * 4
_SLOW_SIZE = 200_000
_SLOW = (
    *(b"datadog", b"api_key: " + _NUMBER + b"\n", b"api_key" + b"ab" * 40, b"freshdesk" + b"Ab1_" * 20),
    *(
        b"sk-",
        b"a-sk-" + b"a" * 24 + b" ",
        b"c2stc2st" * 8,
        b"A" * 24 + b" ",
        b"\x1b[" + b"0" * 20 + b"msk-" + b"a" * 20,
    ),
)


def measure(directory: Path, *, size: int = SIZE, rounds: int = ROUNDS) -> dict[str, float]:
    """The named figures."""
    tree = directory / "tree"
    planted, total = _plant(tree, size)
    ways: dict[str, Callable[[Path, set[str]], set[str]]] = {
        "leaks": _ours,
        "regex": _regex,
        "detect_secrets": _detect_secrets,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, int] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            found[name] = len(way(tree, planted) & planted)
            rates[name].append(total / _MB / (time.perf_counter() - started))
    rate = {name: median(each) for name, each in rates.items()}
    figures = {f"{name}_mb_per_s": value for name, value in rate.items()}
    figures |= {f"leaks_vs_{peer}": rate["leaks"] / rate[peer] for peer in ("regex", "detect_secrets")}
    figures |= {f"{name}_found": float(count) for name, count in found.items()} | {"leaks_planted": len(planted)}
    figures["leaks_slowest_mb_per_s"] = min(map(_rate, _SLOW))
    return {name: round(value, 3) for name, value in figures.items()}


def _rate(unit: bytes) -> float:
    """MB/s of CPU time for a text of nothing but this."""
    data, finder = unit * (_SLOW_SIZE // len(unit)), Finder(declared())
    started = time.process_time()
    for _ in scan(finder, io.BytesIO(data)):
        pass
    return len(data) / _MB / (time.process_time() - started)


def _plant(tree: Path, size: int) -> tuple[set[str], int]:
    """Files of about ``size`` bytes in all, 20 of which hold a key; the keys and the size."""
    dice = random.Random(11)
    planted, total = set(), 0
    tree.mkdir(parents=True)
    for number in range(240):
        path = tree / f"file{number:03d}.{('py', 'log', 'json', 'bin')[number % 4]}"
        if number % 4 == 3:
            data = dice.randbytes(size // 240)
        else:
            lines = (" ".join(dice.choices(_WORDS, k=9)) for _ in range(size // 240 // 60))
            data = "\n".join(lines).encode()
        if number % 12 == 0:
            key = "rc_live_" + "".join(dice.choices("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=64))
            planted.add(key)
            middle = data.find(b"\n", len(data) // 2)
            data = data[:middle] + f'\napi_key = "{key}"\n'.encode() + data[middle:]
        path.write_bytes(data)
        total += len(data)
    return planted, total


def _ours(tree: Path, _planted: set[str]) -> set[str]:
    finder = Finder(declared())
    return {
        hit.text.decode()
        for source in sources.files(tree, lambda _where, _why: None)
        for hit in scan(finder, source.stream)
    }


def _regex(tree: Path, _planted: set[str]) -> set[str]:
    patterns = [re.compile(one.pattern[1:-1].encode()) for one in declared()]
    return {
        match[0].decode()
        for path in sorted(tree.iterdir())
        for pattern in patterns
        for match in pattern.finditer(path.read_bytes())
    }


def _detect_secrets(tree: Path, planted: set[str]) -> set[str]:
    """Those of the planted keys that it names; it doesn't keep the values of others for us."""
    secrets = SecretsCollection()
    with default_settings():
        for path in sorted(tree.iterdir()):
            secrets.scan_file(str(path))
    named = {secret.secret_value for _, secret in secrets}
    return {key for key in planted if key in named}
