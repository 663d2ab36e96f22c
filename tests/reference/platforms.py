"""The page of platforms whose tokens jobs may bring."""

from __future__ import annotations

from collections.abc import Iterator

from broker.issuers.files import load
from broker.issuers.presets import PRESETS
from broker.issuers.presets.model import Claim, Preset, Star
from tests.reference.markdown import code, page, table

ABOUT = """\
A trust binds claims of a platform's tokens to exact values: `broker trust add JOB --issuer ID --CLAIM VALUE`. Its
issuer's file says `preset = "…"`, and the preset decides what is below. `broker trust add --from-token FILE` proposes
the values from a real token, and `broker trust explain` tries one. How to set up each platform stands in the how-to
guides."""
_STARS = {
    Star.IN_REF: "a value may end in a star within a ref's own name, as in `refs/tags/v*`",
    Star.SEGMENTS: "a value may end in `/*`, for whole segments below at least one",
}


def made() -> str:
    """The page."""
    return page("Platforms", ABOUT, *map(_of, PRESETS.values()))


def _of(preset: Preset) -> str:
    bundled = [code(one.id) for one in load() if one.preset == preset.id]
    comes = f" The issuer {' and '.join(bundled)} comes with the broker." if bundled else ""
    title = "Other issuers" if preset.id == "oidc" else preset.title
    groups = ", and ".join(" or ".join(map(code, group)) for group in preset.required)
    used = "once" if preset.once else "as often as the job likes while it lasts"
    facts = (
        f'`preset = "{preset.id}"`.{comes} Every trust binds {groups}. A token is good {used}, for at most '
        f"{preset.lifetime_s} seconds in all, signed with {' or '.join(preset.algorithms)}; an issuer's file may say "
        f"otherwise. A job asks for one for the broker by {preset.audience}."
    )
    return f"## {title}\n\n{facts}\n\n" + table(("claim", "option", "in the token", "notes"), map(_row, preset.claims))


def _row(claim: Claim) -> tuple[str, str, str, str]:
    return (
        code(claim.name),
        code(f"--{claim.name.replace('_', '-')}"),
        " › ".join(map(code, claim.path)),
        "; ".join(_notes(claim)),
    )


def _notes(claim: Claim) -> Iterator[str]:
    if claim.example:
        yield f"such as {code(claim.example)}"
    if claim.kind != "text":
        yield f"a {claim.kind}"
    if claim.star:
        yield _STARS[claim.star]
