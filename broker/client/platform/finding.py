"""Which platform a job runs on, told by what is there; nobody is asked over a network.

A platform that is recognised but gives no token ends the search.  GitHub's machines are Azure's and GitLab's are
Google's: their metadata services would tell who owns the machine, not who the job is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.base import variables
from broker.client.platform import clouds, github
from broker.client.platform.source import no_token
from broker.formats.identity_file import TokenSource

PROJECTED: Final = "var/run/secrets/keybroker/token"
# HCP Terraform writes a token for each audience that the workspace names, under its tag.
_TERRAFORM: Final = ("TFC_WORKLOAD_IDENTITY_TOKEN_BROKER", "TFC_WORKLOAD_IDENTITY_TOKEN")
_CIRCLECI: Final = ("CIRCLE_OIDC_TOKEN_V2", "CIRCLE_OIDC_TOKEN")
_CLOUD_RUN: Final = ("K_SERVICE", "CLOUD_RUN_JOB", "GAE_SERVICE", clouds.GOOGLE_HOST)
_AWS: Final = (
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)
# What the firmware of a machine says of its maker (SMBIOS), by the file's name.
_MACHINES: Final = {
    "gcp": ("product_name", "Google Compute Engine"),
    "aws": ("sys_vendor", "Amazon EC2"),
    "azure": ("chassis_asset_tag", "7783-7084-3265-9085-8269-3286-77"),
}


@dataclass(frozen=True, slots=True)
class _Platform:
    """A platform that a variable tells, and how its jobs get a token for the broker."""

    name: str
    told_by: str
    fix: str


def _platforms(audience: str) -> tuple[_Platform, ...]:
    ours = variables.ID_TOKEN
    return (
        _Platform("GitHub Actions", "GITHUB_ACTIONS", github.FIX),
        _Platform("GitLab", "GITLAB_CI", f"Give the job `id_tokens: {{{ours}: {{aud: {audience}}}}}`."),
        _Platform(
            "CircleCI",
            "CIRCLECI",
            f'Run `export {ours}="$(circleci run oidc get --claims \'{{"aud": "{audience}"}}\')"` before.',
        ),
        _Platform(
            "Buildkite",
            "BUILDKITE",
            f'Run `export {ours}="$(buildkite-agent oidc request-token --audience {audience} --claim organization_id '
            '--claim pipeline_id)"` before.',
        ),
        _Platform(
            "HCP Terraform",
            "TFC_RUN_ID",
            f"Give the workspace the environment variable TFC_WORKLOAD_IDENTITY_AUDIENCE_BROKER={audience}.",
        ),
        _Platform(
            "Kubernetes",
            "KUBERNETES_SERVICE_HOST",
            f"Give the pod a projected volume at /{PROJECTED.rpartition('/')[0]} with `serviceAccountToken: {{path: "
            f"token, audience: {audience}, expirationSeconds: 3600}}`.",
        ),
    )


def found(environment: Mapping[str, str], audience: str, root: Path = Path("/")) -> TokenSource:
    """Where the platform that this runs on has its token.

    Args:
        environment: what the platform set.
        audience: the broker's address, for the text of the error.
        root: where files are looked for.

    Raises:
        CallFailed: nothing was found; the text has what was looked for, and what to do on each platform.
    """
    if source := _given(environment, root):
        return source
    platforms = _platforms(audience)
    here = next((one for one in platforms if environment.get(one.told_by)), None)
    if here is not None:
        raise no_token(f"This runs on {here.name}, which gave it no token for the broker. {here.fix}")
    if source := _cloud(environment, root):
        return source
    raise no_token(_nothing(platforms))


def _given(environment: Mapping[str, str], root: Path) -> TokenSource | None:
    """The source of a token that was made for a job."""
    if environment.get(variables.ID_TOKEN):
        return TokenSource("env", variables.ID_TOKEN)
    if environment.get(github.URL) and environment.get(github.BEARER):
        return TokenSource("github")
    if name := next((name for name in (*_TERRAFORM, *_CIRCLECI) if environment.get(name)), None):
        return TokenSource("env", name)
    if (projected := root / PROJECTED).is_file():
        return TokenSource("file", str(projected))
    return None


def _cloud(environment: Mapping[str, str], root: Path) -> TokenSource | None:
    """The cloud whose machine, function or service this is."""
    if environment.get(clouds.ENDPOINT) and environment.get(clouds.SECRET):
        return TokenSource("azure")
    if any(environment.get(name) for name in _CLOUD_RUN):
        return TokenSource("gcp")
    if any(environment.get(name) for name in _AWS):
        return TokenSource("aws")
    kind = next((kind for kind, (file, told) in _MACHINES.items() if _says(root, file) == told), None)
    return TokenSource(kind) if kind else None


def _says(root: Path, file: str) -> str:
    try:
        return (root / "sys/class/dmi/id" / file).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _nothing(platforms: tuple[_Platform, ...]) -> str:
    looked = [variables.ID_TOKEN, github.URL, *_TERRAFORM, *_CIRCLECI, f"/{PROJECTED}", clouds.ENDPOINT]
    looked += [*_CLOUD_RUN, *_AWS, "the firmware's name of a cloud"]
    lines = [f"{one.name}: {one.fix}" for one in platforms]
    lines += [
        "Google Cloud, Azure, AWS: name the source: --token-from gcp, azure or aws.",
        "SPIFFE: --token-from spiffe-file:PATH of what spiffe-helper writes.",
        f"Elsewhere: put a token for this broker into {variables.ID_TOKEN}, or name its file: --token-from file:PATH.",
    ]
    return f"No platform's token was found. Looked for: {', '.join(looked)}.\n" + "\n".join(lines)
