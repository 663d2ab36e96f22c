"""Links as a status page issues them, and as they were before they named a recipient."""

from __future__ import annotations

from typing import Any

from broker.base.db import EVERY_TENANT
from broker.formats import base64url, intake_seal, link_proof, link_secret
from broker.intake.proving import proof_hash
from broker.intake.status_codes import status_secret
from broker.intake.tables import IntakeRow
from tests.support.world import World


def following(answer: dict[str, Any], code: str) -> tuple[str, str]:
    """The next link of the holder of a code: its intake and secret, as the page makes it."""
    seal = answer["seal"]
    public = base64url.decode(seal["public_key"])
    recipient = link_secret.recipient_of(public, intake_seal.SealContext(**seal["context"]))
    secret = link_proof.next_secret(link_proof.key_of(code), answer["intake"], recipient)
    return answer["intake"], link_secret.link(secret, recipient)


async def old_link(world: World, slug: str) -> tuple[str, str]:
    """A request whose link is of version 1, made before the broker knew of others."""
    intake, _ = await world.request_key(slug)
    secret = link_secret.new()
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        row = await session.get_one(IntakeRow, intake)
        row.link_key = None
        row.proof_hash = proof_hash(world.services.parts.keys.proof, link_secret.proof(secret))
    return intake, secret


async def old_status_link(world: World, intake: str) -> str:
    """The secret of the status link that a submission was given before there were codes."""
    async with world.services.parts.db.write(EVERY_TENANT) as session:
        row = await session.get_one(IntakeRow, intake)
        row.status_key = None
    return status_secret(world.services.parts.keys.status, row)
