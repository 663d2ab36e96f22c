"""The record that these tests write."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from broker.audit.log import AuditLog
from broker.base.db import Database


@pytest.fixture
async def log(db: Database) -> AsyncIterator[AuditLog]:
    made = AuditLog(db, deadline=20)  # which a busy machine doesn't reach: here no is never for being late
    await made.start()
    yield made
    await made.stop()
