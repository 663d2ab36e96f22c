"""JSON: bodies and routes together, one file a resource; mounts the routers."""

from fastapi import APIRouter

from broker.web.api import (
    audit,
    certificates,
    credentials,
    dependents,
    exposures,
    grants,
    health,
    holds,
    intakes,
    keys,
    leaks,
    leases,
    log,
    notices,
    oauth,
    operators,
    organizations,
    proofs,
    providers,
    rotations,
    webhooks,
    workloads,
)

ROUTERS: tuple[APIRouter, ...] = (
    leases.router,  # First: routes are matched in order, and this one is asked most.
    operators.router,
    organizations.router,
    providers.router,
    workloads.router,
    grants.router,
    intakes.router,
    credentials.router,
    certificates.router,
    keys.router,
    rotations.router,
    exposures.router,
    dependents.router,
    notices.router,
    leaks.router,
    webhooks.router,
    audit.router,
    holds.router,
    proofs.router,
    log.router,
    oauth.router,
    health.router,
)
