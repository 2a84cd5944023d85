"""A server with hardly a connection left (SCENARIOS DB3): some wait, none is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.embedded import Embedded, embedded_postgres
from sync_service.postgres.schema import create_users, migrate
from sync_service.settings import Settings
from tests.world import SECRET, encode_body, make_event, make_message_id, run_world


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[Embedded]:
    with embedded_postgres(tmp_path / "postgres", settings={"max_connections": "10", "fsync": "off"}) as server:
        yield server


async def test_two_hundred_at_once_with_three_connections_left(narrow: Embedded) -> None:
    """DB3."""
    db = await asyncpg.connect(narrow.dsn())
    others = [await asyncpg.connect(narrow.dsn()) for _ in range(6)]
    try:
        await migrate(db)
        await create_users(db, DEFAULT)
        settings = Settings(database=clean_dsn(narrow.dsn()), clerk_webhook_signing_secrets=(SECRET,))
        async with run_world(settings, db) as world:
            left = {
                make_message_id(): encode_body(make_event("user.created", f"user_{number}")) for number in range(200)
            }
            for _ in range(20):
                sent = list(left.items())
                answers = await asyncio.gather(*(world.deliver(body, message_id) for message_id, body in sent))
                assert {answer.status_code for answer in answers} <= {200, 503}
                for (message_id, _), answer in zip(sent, answers, strict=True):
                    if answer.status_code == 200:
                        del left[message_id]
                if not left:
                    break
                await asyncio.sleep(0.2)
            assert not left
            assert len(await world.get_users()) == 200
            ours = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
            assert await db.fetchval(ours) <= 10
            await world.check_invariants()
    finally:
        for other in (db, *others):
            await other.close()
