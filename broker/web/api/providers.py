"""/v1/providers: the upstreams that are declared."""

from __future__ import annotations

from fastapi import APIRouter

from broker.providers.definition import Definition
from broker.web.api.fields import Cursor, Limit, Page, ReferencePath, View, after, page
from broker.web.callers import ByAnyRole

router = APIRouter(prefix="/v1/providers", tags=["providers"])


class ProviderView(View):
    """A declared upstream."""

    id: str
    title: str
    docs: str
    base_url: str
    placement: str
    variables: list[str]
    rotation_days: int | None
    presets: list[str]


def show(definition: Definition) -> ProviderView:
    return ProviderView(
        id=definition.id,
        title=definition.title,
        docs=str(definition.docs),
        base_url=definition.host.base_url,
        placement=definition.auth.placement,
        variables=sorted(definition.host.variables),
        rotation_days=definition.rotation.interval_days if definition.rotation else None,
        presets=sorted(definition.presets),
    )


@router.get("", summary="List providers")
async def listed(call: ByAnyRole, limit: Limit = 100, cursor: Cursor = "") -> Page[ProviderView]:
    """Every upstream that is declared by a provider file, bundled or your own."""
    position = after(cursor)
    rest = [definition for definition in call.services.parts.catalog if definition.id > position]
    return page(rest, limit, show, lambda definition: definition.id)


@router.get("/{provider}", summary="Show a provider")
async def one(provider: ReferencePath, call: ByAnyRole) -> ProviderView:
    """One declared upstream.

    It has an address, a place for keys in a call, and an interval after which they are replaced.
    """
    return show(call.services.parts.catalog.get(provider))
