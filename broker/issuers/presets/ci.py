"""Platforms that build and deploy.  Pure.

What is signed for a run that a stranger started is refused, unless a rule binds just that.
"""

from __future__ import annotations

from typing import Final

from broker.issuers.presets.model import Claim, Claims, Kind, Preset, Star, Unfit

_DIGITS: Final = "[0-9]{1,20}"
# Started by whoever may write to the repository, or by a clock.
_GITHUB_EVENTS: Final = frozenset({"push", "schedule", "workflow_dispatch", "release", "deployment", "merge_group"})
_CIRCLE: Final = "oidc.circleci.com/"


def _named(*names: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,) for name in names}


def _github(claims: Claims, bound: frozenset[str]) -> Unfit | None:
    event = claims.get("event_name")
    if "event" not in bound and not (isinstance(event, str) and event in _GITHUB_EVENTS):
        return Unfit(
            "event_refused",
            f"The run was started by `{event}`, which strangers can do on some repositories. Start it by a push, a "
            "schedule, a release, a deployment or by hand, or have an admin bind `event`.",
            "event",
        )
    return None


def _gitlab(claims: Claims, bound: frozenset[str]) -> Unfit | None:
    elsewhere = claims.get("job_project_id", claims.get("project_id")) != claims.get("project_id")
    if elsewhere:
        return Unfit("event_refused", "The job runs in another project than its token is of, as a fork's does.")
    if claims.get("pipeline_source") == "merge_request_event" and "pipeline_source" not in bound:
        return Unfit(
            "event_refused",
            "The pipeline is of a merge request. Run it for a protected branch or tag, or have an admin bind "
            "`pipeline_source`.",
            "pipeline_source",
        )
    # GitLab writes it as a text.
    if claims.get("ref_protected") != "true" and "ref_protected" not in bound:
        return Unfit(
            "event_refused",
            "The branch or tag isn't protected. Protect it, or have an admin bind `ref_protected`.",
            "ref_protected",
        )
    return None


def _circleci(claims: Claims, bound: frozenset[str]) -> Unfit | None:
    if claims.get(f"{_CIRCLE}ssh-rerun") is not False and "ssh_rerun" not in bound:
        return Unfit("event_refused", "The job was run again with SSH, so somebody may be on it.", "ssh_rerun")
    return None


