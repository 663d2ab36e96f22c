"""/v1/providers: the upstreams that are declared."""

from __future__ import annotations

from fastapi import APIRouter

from broker.providers.definition import Definition
from broker.web.api.fields import Page, ReferencePath, View
from broker.web.callers import SECURED, ByAnyRole

router = APIRouter(prefix="/v1/providers", tags=["providers"], dependencies=SECURED)


class ProviderView(View):
    """A declared upstream."""

    id: str
    title: str
    docs: str
    base_url: str
    placement: str
    variables: list[str]
    rotation_days: int | None


def show(definition: Definition) -> ProviderView:
    return ProviderView(
        id=definition.id,
        title=definition.title,
        docs=str(definition.docs),
        base_url=definition.host.base_url,
        placement=definition.auth.placement,
        variables=sorted(definition.host.variables),
        rotation_days=definition.rotation.interval_days if definition.rotation else None,
    )


@router.get("")
async def listed(call: ByAnyRole) -> Page[ProviderView]:
    """Every declared upstream."""
    return Page(items=[show(definition) for definition in call.services.parts.catalog], next=None)


@router.get("/{provider}")
async def one(provider: ReferencePath, call: ByAnyRole) -> ProviderView:
    """One declared upstream."""
    return show(call.services.parts.catalog.get(provider))
