"""Where an upstream is: one named host.

A customer may fill in parts of it, but can never name another host.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
from collections.abc import Iterator, Mapping

from pydantic import Field

from broker.providers.authority import CaFile
from broker.providers.pattern import shape
from broker.providers.schema import Fault, Flag, Line, Part

VARIABLE = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LABELS = re.compile(rf"{_DNS_LABEL.pattern}(?:\.{_DNS_LABEL.pattern})*")
_TOP = re.compile(r"[a-z]{2,63}|xn--[a-z0-9-]{1,59}")
_NEVER_PUBLIC = frozenset({"internal", "local", "localhost"})
_LABEL_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_BASE = re.compile(
    r"(https?)://([^/:\[\]]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?((?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)*)"
)


class Variable(Part):
    """One per-customer part of the host: a DNS label by pattern, or one of the listed choices."""

    title: Line
    pattern: str | None = None
    choices: tuple[Line, ...] = ()

    def faults(self) -> Iterator[Fault]:
        if (self.pattern is None) == (not self.choices):
            yield Fault("pattern", 'needs either pattern = "^…$" or choices = ["…"], and not both')
        elif self.pattern is not None:
            yield from _faults_of_label(self.pattern)
        for choice in self.choices:
            if not _LABELS.fullmatch(choice):
                yield Fault("choices", f"{choice!r} is not a host name or a part of one; write it in lower case")

    def accepts(self, value: str) -> bool:
        """Whether ``value`` may stand in the host.

        Even a pattern that is too wide can't let another host in.
        """
        if self.choices:
            return value in self.choices
        assert self.pattern is not None
        return bool(_DNS_LABEL.fullmatch(value) and re.fullmatch(self.pattern, value))

    @property
    def narrowest(self) -> str:
        """The value with the fewest labels that may stand here."""
        return min(self.choices, key=lambda choice: choice.count("."), default="x")


def _faults_of_label(pattern: str) -> Iterator[Fault]:
    try:
        found = shape(pattern)
    except ValueError as error:
        yield Fault("pattern", str(error))
        return
    if not found.alphabet <= _LABEL_CHARACTERS or found.longest > 63:
        yield Fault(
            "pattern",
            "must match nothing but one host name part: a-z, 0-9 and -, at most 63; "
            'write for example "^[a-z0-9][a-z0-9-]{0,61}$"',
        )


class Host(Part):
    """Where the upstream is.  ``private`` lets a sandbox be http and on a private address.

    With ``ca_file`` the authorities in that file vouch for it, and no other ones do.
    """

    base_url: str
    private: Flag = False
    ca_file: CaFile | None = None
    variables: dict[str, Variable] = Field(default_factory=dict)

    def faults(self) -> Iterator[Fault]:
        url = _BASE.fullmatch(self.base_url)
        if not url or int(url[3] or 443) not in range(1, 65_536):
            yield Fault(
                "base_url", 'write scheme, host and base path only, for example "https://{subdomain}.example.com/api"'
            )
            return
        if url[1] == "http" and not self.private:
            yield Fault("base_url", "must begin with https:// (a sandbox on http needs private = true)")
        if url[1] == "http" and self.ca_file is not None:
            yield Fault("ca_file", "has no certificate to vouch for, as base_url is http://; remove it")
        used = set(VARIABLE.findall(self.base_url))
        if used != set(self.variables):
            yield Fault(
                "base_url", f"uses {sorted(used)}, [host.variables] declares {sorted(self.variables)}; make them equal"
            )
        elif fix := self._fault_of_name(url[2]):
            yield Fault("base_url", fix)

    def _fault_of_name(self, template: str) -> str | None:
        labels = template.split(".")
        if any("{" in label and not VARIABLE.fullmatch(label) for label in labels):
            return "a variable fills a whole part of the host between dots; write for example {subdomain}.example.com"
        if self.private and _is_address(template):
            return None
        name = self._filled(template)
        if not _LABELS.fullmatch(name) or (not self.private and not _is_public_name(name)):
            return "is not a public host name in lower case (a sandbox elsewhere needs private = true)"
        free = [at for at, label in enumerate(labels) if "{" in label and not self.variables[label[1:-1]].choices]
        if free and self._filled(".".join(labels[free[-1] + 1 :])).count(".") < 1:
            return "the customer could name any domain; let a fixed domain follow, as in {subdomain}.example.com"
        return None

    def _filled(self, template: str) -> str:
        return VARIABLE.sub(lambda match: self.variables[match[1]].narrowest, template)

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What is trusted instead of the public authorities; None if they are."""
        return self.ca_file.tls if self.ca_file is not None else None

    def filled(self, values: Mapping[str, str]) -> str:
        """The base URL with ``values``, each of which its variable accepts."""
        return VARIABLE.sub(lambda match: values[match[1]], self.base_url)


def _is_public_name(name: str) -> bool:
    # A last part with a digit would let some resolvers read the whole as an address.
    top = name.rpartition(".")[2]
    return "." in name and len(name) <= 253 and bool(_TOP.fullmatch(top)) and top not in _NEVER_PUBLIC


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
