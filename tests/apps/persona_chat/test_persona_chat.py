"""A persona chat: two levels of cascade below users with very many rows."""

import asyncio
import shutil
import signal
from pathlib import Path

import asyncpg
import httpx2
import pytest

from sync_service.web.limits import TimeLimits
from tests.apps.shapes import FOLDER, PERSONA, Shape
from tests.conftest import Serve
from tests.processes import start_command
from tests.world import (
    PII_SENTINEL,
    SECRET,
    T1,
    T2,
    World,
    encode_body,
    make_email_fields,
    make_event,
    make_message_id,
    sign_event,
    wait_until,
)

EACH = 100


@pytest.fixture
def shape() -> Shape:
    return PERSONA


async def insert_messages(db: asyncpg.Connection, user: str, conversations: int) -> None:
    """Insert a hundred messages of the user in each of so many conversations."""
    await db.execute("insert into rate_limits (user_id) values ($1)", user)
    await db.execute(
        "insert into conversations (user_id, title) select $1, n from generate_series(1, $2::integer) n",
        user,
        conversations,
    )
    await db.execute(
        f"insert into messages (conversation_id, author, content) select id, 'user', rpad(n::text, 100, '.')"
        f" from conversations cross join generate_series(1, {EACH}) n where user_id = $1",
        user,
    )
    await db.execute("analyze messages, conversations")


async def count_rows(db: asyncpg.Connection, user: str) -> tuple[int, ...]:
    """Return the number of the user's rows in each table, all from one snapshot."""
    row = await db.fetchrow(
        "select (select count(*) from users where id = $1) as users,"
        " (select count(*) from rate_limits where user_id = $1) as limits,"
        " (select count(*) from conversations where user_id = $1) as conversations,"
        " (select count(*) from messages) as messages",
        user,
    )
    assert row
    return tuple(row)


async def test_a_preset_s_placeholder_is_only_for_not_null_columns(world: World) -> None:
    """The email of this table may be NULL, so a user without one has NULL."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    row = await world.get_user("user_1")
    assert row
    assert row["email"] is None


async def test_a_deletion_of_200_000_messages_delays_no_response(serve: Serve, db: asyncpg.Connection) -> None:
    """The deletion is acknowledged, finished in the background, and never visible half done (K3)."""
    async with serve(limits=TimeLimits(deletion=0.05)) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        await insert_messages(db, "user_1", 2000)
        whole = await count_rows(db, "user_1")
        assert whole == (1, 1, 2000, 200_000)
        message_id = make_message_id()
        deletion = asyncio.create_task(world.deliver(make_event("user.deleted", "user_1"), message_id))
        seen, number, answered_first = set(), 0, False
        while True:
            answered = deletion.done()
            now = await count_rows(db, "user_1")
            if now == (0, 0, 0, 0):
                break
            seen.add(now)
            answered_first = answered_first or answered
            number += 1
            assert await world.deliver_ok(make_event("user.created", f"user_other_{number}")) == "applied"
        answer = await deletion
        assert answered_first
        assert (answer.status_code, answer.json()) == (202, {"outcome": "parked", "reason": "long_deletion"})
        assert seen <= {whole}
        assert number > 3
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "stale"

        async def finished() -> bool:
            filed = await world.get_event(message_id)
            return bool(filed and filed["status"] == "applied")

        await wait_until(finished)
        await world.check_invariants()


async def test_after_a_crash_the_next_start_finishes_the_deletion(
    database: str, db: asyncpg.Connection, tmp_path: Path
) -> None:
    """After kill -9 during the cascade PostgreSQL rolls back, the claim expires, and the deletion is repeated (K3)."""
    shutil.copy(FOLDER / PERSONA.folder / "sync.toml", tmp_path)
    environ = {"DATABASE_URL": database, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
    created = make_event("user.created", "user_1", T1, **make_email_fields("e"))
    deleted, message_id = encode_body(make_event("user.deleted", "user_1")), make_message_id()
    with start_command("serve", cwd=tmp_path, **environ) as service:
        service.wait_for('"event":"ready"')
        address = f"http://127.0.0.1:{service.port}/webhooks/clerk"
        async with httpx2.AsyncClient(timeout=15) as client:
            body = encode_body(created)
            assert (
                await client.post(address, content=body, headers=sign_event(body, make_message_id()))
            ).status_code == 200
            await insert_messages(db, "user_1", 200)
            await _slow_down_deletion(db)
            answer = await client.post(address, content=deleted, headers=sign_event(deleted, message_id))
            assert (answer.status_code, answer.json()["reason"]) == (202, "long_deletion")
        assert PII_SENTINEL not in answer.text
        await wait_until(lambda: _is_deletion_running(db))
        assert service.stop(signal.SIGKILL) == -signal.SIGKILL
    await db.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'PgSleep'")
    assert await count_rows(db, "user_1") == (1, 1, 200, 200 * EACH)
    assert await db.fetchval("select deleted_at is not null from clerk_sync.identities")
    await db.execute("drop trigger slow on messages")
    await db.execute("update clerk_sync.events set next_attempt_at = next_attempt_at - interval '10 minutes'")
    with start_command("serve", cwd=tmp_path, **environ) as service:

        async def finished() -> bool:
            sql = "select status = 'applied' from clerk_sync.events where id = $1"
            return bool(await db.fetchval(sql, message_id))

        await wait_until(finished)
        assert await count_rows(db, "user_1") == (0, 0, 0, 0)
        assert service.stop() == 0


async def _slow_down_deletion(db: asyncpg.Connection) -> None:
    await db.execute("update messages set content = 'slow' where id = (select max(id) / 2 from messages)")
    await db.execute(
        "create function sleep() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return old; end $$"
    )
    await db.execute(
        "create trigger slow before delete on messages for each row when (old.content = 'slow')"
        " execute function sleep()"
    )


async def _is_deletion_running(db: asyncpg.Connection) -> bool:
    """Whether background maintenance runs the deletion: the webhook's own attempt ended before its response."""
    sql = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    return bool(await db.fetchval(sql))
