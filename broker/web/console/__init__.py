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
    organizations,
    overview,
    page,
    requests,
    scripts,
    reviews,
    settings,
    work,
    tighten,
)

ROUTERS: tuple[APIRouter, ...] = (
    page.router,
    scripts.router,
    overview.router,
    organizations.router,
    keys.router,
    requests.router,
    jobs.router,
    dry_run.router,  # Before what takes a grant's id there.
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
    page.nowhere,  # Last: it takes what no other has.
)
