"""The guides of ``docs/how-to/keyless``, taken apart: what they declare, trust and show."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from broker.issuers import files
from broker.issuers.files import IssuerFile
from tests.support.certificates import certify

FOLDER: Final = Path(__file__).parents[2] / "docs/how-to/keyless"
# Where the files of a pod's own service account are, which a test has not.
_IN_A_POD: Final = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"


@dataclass(frozen=True)
class Guide:
    """One platform's page."""

    name: str
    text: str

    @property
    def preset(self) -> str:
        """Its platform's preset."""
        return "oidc" if self.name == "any-oidc-issuer" else self.name

    def blocks(self, language: str) -> list[str]:
        """Its examples in a language."""
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Its examples in JSON."""
        return [json.loads(one) for one in self.blocks("json")]

    @property
    def claims(self) -> dict[str, Any]:
        """What the token says that its example leads to."""
        (found,) = [one for one in self.objects if {"aud", "exp"} <= set(one)]
        return found

    @property
    def trust(self) -> tuple[str, dict[str, list[str]]]:
        """The issuer and the rule of its ``broker trust add``."""
        lines = "\n".join(self.blocks("sh")).replace("\\\n", " ").splitlines()
        (words,) = [shlex.split(line)[4:] for line in lines if line.startswith("broker trust add ")]
        given = dict(zip(words[::2], words[1::2], strict=True))
        rule = {name.removeprefix("--").replace("-", "_"): [value] for name, value in given.items()}
        return rule.pop("issuer")[0], rule

    def said(self) -> Iterator[str]:
        """What it says that the broker says, in the table of what goes wrong."""
        table = self.text.partition("## What goes wrong\n")[2].partition("\n## ")[0]
        for row in re.findall(r"^\| (.*?) \| ", table, re.MULTILINE):
            yield from (found.replace("\\`", "`") for found in re.findall(r'^"(.*)"$', row))

    def issuers(self, folder: Path) -> list[IssuerFile]:
        """The issuers that its files declare, each by itself beside those that come with the broker."""
        found = []
        for number, text in enumerate(self.blocks("toml")):
            here = folder / str(number)
            here.mkdir(parents=True)
            certify(here)
            (here / "issuer.toml").write_text(text.replace(_IN_A_POD, str(here / "ca.pem")))
            (one,) = [one for one in files.load(here) if f'id = "{one.id}"\n' in text]
            found.append(one)
        return found

    def trusted(self, folder: Path) -> IssuerFile:
        """The issuer that its trust names."""
        name, _ = self.trust
        declared = {one.id: one for one in reversed(self.issuers(folder))}
        bundled: Mapping[str, IssuerFile] = {one.id: one for one in files.load()}
        return declared.get(name) or bundled[name]


GUIDES: Final = {
    path.stem: Guide(path.stem, path.read_text()) for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"
}
INDEX: Final = (FOLDER / "README.md").read_text()
