"""Tests ask the broker from outside.

What they reach of its private parts all the same is listed here, and only gets less.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# Where a test reaches into another's private parts, and why there is no seam.
REACHED = {
    "client/test_client.py": "an access token that is no good: nobody can give a client one",
    "client/test_upstream.py": "every part that could hold the token is looked at, those that nobody is given too",
    "credentials/test_minting.py": "two processes make a key at once, one of them slowly",
    "formats/test_link_secret.py": "the one draw in millions that must not be given out",
    "intake/test_first_keys.py": "another link is used between two steps of this one",
    "intake/test_receiving.py": "the request changes between two steps of a submission",
    "intake/test_strangers.py": "how often links open their own keys: not other keys, nor others' links",
    "keystore/test_vault_forgets.py": "a process that has loaded no master keys yet",
    "keystore/test_vault_masterkeys.py": "master keys that were read long ago, by a clock that only they look at",
    "proxy/conftest.py": "a provider file that says something else, where a broker reads them once",
    "proxy/test_limits.py": "a memory of two leases, where the broker's has thousands",
    "support/alone.py": "pytest gives its directories to fixtures alone",
}
# So many times a test puts something in the place of a private name instead of handing it in: constants of
# time and size, and steps between which a process dies or something else happens.
PATCHED_CONSTANTS = 31
PATCHED_STEPS = 14
# They only look private.
_PUBLIC = {"_asdict", "_exit", "_fields", "_replace"}


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in _PUBLIC


def reached(source: str) -> Iterator[tuple[int, str]]:
    """Private attributes that are taken of anything but ``self`` and ``cls``, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass
            case ast.Attribute(attr=name, lineno=line) if _private(name):
                yield line, name


def patched(source: str) -> Iterator[tuple[int, str]]:
    """Private names in whose place something is put by ``setattr``, with their lines."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[*given], lineno=line):
                words = [one.value for one in given[:2] if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                yield from ((line, name) for name in (word.rpartition(".")[2] for word in words) if _private(name))


def sources() -> Iterator[tuple[str, str]]:
    for file in sorted(TESTS.rglob("*.py")):
        yield str(file.relative_to(TESTS)), file.read_text()


def test_private_parts_are_reached_where_there_is_no_seam() -> None:
    found = {name: [*reached(source)] for name, source in sources()}
    found = {name: lines for name, lines in found.items() if lines}
    assert {name: lines for name, lines in found.items() if name not in REACHED} == {}
    assert REACHED.keys() - found.keys() == set(), "a reason that is needed no more"


def test_private_names_are_put_in_place_of_less_and_less() -> None:
    found = [name for _, source in sources() for _, name in patched(source)]
    constants = [name for name in found if name.isupper()]
    assert (len(constants), len(found) - len(constants)) == (PATCHED_CONSTANTS, PATCHED_STEPS)


@pytest.mark.parametrize("line", ["one._kept", "one.other._kept.clear()", "one()._kept = 1", "module._LIMIT"])
def test_a_private_attribute_of_another_is_found(line: str) -> None:
    assert [at for at, _ in reached(f"import module\n{line}\n")] == [2]


@pytest.mark.parametrize("line", ["self._kept", "cls._kept", "one.kept", "one.__dict__", "os._exit(0)", "_own()"])
def test_ones_own_is_not(line: str) -> None:
    assert [*reached(line)] == []


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ('patch.setattr("broker.worker._PIECE_S", 1)', ["_PIECE_S"]),
        ('patch.setattr(worker, "_PIECE_S", 1)', ["_PIECE_S"]),
        ('patch.setattr(worker, "piece", "_x")', []),
    ],
)
def test_a_private_name_that_is_replaced_is_found(line: str, names: list[str]) -> None:
    assert [name for _, name in patched(line)] == names
