"""A trust that is proposed from a token: what of it would be bound, shown before it is.

The token stays on this machine.  It is neither kept nor printed, but for the claims that a trust could bind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import typer

from broker.cli.discreet import unsaid
from broker.cli.failing import Status, fail
from broker.cli.output import Item, say
from broker.issuers.presets import PRESETS
from broker.issuers.presets.model import Preset
from broker.issuers.unverified import OTHERS, NotAToken, peek

STANDARD_INPUT: Final = "-"


def read_token(file: str) -> str:
    """The token in a file, or on standard input; ends the command if there is none."""
    try:
        text = sys.stdin.read(OTHERS.length + 2) if file == STANDARD_INPUT else _start_of(Path(file))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        fail(f"{unsaid(file)}: can't be read ({why}); name a file with the token, or - for standard input.")
    if not text.strip():
        fail("There is no token: the file or standard input is empty.")
    return text.strip()


def _start_of(file: Path) -> str:
    with file.open(encoding="utf-8") as opened:
        return opened.read(OTHERS.length + 2)


def agreed(declared: Item, token: str, given: Mapping[str, Sequence[str]], *, yes: bool) -> dict[str, list[str]]:
    """What a trust binds that somebody saw and agreed to; ends the command if nobody did.

    Args:
        declared: the issuer, as the broker shows it.
        token: a token of it.
        given: what the command line binds, which comes first.
        yes: nobody is asked.
    """
    claims = _said(token)
    _insist_on_its_issuer(declared, claims)
    preset = _known(declared)
    bound = {name: list(values) for name, values in {**preset.proposed(claims), **given}.items()}
    if faults := preset.faults(bound):
        fail("The token shows too little for a trust. " + "; ".join(faults) + ".")
    for line in _told(preset, claims, bound):
        say(line, err=True)
    if claims.get("aud") not in (declared["audience"], [declared["audience"]]):
        say(f"A sign-in needs a token for {declared['audience']}, which this isn't: {preset.audience}.", err=True)
    if not yes:
        _ask()
    return bound


def _said(token: str) -> Mapping[str, Any]:
    try:
        return peek(token, OTHERS).claims
    except NotAToken:
        fail("That is no token as platforms give them: three parts with dots between, and nothing else.")


def _insist_on_its_issuer(declared: Item, claims: Mapping[str, Any]) -> None:
    issuer, subject = str(declared["issuer"]), str(claims.get("sub", ""))
    if subject.startswith(f"{issuer}/") if issuer.startswith("spiffe://") else claims.get("iss") == issuer:
        return
    said = claims.get("iss") or subject
    fail(f"The token is of {said}, and the issuer {declared['id']} is {issuer}. Compare the last slash, too.")


def _known(declared: Item) -> Preset:
    if declared["preset"] not in PRESETS:
        fail(f"This program doesn't know the platform {declared['preset']}; bring it to the broker's version.")
    return PRESETS[declared["preset"]]


def _told(preset: Preset, claims: Mapping[str, Any], bound: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """What of the token is bound, and what could be, too."""
    width = max(len(claim.name) for claim in preset.claims)
    yield f"This token of {preset.title} shows what follows; a trust would bind what is marked:"
    for claim in preset.claims:
        shown = ", ".join(claim.shown(claims))
        values = " or ".join(bound.get(claim.name, ()))
        differs = f"  (the token has {shown or 'none'})" if values and values != shown else ""
        if values or shown:
            yield f"{'*' if values else ' '} {claim.name:{width}}  {values or shown}{differs}"


def _ask() -> None:
    if not sys.stdin.isatty():
        fail("Nobody can be asked here. Add --yes to bind what is marked.", Status.USAGE, "confirm")
    if not typer.confirm("Bind what is marked?", default=False, err=True):
        fail("Nothing was changed.", Status.REFUSED, "cancelled")