GITHUB: Final = Preset(
    "github-actions",
    "GitHub Actions",
    (
        Claim("repository_id", ("repository_id",), form=_DIGITS, example="456789"),
        Claim("repository_owner_id", ("repository_owner_id",), form=_DIGITS, example="123456"),
        Claim("environment", ("environment",), example="prod"),
        Claim("ref", ("ref",), form=r"refs/[!-~]+", example="refs/heads/main", star=Star.IN_REF),
        Claim("workflow", ("job_workflow_ref",), example="acme/sync/.github/workflows/n.yml@refs/heads/main"),
        Claim("workflow_sha", ("job_workflow_sha",), form="[0-9a-f]{40}|[0-9a-f]{64}"),
        Claim("event", ("event_name",), form="[a-z_]+", example="pull_request"),
        Claim("runner_environment", ("runner_environment",), form="github-hosted|self-hosted", example="github-hosted"),
        Claim("enterprise_id", ("enterprise_id",), form=_DIGITS),
        Claim("visibility", ("repository_visibility",), form="public|private|internal", example="private"),
    ),
    (("repository_id",), ("repository_owner_id",), ("environment", "ref", "workflow")),
    {
        **_named("repository", "repository_id", "ref", "sha", "environment", "event_name", "run_id", "run_attempt"),
        **_named("actor", "actor_id"),
        "workflow": ("job_workflow_ref",),
    },
    identity=frozenset({"repository_id", "repository_owner_id"}),
    once=True,
    lifetime_s=3_600,
    audience="`audience=` in the request to ACTIONS_ID_TOKEN_REQUEST_URL",
    refuses=_github,
)
GITLAB: Final = Preset(
    "gitlab",
    "GitLab",
    (
        Claim("project_id", ("project_id",), form=_DIGITS, example="28"),
        Claim("namespace_id", ("namespace_id",), form=_DIGITS, example="11"),
        Claim("environment", ("environment",), example="prod"),
        Claim("ref", ("ref",), example="main"),
        Claim("ref_type", ("ref_type",), form="branch|tag", example="branch"),
        Claim("ref_protected", ("ref_protected",), form="true|false", example="true"),
        Claim("environment_protected", ("environment_protected",), form="true|false", example="true"),
        Claim("pipeline_source", ("pipeline_source",), form="[a-z_]+", example="schedule"),
        Claim("config", ("ci_config_ref_uri",), example="gitlab.com/acme/sync//.gitlab-ci.yml@refs/heads/main"),
    ),
    (("project_id",), ("namespace_id",), ("environment", "ref")),
    {
        **_named("project_path", "project_id", "ref", "environment", "pipeline_id", "pipeline_source", "job_id", "sha"),
        **_named("user_login", "user_id"),
    },
    identity=frozenset({"project_id", "namespace_id"}),
    # A tag may have a branch's name.
    needs={"ref": "ref_type"},
    audience="`id_tokens: …: aud:` in .gitlab-ci.yml",
    refuses=_gitlab,
)
TERRAFORM: Final = Preset(
    "hcp-terraform",
    "HCP Terraform",
    (
        Claim("organization_id", ("terraform_organization_id",), form="org-[A-Za-z0-9]+", example="org-a1B2c3"),
        Claim("workspace_id", ("terraform_workspace_id",), form="ws-[A-Za-z0-9]+", example="ws-a1B2c3"),
        Claim("run_phase", ("terraform_run_phase",), form="plan|apply|test", example="apply"),
        Claim("project_id", ("terraform_project_id",), form="prj-[A-Za-z0-9]+", example="prj-a1B2c3"),
    ),
    (("organization_id",), ("workspace_id",), ("run_phase",)),
    {
        "workspace_id": ("terraform_workspace_id",),
        "run_id": ("terraform_run_id",),
        "run_phase": ("terraform_run_phase",),
        "subject": ("sub",),
    },
    identity=frozenset({"organization_id", "workspace_id"}),
    lifetime_s=86_400,
    audience="`TFC_WORKLOAD_IDENTITY_AUDIENCE` of the workspace",
)
BUILDKITE: Final = Preset(
    "buildkite",
    "Buildkite",
    (
        Claim("organization_id", ("organization_id",), form="[0-9a-f-]{36}"),
        Claim("pipeline_id", ("pipeline_id",), form="[0-9a-f-]{36}"),
        Claim("branch", ("build_branch",), example="main"),
        Claim("step", ("step_key",), example="run"),
        Claim("cluster_id", ("cluster_id",), form="[0-9a-f-]{36}"),
    ),
    (("organization_id",), ("pipeline_id",)),
    _named("organization_slug", "pipeline_slug", "pipeline_id", "build_number", "build_branch", "job_id", "agent_id"),
    identity=frozenset({"organization_id", "pipeline_id"}),
    lifetime_s=7_200,
    audience="`buildkite-agent oidc request-token --audience … --claim organization_id --claim pipeline_id`",
)
CIRCLECI: Final = Preset(
    "circleci",
    "CircleCI",
    (
        Claim("project_id", (f"{_CIRCLE}project-id",), form="[0-9a-f-]{36}"),
        # Where forks' builds get secrets, only this tells them from one's own.
        Claim("vcs_origin", (f"{_CIRCLE}vcs-origin",), example="github.com/acme/sync"),
        Claim("vcs_ref", (f"{_CIRCLE}vcs-ref",), example="refs/heads/main", star=Star.IN_REF),
        Claim("context_ids", (f"{_CIRCLE}context-ids",), kind=Kind.LIST, form="[0-9a-f-]{36}"),
        Claim("ssh_rerun", (f"{_CIRCLE}ssh-rerun",), kind=Kind.FLAG, form="true|false", example="false"),
    ),
    (("project_id",),),
    {
        "subject": ("sub",),
        "project_id": (f"{_CIRCLE}project-id",),
        "vcs_origin": (f"{_CIRCLE}vcs-origin",),
        "vcs_ref": (f"{_CIRCLE}vcs-ref",),
    },
    lifetime_s=7_200,
    audience="`circleci run oidc get --claims '{\"aud\": …}'`",
    refuses=_circleci,
)
PRESETS: Final = (GITHUB, GITLAB, TERRAFORM, BUILDKITE, CIRCLECI)
