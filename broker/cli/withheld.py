"""What is withheld from a command under ``broker exec``: proofs of the job's identity.

The command has one access, for a while.  With a proof of the job's identity it could get more by itself, from the
broker or from anything else that takes such proofs.  These kinds of variables go:

* those with which one can ask a platform for a token to anybody (GitHub's request address and token, Azure DevOps'
  system token, Buildkite's agent token, SPIFFE's Workload API);
* tokens whose audience the platform sets, so that nobody can tell whom they are for (CircleCI, HCP Terraform, …);
* what the job's own source of tokens reads, whatever it is called;
* tokens for the broker, by RFC 7519's ``aud`` and whatever the variable is called (in GitLab a pipeline names it).

The job's own access to somebody else stays, because the command may well need it: tokens for another audience
(Vault's, Sigstore's), ``AWS_WEB_IDENTITY_TOKEN_FILE``, ``AWS_CONTAINER_CREDENTIALS_*``,
``GOOGLE_APPLICATION_CREDENTIALS``, ``AZURE_FEDERATED_TOKEN_FILE``, ``CI_JOB_TOKEN``.  Nobody looks into files: their
permissions say what the command may read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from broker.client.platform.claims import unverified

_ASKS_FOR_ANY_AUDIENCE = (
    "ACTIONS_ID_TOKEN_.*",  # GitHub, Forgejo, Gitea
    "SYSTEM_ACCESSTOKEN",  # Azure DevOps; also its REST API
    "SYSTEM_OIDCREQUESTURI",
    "BUILDKITE_AGENT_ACCESS_TOKEN",  # also artifacts and meta-data
    "SPIFFE_ENDPOINT_SOCKET",
)
_AUDIENCE_IS_THE_PLATFORMS = (
    "BITBUCKET_STEP_OIDC_TOKEN",
    "CI_JOB_JWT(_V[12])?",  # GitLab before 17
    "CIRCLE_OIDC_TOKEN(_V2)?",
    "SEMAPHORE_OIDC_TOKEN",
    "SPACELIFT_OIDC_TOKEN",
    "TFC_WORKLOAD_IDENTITY_TOKEN(_.*)?",
    "VERCEL_OIDC_TOKEN",
)
_NAMES = re.compile("|".join(_ASKS_FOR_ANY_AUDIENCE + _AUDIENCE_IS_THE_PLATFORMS))
_OURS = "BROKER_"


def without_identity(
    environment: Mapping[str, str],
    audiences: Collection[str],
    keep: Collection[str] = (),
    *,
    sources: Collection[str] = (),
) -> dict[str, str]:
    """``environment`` without proofs of who the job is, and without the broker's own settings.

    Args:
        environment: the job's.
        audiences: whom a proof is for: the broker's addresses.
        keep: names that stay all the same.  The broker's own settings go even if they are named.
        sources: names of what gives the job its proofs.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OURS)
        and (name in keep or not (_NAMES.fullmatch(name) or name in sources or _is_for(audiences, value)))
    }


def _is_for(audiences: Collection[str], value: str) -> bool:
    """Whether ``value`` is a JWT for one of these, or for an address below it."""
    claims = unverified(value)
    named = claims.get("aud") if claims else None
    theirs = [one.rstrip("/") + "/" for one in (named if isinstance(named, list) else [named]) if isinstance(one, str)]
    return any(one.startswith(f"{ours.rstrip('/')}/") for one in theirs for ours in audiences)
