"""/v1/providers: the upstreams that are declared."""

from __future__ import annotations

from fastapi import APIRouter

from broker.providers.definition import Definition
from broker.web.api.fields import Cursor, Limit, Page, ReferencePath, View, after, page
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
async def listed(call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "") -> Page[ProviderView]:
    """Every declared upstream, by its id."""
    position = after(cursor)
    rest = [definition for definition in call.services.parts.catalog if definition.id > position]
    return page(rest, limit, show, lambda definition: definition.id)


@router.get("/{provider}")
async def one(provider: ReferencePath, call: ByAnyRole) -> ProviderView:
    """One declared upstream."""
    return show(call.services.parts.catalog.get(provider))
