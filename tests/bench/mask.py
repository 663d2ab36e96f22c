"""What masking an echoed key costs, in process, beside one plain search for the key, in interleaved rounds.

CPU time in microseconds for each KiB, medians; the text holds no key, and comes in chunks of 64 KiB where nothing else
is said:

- ``mask_us_per_kib``: JSON in which nothing is escaped; ``mask_small_us_per_kib``: the same in chunks of 1 KiB;
- ``mask_json_us_per_kib``: JSON within JSON; ``mask_unicode_us_per_kib``: another script, every character escaped;
- ``mask_binary_us_per_kib``: random bytes, as of a compressed file;
- ``mask_hostile_us_per_kib``: the dearest text that is known, the key but for its last character, every byte escaped;
- ``find_us_per_kib``: ``bytes.find`` of the key, in the first text;
- ``mask_vs_find``: how many times as long masking that text takes.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from broker.proxy.redact import Redactor

SIZE = 1_048_576
ROUNDS = 5
_CHUNK = 65_536
_KEY = b"rc_live_" + random.Random(3).randbytes(24).hex().encode() + b"+/=~"
_TEXT = "facility asset id name status created_at organization true null 12345 cyber system control"
_WORDS = _TEXT.split()


def measure(_directory: Path, *, size: int = SIZE, rounds: int = ROUNDS) -> dict[str, float]:
    """The named figures."""
    dice = random.Random(11)
    plain = json.dumps([{word: dice.choice(_WORDS) for word in dice.sample(_WORDS, 4)} for _ in range(size // 80)])
    script = "".join(chr(dice.randrange(0x410, 0x450)) for _ in range(size // 6))
    texts = {
        "mask": (plain.encode(), _CHUNK),
        "mask_small": (plain.encode(), 1_024),
        "mask_json": (json.dumps(plain).encode(), _CHUNK),
        "mask_unicode": (json.dumps(script).encode(), _CHUNK),
        "mask_binary": (dice.randbytes(size), _CHUNK),
        "mask_hostile": ("".join(f"\\u{byte:04x}" for byte in _KEY[:-1]).encode() * (size // 400), _CHUNK),
    }
    ways: dict[str, Callable[[], int]] = {name: _masking(text, chunk) for name, (text, chunk) in texts.items()} | {
        "find": _finding(plain.encode())
    }
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            read = way()
            costs[name].append((time.process_time() - started) * 1e6 / (read / 1_024))
    cost = {name: median(each) for name, each in costs.items()}
    figures = {f"{name}_us_per_kib": value for name, value in cost.items()}
    return {name: round(value, 3) for name, value in (figures | {"mask_vs_find": cost["mask"] / cost["find"]}).items()}


def _masking(text: bytes, size: int) -> Callable[[], int]:
    chunks = [text[at : at + size] for at in range(0, len(text), size)]

    def mask() -> int:
        redactor = Redactor(_KEY)
        return sum(len(redactor.feed(chunk)) for chunk in chunks) + len(redactor.flush())

    return mask


def _finding(text: bytes) -> Callable[[], int]:
    chunks = [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]
    return lambda: sum(len(chunk) for chunk in chunks if chunk.find(_KEY) < 0)
