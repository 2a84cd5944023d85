"""Users are created, changed and deleted while a run is under way, by webhook and only in Clerk."""

import asyncio
from typing import Any

import asyncpg
import msgspec
import pytest
from starlette.requests import Request

from sync_service.clerk import user_walk
from sync_service.clerk.events import parse_event
from sync_service.postgres.pool import Database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from sync_service.sync.outcome import Outcome
from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import Reconcile, add_users
from tests.world import T0, T1, T2, T3, World, count_lock_waiters, encode_body, make_event, wait_until


async def read_names(db: asyncpg.Connection) -> dict[str, str]:
    return {row["id"]: row["first_name"] for row in await db.fetch("select id, first_name from users")}


def find_names(clerk: ClerkStub) -> dict[str, str]:
    return {clerk_id: user["first_name"] for clerk_id, user in clerk.users.items()}


def change(clerk: ClerkStub, clerk_id: str, **data: Any) -> None:
    clerk.users[clerk_id] |= {"updated_at": T2, "first_name": "changed"} | data


async def announce(world: World, clerk: ClerkStub, event_type: str, clerk_id: str) -> None:
    """Deliver the webhook of a user as Clerk has it now."""
    await world.deliver_ok(make_event(event_type, clerk_id) | {"data": clerk.users[clerk_id]})


@pytest.mark.parametrize("is_first_import", [False, True])
async def test_changes_during_a_walk_are_exact_afterwards(
    reconcile: Reconcile,
    clerk: ClerkStub,
    world: World,
    db: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    is_first_import: bool,
) -> None:
    """Only a user who is changed in Clerk alone, after the walk has read that user, waits for the next run."""
    monkeypatch.setattr(user_walk, "PAGE_SIZE", 5)
    add_users(clerk, 40)
    if not is_first_import:
        await reconcile()

    async def change_users(_: Request) -> None:
        if clerk.list_calls != first_call + 4:
            return
        # The walk has read users 0 to 14, and not yet users 20 to 39.
        clerk.add_user("user_new_1", T2, created_at=T1)
        clerk.add_user("user_new_2", T2, created_at=T1)
        await announce(world, clerk, "user.created", "user_new_2")
        for n in (1, 25):
            change(clerk, f"user_{n:05}")
            await announce(world, clerk, "user.updated", f"user_{n:05}")
        for n in (2, 26):
            clerk.remove_user(f"user_{n:05}")
            await world.deliver_ok(make_event("user.deleted", f"user_{n:05}"))
        change(clerk, "user_00027")
        clerk.remove_user("user_00028")
        change(clerk, "user_00003")
        clerk.remove_user("user_00004")

    first_call = clerk.list_calls
    clerk.answer_list = change_users
    report = await reconcile()
    assert report.is_clean, report
    late = {"user_00003", "user_00004"}
    rows, users = await read_names(db), find_names(clerk)
    assert {i: name for i, name in rows.items() if i not in late} == {
        i: name for i, name in users.items() if i not in late
    }
    assert rows.keys() >= late
    later = await reconcile()
    assert (later.stale, later.deleted, later.drift) == (1, 1, 2)
    assert await read_names(db) == users


async def test_a_webhook_between_the_read_and_the_write_wins(
    reconcile: Reconcile, clerk: ClerkStub, world: World, database: str, db: asyncpg.Connection
) -> None:
    """G7: the run has compared two users, and its statement is at the first one. The webhook changes the second one."""
    add_users(clerk, 2)
    await reconcile()
    for clerk_id in clerk.users:
        change(clerk, clerk_id, first_name="from the list")
    await db.execute(WAIT_AT_FIRST_USER)
    watcher = await asyncpg.connect(database)
    run = asyncio.create_task(reconcile())
    waiting = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
    await wait_until(lambda: watcher.fetchval(waiting))
    newer = make_event("user.updated", "user_00001", T3, first_name="from the webhook", created_at=T0)
    assert await world.deliver_ok(newer) == "applied"
    assert await watcher.fetchval(waiting) == 1
    await watcher.execute("insert into continue_run default values")
    await watcher.close()
    report = await run
    assert (report.stale, report.repaired, report.is_clean) == (2, 1, True)
    assert await read_names(db) == {"user_00000": "from the list", "user_00001": "from the webhook"}


# A function sees rows that are committed while it runs. Its pause is no lock, which the timeouts of locks would end.
WAIT_AT_FIRST_USER = """
create table continue_run (n integer);
create function wait_for_row() returns trigger language plpgsql as $$
begin
    while not exists (select from continue_run) loop
        perform pg_sleep(0.01);
    end loop;
    return new;
end
$$;
create trigger wait_for_row before update on clerk_sync.identities
for each row when (new.clerk_id = 'user_00000') execute function wait_for_row();
"""


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_newer_version_that_commits_while_the_write_waits_stays(
    world: World, database_of_runs: Database, db: asyncpg.Connection, is_known: bool
) -> None:
    """The write of the missing row has begun before, so that it sees neither the row nor the newer identity."""
    if is_known:
        await world.deliver_ok(make_event("user.created", "user_1", T0))
        await db.execute("delete from users")
    event = parse_event("msg_1", encode_body(make_event("user.updated", "user_1", T1, first_name="older")))
    applier = Applier(Store(database_of_runs, world.mapping), source="reconcile")
    async with database_of_runs.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by) values ('user_1', $1, '', 'x')"
            " on conflict (clerk_id) do update set version = excluded.version",
            T2,
        )
        await other.execute(
            "insert into users (id, first_name, email_verified, banned, locked, public_metadata)"
            " values ('user_1', 'newer', false, false, false, '{}')"
        )
        saving = asyncio.create_task(applier.save([msgspec.structs.replace(event, id=None)], lock_timeout_ms=60_000))
        await wait_until(lambda: count_lock_waiters(db))
        await transaction.commit()
    assert await saving == [Outcome("stale")]
    assert await db.fetchval("select first_name from users") == "newer"
