"""What a platform's tokens say, and which of it a rule may bind.  Pure.

A rule names claims by short names, each with exact values.  There are no patterns, templates or paths: a rule means
what it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

Claims = Mapping[str, Any]
# Short names of claims, each with the values of which one has to be there.
Rule = Mapping[str, Sequence[str]]

VALUE_MAX: Final = 512
# What other products read as a pattern.  Here it is a character like others, which whoever writes it may not mean.
_SEEMS_A_PATTERN: Final = re.compile(r"[*?^$()|\[\]{}]")


class Kind(StrEnum):
    """The JSON type that a claim has to have.  Another one is no match, whatever it looks like."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    LIST = "list"
    TAGS = "tags"  # an object of names with texts, which a rule writes as name=text


class Star(StrEnum):
    """Where a rule's value may end in a star, which stands for the rest."""

    NEVER = ""
    IN_REF = "ref"  # within a Git reference's own name, as in refs/tags/v*
    SEGMENTS = "segments"  # for whole segments of a path


_STARRED: Final = {
    Star.IN_REF: re.compile(r"refs/(?:heads|tags)/[!-~]*\*"),
    Star.SEGMENTS: re.compile(r"spiffe://[a-z0-9._-]+/(?:[A-Za-z0-9._-]+/)+\*"),
}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim that a rule may bind, by its short ``name``.

    ``path`` is where it stands in the token.  A rule's value fits ``form`` whole; ``example`` shows one that does.
    """

    name: str
    path: tuple[str, ...]
    kind: Kind = Kind.TEXT
    form: str = "[!-~](?:[ -~]*[!-~])?"
    example: str = ""
    star: Star = Star.NEVER

    def shown(self, claims: Claims) -> Sequence[str]:
        """What a token says here, as a rule would write it.

        It is nothing if that is absent or of another type.
        """
        found: object = claims
        for step in self.path:
            if not isinstance(found, Mapping):
                return ()
            found = found.get(step)
        match self.kind, found:
            case Kind.TEXT, str() if found:
                return (found,)
            case Kind.FLAG, bool():
                return ("true" if found else "false",)
            case Kind.NUMBER, int() if not isinstance(found, bool):
                return (str(found),)
            case Kind.TAGS, dict():
                return tuple(f"{name}={text}" for name, text in found.items() if "=" not in name and _is_text(text))
            case Kind.LIST, list() if all(map(_is_text, found)):
                return tuple(found)
        return ()

    def fits(self, wanted: str, shown: str) -> bool:
        """Whether a rule's value is what a token shows."""
        if self.star and _STARRED[self.star].fullmatch(wanted):
            return shown.startswith(wanted[:-1])
        return wanted == shown

    def fault(self, wanted: str) -> str | None:
        """What is wrong with a rule's value, as what to write; None if nothing is."""
        if self.star and _STARRED[self.star].fullmatch(wanted):
            return None
        if len(wanted) > VALUE_MAX or not re.fullmatch(self.form, wanted):
            return f"{self.name}: write what the token has" + (f", such as {self.example}" if self.example else "")
        return None

    def warning(self, wanted: str) -> str | None:
        """What may be meant otherwise than it is taken."""
        starred = self.star and _STARRED[self.star].fullmatch(wanted)
        if starred or not _SEEMS_A_PATTERN.search(wanted):
            return None
        return f"{self.name}: `{wanted}` is taken as it stands; there are no patterns."


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a token is not taken: a word for programs, and a text that says what to change.

    ``claim`` is the short name of the claim that it is about, if it is about one.
    """

    code: str
    text: str
    claim: str = ""


def nothing(_claims: Claims, _bound: frozenset[str]) -> Unfit | None:
    """Refuses no token."""
    return None


@dataclass(frozen=True, slots=True)
class Preset:
    """A platform.

    Args:
        id: what an issuer's file calls it.
        title: what people call it.
        claims: all that a rule may bind.
        required: of each of these groups, every rule binds at least one.
        needs: what a rule has to bind, too, that binds the one; by itself that one says too little.
        identity: of what is required, what says whose the token is; empty for all of it.
        told: what of a token goes on the record: short names to paths.
        once: each token is good for one exchange, as the platform makes one for each request.
        lifetime_s: how many seconds a token may last.
        algorithms: what it signs with, unless an issuer's file says otherwise.
        audience: how a job asks the platform for a token for an audience.
        refuses: the platform's own refusals, by a token's claims and what a rule binds.
        beside: names with those that are proposed with them: without the second, the first can come to mean another.
    """

    id: str
    title: str
    claims: tuple[Claim, ...]
    required: tuple[tuple[str, ...], ...]
    told: Mapping[str, tuple[str, ...]]
    identity: frozenset[str] = frozenset()
    once: bool = False
    lifetime_s: int = 3_600
    algorithms: tuple[str, ...] = ("RS256",)
    audience: str = ""
    refuses: Callable[[Claims, frozenset[str]], Unfit | None] = nothing
    beside: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)

    def claim(self, name: str) -> Claim | None:
        """The claim of a short name."""
        return next((one for one in self.claims if one.name == name), None)

    @property
    def identifying(self) -> frozenset[str]:
        """Names of claims that say whose a token is: a stranger's differ in them."""
        return self.identity or frozenset(name for group in self.required for name in group)

    def identifies(self, rule: Rule, claims: Claims) -> bool:
        """Whether a token is of whom the rule is about, whatever else of it differs."""
        found = self.mismatch({name: rule[name] for name in rule if name in self.identifying}, claims)
        return found is None or found.claim not in self.identifying

    def faults(self, rule: Rule) -> list[str]:
        """What is wrong with a rule, a sentence each, with what to do."""
        known = {one.name: one for one in self.claims}
        found = [
            f"{name}: {self.title} has no such claim; take one of {', '.join(known)}"
            for name in rule
            if name not in known
        ]
        unbound = [group for group in self.required if not any(rule.get(name) for name in group)]
        found += [f"bind {' or '.join(group)}: a trust without it takes others' tokens, too" for group in unbound]
        found += [
            f"bind {other} beside {name}, which says too little by itself"
            for name, other in self.needs.items()
            if rule.get(name) and not rule.get(other)
        ]
        for name, values in rule.items():
            if name in known:
                found += [fault for value in values if (fault := known[name].fault(value))]
                if not values:
                    found.append(f"{name}: write at least one value, or leave it out")
        return found

    def warnings(self, rule: Rule) -> list[str]:
        """What of a rule may be meant otherwise than it is taken."""
        found = [(self.claim(name), value) for name, values in rule.items() for value in values]
        return [warning for claim, value in found if claim and (warning := claim.warning(value))]

    def mismatch(self, rule: Rule, claims: Claims) -> Unfit | None:
        """Why a token isn't what the rule binds; None if it is.

        What the rule expects is left out of the text: it goes to whoever brought the token.
        """
        for name in sorted(rule, key=lambda name: (name not in self.identifying, name)):
            if unfit := self.unfit(name, rule[name], claims):
                return unfit
        return self.refuses(claims, frozenset(rule))

    def unfit(self, name: str, values: Sequence[str], claims: Claims) -> Unfit | None:
        """Why a token has none of these values in a claim; None if it has one."""
        claim, shown = self.claim(name), self.shown(name, claims)
        if claim is None or not shown:
            return Unfit("claim_missing", f"The token has no {name}, or not as {self.title} writes it.", name)
        if not any(claim.fits(wanted, value) for wanted in values for value in shown):
            return Unfit("claim_differs", f"{name} is `{', '.join(shown)[:VALUE_MAX]}`; no trust takes it.", name)
        return None

    def proposed(self, claims: Claims) -> Rule:
        """A rule for just this token's bearer.

        It has of each group that has to be bound what the token has.  Where that is nothing, it isn't enough.
        """
        found: dict[str, Sequence[str]] = {}
        for group in self.required:
            name = next((one for one in group if self.shown(one, claims)), "")
            for each in filter(None, (name, self.beside.get(name), self.needs.get(name))):
                if shown := self.shown(each, claims):
                    found[each] = shown[:1]
        return found

    def shown(self, name: str, claims: Claims) -> Sequence[str]:
        """What a token says in a claim, as a rule would write it; nothing if it doesn't say it."""
        claim = self.claim(name)
        return claim.shown(claims) if claim else ()
