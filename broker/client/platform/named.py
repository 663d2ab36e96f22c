"""The source that a command, a program or an identity file names."""

from __future__ import annotations

import os
from collections.abc import Mapping

from broker.client.platform.aws import OfAws
from broker.client.platform.clouds import OfAzure, OfGoogle
from broker.client.platform.github import OfGitHub
from broker.client.platform.kept import InFile, InSpiffeFile, InVariable
from broker.client.platform.source import Source
from broker.formats.identity_file import TokenSource


def parsed(text: str) -> TokenSource:
    """What ``--token-from`` names: ``file:PATH``, ``env:NAME``, ``github``, …

    Raises:
        Unreadable: that is no source.
    """
    kind, _, detail = text.partition(":")
    return TokenSource.of(kind, detail)


def source(named: TokenSource, environment: Mapping[str, str] | None = None) -> Source:
    """The source of that name.

    It reads ``environment`` at each exchange; left out, the process's own.
    """
    given = os.environ if environment is None else environment
    match named.kind:
        case "file":
            return InFile(named.detail)
        case "env":
            return InVariable(named.detail, given)
        case "spiffe-file":
            return InSpiffeFile(named.detail)
        case "github":
            return OfGitHub(given)
        case "gcp":
            return OfGoogle(given)
        case "azure":
            return OfAzure(named.detail, given)
    return OfAws(named.detail)
