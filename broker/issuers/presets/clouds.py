"""Clouds, which give a machine or a function a token of the role that it has.  Pure."""

from __future__ import annotations

import re
from typing import Final

from broker.issuers.presets.model import Claim, Claims, Kind, Preset, Unfit

_STS: Final = "https://sts.amazonaws.com/"
_ENGINE: Final = ("google", "compute_engine")
_GUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ROLE: Final = r"arn:aws(?:-[a-z]+)*:iam::[0-9]{12}:role/[!-~]+"


def _aws(claims: Claims, _bound: frozenset[str]) -> Unfit | None:
    subject = claims.get("sub")
    if not isinstance(subject, str) or not re.fullmatch(_ROLE, subject):
        return Unfit(
            "claim_differs", "The token is of a user or an account's root. Give the job a role of its own.", "sub"
        )
    return None


def _google(claims: Claims, _bound: frozenset[str]) -> Unfit | None:
    if claims.get("azp") != claims.get("sub"):
        return Unfit("claim_differs", "The token is a person's. Give the job a service account.")
    return None


def _azure(claims: Claims, _bound: frozenset[str]) -> Unfit | None:
    if "scp" in claims or claims.get("idtyp", "app") != "app":
        return Unfit("claim_differs", "The token is a person's. Give the job a managed identity.", "oid")
    if f"/{claims.get('tid')}/" not in f"{claims.get('iss')}/":
        return Unfit("claim_differs", "The token's tid is another tenant than its issuer's.", "tid")
    return None


AWS: Final = Preset(
    "aws",
    "AWS",
    (
        Claim("sub", ("sub",), form=_ROLE, example="arn:aws:iam::123456789012:role/nightly"),
        Claim("account", (_STS, "aws_account"), form="[0-9]{12}", example="123456789012"),
        Claim("org_id", (_STS, "org_id"), form="o-[a-z0-9]{10,32}", example="o-abc1234567"),
        # Those of the role. What the caller adds are request_tags, which nothing can bind.
        Claim(
            "principal_tags",
            (_STS, "principal_tags"),
            kind=Kind.TAGS,
            form="[ -<>-~]{1,128}=[ -~]{1,256}",
            example="team=data",
        ),
        Claim("source_region", (_STS, "source_region"), form="[a-z0-9-]+", example="eu-west-1"),
        Claim("lambda", (_STS, "lambda_source_function_arn"), form="arn:[!-~]+"),
        Claim("instance", (_STS, "ec2_source_instance_arn"), form="arn:[!-~]+"),
    ),
    (("sub",), ("account",)),
    {
        "subject": ("sub",),
        "account": (_STS, "aws_account"),
        "lambda": (_STS, "lambda_source_function_arn"),
        "instance": (_STS, "ec2_source_instance_arn"),
    },
    once=True,
    algorithms=("RS256", "ES384"),
    audience="`aws sts get-web-identity-token --audience …`",
    refuses=_aws,
)
GOOGLE: Final = Preset(
    "google",
    "Google Cloud",
    (
        Claim("sub", ("sub",), form="[0-9]{10,30}", example="112900000000000000001"),
        Claim(
            "project_number", (*_ENGINE, "project_number"), kind=Kind.NUMBER, form="[0-9]{1,18}", example="987654321"
        ),
        Claim("instance_id", (*_ENGINE, "instance_id"), form="[0-9]{1,20}"),
        Claim("zone", (*_ENGINE, "zone"), form="[a-z0-9-]+", example="europe-west1-b"),
    ),
    (("sub",),),
    {"subject": ("sub",), "email": ("email",), "instance": (*_ENGINE, "instance_name"), "zone": (*_ENGINE, "zone")},
    identity=frozenset({"sub"}),
    audience="`audience=` in the request to the metadata server",
    refuses=_google,
)
AZURE: Final = Preset(
    "azure",
    "Azure",
    (
        Claim("tid", ("tid",), form=_GUID),
        Claim("oid", ("oid",), form=_GUID),
        Claim("resource", ("xms_mirid",), form="/subscriptions/[!-~]+"),
        Claim("appid", ("appid",), form=_GUID),
        Claim("azp", ("azp",), form=_GUID),
    ),
    (("tid",), ("oid",)),
    {"object": ("oid",), "tenant": ("tid",), "resource": ("xms_mirid",)},
    lifetime_s=90_000,
    audience="`resource=` in the request to the instance metadata service, an app registration of the tenant",
    refuses=_azure,
)
PRESETS: Final = (AWS, GOOGLE, AZURE)
