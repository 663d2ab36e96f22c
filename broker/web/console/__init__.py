"""The console: pages for people at the vendor, each another rendering of the API's answers.

A page asks the API's own functions in its process, as the caller that the API's own dependencies established.  So it
has no rules, and shows nobody more than the API does.
"""

from fastapi import APIRouter

from broker.web.console import (
    accounts,
    audit,
    dry_run,
    grants,
    incidents,
    invitations,
    jobs,
    keys,
    leases,
    new_grant,
    new_job,
    organizations,
    overview,
    page,
    requests,
    reviews,
    scripts,
    settings,
    tighten,
    trusts,
    webhooks,
    work,
)

ROUTERS: tuple[APIRouter, ...] = (
    page.router,
    scripts.router,
    overview.router,
    organizations.router,
    keys.router,
    requests.router,
    new_job.router,  # Before what takes a job's name there.
    jobs.router,
    trusts.router,
    dry_run.router,  # These two before what takes a grant's id there.
    new_grant.router,
    grants.router,
    tighten.router,
    leases.router,
    incidents.router,
    reviews.router,
    audit.router,
    invitations.router,
    accounts.router,  # After these: an account's id is any word to it.
    settings.router,
    work.router,
    webhooks.router,
    page.nowhere,  # Last: it takes what no other has.
)
