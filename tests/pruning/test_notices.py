"""Notices and their deliveries."""

from __future__ import annotations

from broker.base.clock import Millis
from broker.formats.ids import CredentialId, DeliveryId, NoId, NoticeId
from broker.notifications.tables import DeliveryRow, NoticeRow
from tests.pruning.conftest import Rows, ago


async def notice(
    kept: Rows,
    created_at: Millis,
    *,
    fanned_out: bool = True,
    credential: CredentialId | NoId = "",
    dedup: str = "",
) -> NoticeId:
    named = kept.id_at(NoticeId, created_at)
    row = NoticeRow(
        id=named,
        organization_id=kept.organization,
        kind="key_overdue",
        credential_id=credential,
        version=1 if credential else 0,
        provider="",
        dedup=dedup or named,
        fanned_out_at=created_at if fanned_out else None,
        created_at=created_at,
    )
    await kept.add(row)
    return named


async def delivery(kept: Rows, of: NoticeId, created_at: Millis, state: str, settled_at: Millis | None) -> DeliveryId:
    named = kept.id_at(DeliveryId, created_at)
    row = DeliveryRow(
        id=named,
        organization_id=kept.organization,
        notice_id=of,
        channel="webhook",
        destination=named,
        queue="",
        audience="operators",
        state=state,
        tries=1,
        next_try_at=0,
        last_error="",
        created_at=created_at,
        settled_at=settled_at,
    )
    await kept.add(row)
    return named


async def test_what_everybody_was_told_of_goes(kept: Rows) -> None:
    old, lately = await notice(kept, ago(91)), await notice(kept, ago(89))
    await delivery(kept, old, ago(91), "sent", ago(91))
    await delivery(kept, old, ago(91), "dead", ago(90.5))
    left = await delivery(kept, lately, ago(89), "sent", ago(89))
    for _ in range(2):
        await kept.prune("deliveries")
        await kept.prune("notices")
        assert await kept.left(NoticeRow.id) == {lately}
        assert await kept.left(DeliveryRow.id) == {left}


async def test_what_somebody_is_yet_to_be_told_of_stays(kept: Rows) -> None:
    nobody_yet = await notice(kept, ago(200), fanned_out=False)
    waits, again = await notice(kept, ago(200)), await notice(kept, ago(200))
    pending = await delivery(kept, waits, ago(200), "pending", None)
    lately = await delivery(kept, again, ago(200), "sent", ago(3))
    await kept.prune("deliveries")
    await kept.prune("notices")
    assert await kept.left(NoticeRow.id) == {nobody_yet, waits, again}
    assert await kept.left(DeliveryRow.id) == {pending, lately}


async def test_what_is_told_once_of_a_key_is_not_told_again_while_the_key_is_in_use(kept: Rows) -> None:
    used, over = await kept.credential(), await kept.credential()
    await kept.version(used)
    await kept.version(over, state="revoked")
    stays = await notice(kept, ago(200), credential=used, dedup=f"key_overdue/{used}/1")
    await notice(kept, ago(200), credential=used)
    await notice(kept, ago(200), credential=over, dedup=f"key_overdue/{over}/1")
    sent = await delivery(kept, stays, ago(200), "sent", ago(200))
    await kept.prune("deliveries")
    await kept.prune("notices")
    assert await kept.left(NoticeRow.id) == {stays}
    assert sent not in await kept.left(DeliveryRow.id)
