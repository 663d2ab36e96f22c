"""Clusters and meshes, and issuers of no platform that is known here.  Pure."""

from __future__ import annotations

import re
from typing import Final

from broker.issuers.presets.model import Claim, Claims, Preset, Star, Unfit

_OBJECT: Final = "kubernetes.io"
_LABEL: Final = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_UID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SPIFFE_ID: Final = re.compile(r"spiffe://([a-z0-9._-]{1,255})((?:/[A-Za-z0-9._-]+)+)")


def _pods(claims: Claims, bound: frozenset[str]) -> Unfit | None:
    found = claims.get(_OBJECT)
    account = found.get("serviceaccount") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(account, dict):
        return Unfit("claim_missing", "The token is no service account's: it has no kubernetes.io object.")
    if claims.get("sub") != f"system:serviceaccount:{found.get('namespace')}:{account.get('name')}":
        return Unfit("claim_differs", "The token's sub is another service account's than its kubernetes.io object.")
    if not isinstance(found.get("pod"), dict) and "pod" not in bound:
        return Unfit(
            "pod_missing",
            "The token is bound to no pod: somebody made it by hand, and it outlives every pod. Take the one that a "
            "projected volume has.",
            "pod",
        )
    return None


def _svid(claims: Claims, _bound: frozenset[str]) -> Unfit | None:
    subject = claims.get("sub")
    found = SPIFFE_ID.fullmatch(subject) if isinstance(subject, str) else None
    if found is None or not {".", ".."}.isdisjoint(found[2].split("/")):
        return Unfit("claim_differs", "sub is no SPIFFE id, or none of a workload.", "sub")
    return None


KUBERNETES: Final = Preset(
    "kubernetes",
    "Kubernetes",
    (
        Claim("namespace", (_OBJECT, "namespace"), form=_LABEL, example="sync"),
        Claim("serviceaccount", (_OBJECT, "serviceaccount", "name"), form=_LABEL, example="nightly"),
        Claim("serviceaccount_uid", (_OBJECT, "serviceaccount", "uid"), form=_UID),
        Claim("pod", (_OBJECT, "pod", "name"), form=_LABEL),
        Claim("node", (_OBJECT, "node", "name"), form=_LABEL),
    ),
    (("namespace",), ("serviceaccount",)),
    {
        "namespace": (_OBJECT, "namespace"),
        "serviceaccount": (_OBJECT, "serviceaccount", "name"),
        "serviceaccount_uid": (_OBJECT, "serviceaccount", "uid"),
        "pod": (_OBJECT, "pod", "name"),
        "pod_uid": (_OBJECT, "pod", "uid"),
        "node": (_OBJECT, "node", "name"),
    },
    lifetime_s=86_400,
    audience="a projected volume with that `audience`, and `expirationSeconds: 3600`",
    refuses=_pods,
    beside={"serviceaccount": "serviceaccount_uid"},
)
SPIFFE: Final = Preset(
    "spiffe",
    "SPIFFE",
    (
        Claim(
            "sub",
            ("sub",),
            form=SPIFFE_ID.pattern,
            example="spiffe://prod.vendor.example/ns/sync/sa/nightly",
            star=Star.SEGMENTS,
        ),
    ),
    (("sub",),),
    {"subject": ("sub",)},
    lifetime_s=86_400,
    algorithms=("RS256", "ES256"),
    audience="a JWT-SVID with that `-audience`",
    refuses=_svid,
)
OIDC: Final = Preset(
    "oidc",
    "OpenID Connect",
    (Claim("sub", ("sub",)), Claim("client", ("azp",)), Claim("email", ("email",))),
    (("sub",),),
    {"subject": ("sub",)},
    audience="a token whose `aud` is that",
)
PRESETS: Final = (KUBERNETES, SPIFFE, OIDC)
