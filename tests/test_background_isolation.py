"""Background work: one user's obstacle affects no other user, and no other step."""

import asyncio

import asyncpg

from tests.clerk_stub import ClerkStub
from tests.conftest import Serve
from tests.sync_requests import age_identities, build_settings, post_sync_as_backend
from tests.world import T1, T2, World, make_email_fields, make_event, make_message_id, wait_until

PENDING = "select count(*) from clerk_sync.identities where refetch_pending"


async def file_old_event(db: asyncpg.Connection) -> None:
    """Add an event whose payload retention removes in the next round that reaches this step."""
    await db.execute("""
        insert into clerk_sync.events (id, type, status, payload, received_at, finished_at)
        values ('msg_old', 'user.updated', 'applied', '{}', now() - interval '40 days', now() - interval '40 days')
    """)


async def is_pruned(world: World) -> bool:
    stored = await world.get_event("msg_old")
    return bool(stored and stored["payload"] is None)


async def test_a_refetch_that_the_table_refuses_stops_no_other(
    serve: Serve, db: asyncpg.Connection, clerk: ClerkStub
) -> None:
    """More users than one round refetches are refused; a user behind them is refetched, and retention runs."""
    refused = [f"user_{n:02}" for n in range(25)]
    for user in (*refused, "user_last"):
        clerk.add_user(user, T2, first_name="Grace" if user in refused else "Ada")
    async with serve(**build_settings(clerk)) as world:
        await asyncio.gather(*(world.deliver(make_event("user.created", user)) for user in (*refused, "user_last")))
        await db.execute("alter table users add constraint no_grace check (first_name <> 'Grace') not valid")
        await file_old_event(db)
        await db.execute("update clerk_sync.identities set refetch_pending = true")
        await world.deliver(make_event("user.created", "user_other", first_name="Grace"))  # wakes the background

        async def is_refetched() -> bool:
            return await db.fetchval(PENDING) == len(refused) and await is_pruned(world)

        await wait_until(is_refetched, 30)


async def test_a_payload_whose_time_is_no_number_stops_no_other(
    serve: Serve, db: asyncpg.Connection, clerk: ClerkStub
) -> None:
    async with serve(**build_settings(clerk)) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
        await world.deliver_ok(make_event("user.created", "user_2", T2, **make_email_fields("e")))
        body = make_event("user.updated", "user_1")
        body["data"]["updated_at"] = "yesterday"
        assert (await world.deliver(body)).status_code == 202
        clerk.add_user("user_1", T1, **make_email_fields("e"))
        async with db.transaction():  # only Clerk has the email, which is free now
            await db.execute("update clerk_sync.events set payload = null where status <> 'failed'")
            await db.execute("update users set email = null where id = 'user_2'")
            await age_identities(db)
            await file_old_event(db)
        await world.deliver(make_event("user.created", "user_3", banned="yes"))  # wakes the background

        async def has_email() -> bool:
            row = await world.get_user("user_1")
            return bool(row and row["email"]) and await is_pruned(world)

        await wait_until(has_email, 30)


async def test_emails_that_stay_taken_starve_no_other(serve: Serve, db: asyncpg.Connection) -> None:
    """More emails than one round restores stay taken; the email of a user behind them becomes free."""
    count = 120
    async with serve() as world:
        for owner, updated_at in (("user_a", T1), ("user_b", T2)):
            bodies = [
                make_event("user.created", f"{owner}{n:03}", updated_at, **make_email_fields(f"e{n}"))
                for n in range(count)
            ]
            await asyncio.gather(*(world.deliver(body) for body in bodies))
        assert await db.fetchval("select count(*) from clerk_sync.identities where email_pending") == count
        last = f"{count - 1:03}"
        body = make_event("user.updated", f"user_b{last}", T2 + 1, **make_email_fields("other"))
        await world.deliver_ok(body)

        async def has_email() -> bool:
            row = await world.get_user(f"user_a{last}")
            return bool(row and row["email"])

        await wait_until(has_email, 30)


async def test_an_email_that_a_trigger_refuses_stops_no_other(serve: Serve, db: asyncpg.Connection) -> None:
    async with serve() as world:
        for owner, updated_at in (("user_a", T1), ("user_b", T2)):
            for n in range(2):
                await world.deliver_ok(
                    make_event("user.created", f"{owner}{n}", updated_at, **make_email_fields(f"e{n}"))
                )
        await db.execute("""
            create function refuse() returns trigger language plpgsql as
            $$ begin raise exception 'no' using errcode = '53100'; end $$;
            create trigger refuse before update on users
            for each row when (new.id = 'user_a0' and new.email is not null) execute function refuse();
        """)
        for n in range(2):
            await world.deliver_ok(make_event("user.deleted", f"user_b{n}"))

        async def has_email() -> bool:
            row = await world.get_user("user_a1")
            return bool(row and row["email"])

        await wait_until(has_email, 30)


async def test_due_events_of_a_locked_user_leave_connections_free(
    serve: Serve, db: asyncpg.Connection, database: str, clerk: ClerkStub
) -> None:
    """Fifty due events of one locked user wait on at most two connections while logins are served."""
    clerk.add_user("user_login", T1)
    async with serve(**build_settings(clerk)) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        await world.deliver_ok(make_event("user.created", "user_login", T1))
        await db.execute("""
            insert into clerk_sync.events (id, type, clerk_id, status, payload, next_attempt_at)
            select 'msg_due_' || n, type, clerk_id, 'failed',
                jsonb_set(payload, '{updated_at}', to_jsonb((payload ->> 'updated_at')::bigint + n)), now()
            from clerk_sync.events, generate_series(1, 50) as n where clerk_id = 'user_1'
        """)
        looking = await asyncpg.connect(database)
        waiting = (
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        counts: list[int] = []

        async def is_waiting() -> bool:
            counts.append(await looking.fetchval(waiting))
            assert (await post_sync_as_backend(world, "user_login")).status_code == 200
            return len(counts) > 200

        async with db.transaction():
            await db.execute("select from users where id = 'user_1' for update")
            parked = make_event("user.created", "user_2", banned="yes")
            assert (await world.deliver(parked, make_message_id())).status_code == 202  # wakes the background
            await wait_until(is_waiting)
        assert 1 <= max(counts) <= 2
        await looking.close()
