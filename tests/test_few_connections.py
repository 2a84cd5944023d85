"""A PostgreSQL server with three free connections: events wait, and none is lost."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from sync_service.dsn import parse_dsn
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.migrate import migrate
from sync_service.settings import Settings
from tests.world import SECRET, encode_body, make_event, make_message_id, run_world


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with run_embedded_postgres(tmp_path / "postgres", settings={"max_connections": "10", "fsync": "off"}) as server:
        yield server


async def test_two_hundred_webhooks_share_three_connections(small_server: EmbeddedServer) -> None:
    """Each of 200 concurrent webhooks gets 200 or 503, and all are applied after retries (DB3)."""
    db = await asyncpg.connect(small_server.dsn())
    others = [await asyncpg.connect(small_server.dsn()) for _ in range(6)]
    try:
        await migrate(db)
        await create_table(db, DEFAULT)
        settings = Settings(database=parse_dsn(small_server.dsn()), clerk_webhook_signing_secrets=(SECRET,))
        async with run_world(settings, db) as world:
            pending = {
                make_message_id(): encode_body(make_event("user.created", f"user_{number}")) for number in range(200)
            }
            for _ in range(20):
                sent = list(pending.items())
                responses = await asyncio.gather(*(world.deliver(body, message_id) for message_id, body in sent))
                assert {response.status_code for response in responses} <= {200, 503}
                for (message_id, _), response in zip(sent, responses, strict=True):
                    if response.status_code == 200:
                        del pending[message_id]
                if not pending:
                    break
                await asyncio.sleep(0.2)
            assert not pending
            assert len(await world.get_users()) == 200
            ours = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
            assert await db.fetchval(ours) <= 10
            await world.check_invariants()
    finally:
        for other in (db, *others):
            await other.close()
