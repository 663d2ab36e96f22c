"""What other people's code imports: ``from broker.client import …``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import broker.client

SOURCE = Path(broker.client.__file__)


def test_what_a_job_needs_is_imported_from_the_package() -> None:
    from broker.client import Client, Identity, IssuedLease, Lease, Upstream, raise_for_problem, read_identity

    assert [one.__name__ for one in (Client, Identity, Lease, IssuedLease, Upstream)] == [
        "Client",
        "Identity",
        "Lease",
        "IssuedLease",
        "Upstream",
    ]
    assert [one.__module__ for one in (raise_for_problem, read_identity)] == [
        "broker.client.errors",
        "broker.client.identity",
    ]


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    declared = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("broker.client.")
        for alias in node.names
    }
    assert sorted(declared) == sorted(broker.client.__all__)
    for name, (module, there) in declared.items():
        assert getattr(broker.client, name) is getattr(sys.modules[str(module)], there)
        assert name in dir(broker.client)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(ImportError, match="Clent"):
        from broker.client import Clent  # type: ignore[attr-defined]  # noqa: F401 - it isn't there


def test_the_package_alone_loads_no_http_client_and_no_cryptography() -> None:
    code = "import sys, broker.client; print(sorted({'httpx2', 'joserfc', 'cryptography'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parents[2]
    )
    assert done.stdout.strip() == "[]"
