"""Background maintenance: retries, long deletions and the retention of events."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.events import Event, parse_event
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import apply_changes
from sync_service.sync.apply import Applier
from sync_service.sync.batch import MAX_BATCH_SIZE
from sync_service.sync.maintenance import MaintenanceWorker
from sync_service.sync.outcome import Outcome
from sync_service.web.limits import TimeLimits
from tests.conftest import Serve
from tests.world import (
    PII_SENTINEL,
    T1,
    T2,
    T3,
    World,
    count_lock_waiters,
    encode_body,
    make_email_fields,
    make_event,
    make_message_id,
    make_user_data,
    wait_until,
)

RETENTION = timedelta(days=30)


@pytest.fixture
async def retry(database: str) -> AsyncIterator[MaintenanceWorker]:
    pool = await open_database(parse_dsn(database))
    yield MaintenanceWorker(Applier(Store(pool, DEFAULT), max_attempts=3), RETENTION, asyncio.Event())
    await pool.aclose()


async def refuse_all_users(db: asyncpg.Connection, message_text: str = "no") -> None:
    """Add a constraint that refuses every row, such as a forgotten one of the app."""
    await db.execute(f"alter table users add constraint refuses check (first_name = '{message_text}') not valid")


async def park_event(retry: MaintenanceWorker, user_id: str = "user_1") -> Event:
    stored = parse_event(make_message_id(), encode_body(make_event("user.created", user_id)))
    assert [outcome.outcome for outcome in await retry._applier.apply([stored])] == ["parked"]
    return stored


async def make_due(db: asyncpg.Connection) -> None:
    await db.execute("update clerk_sync.events set next_attempt_at = now() where status = 'failed'")


async def test_a_parked_event_is_retried_once_the_table_is_repaired(serve: Serve, db: asyncpg.Connection) -> None:
    """The running service applies the parked event without any request (C4)."""
    async with serve() as world:
        await refuse_all_users(db)
        message_id = make_message_id()
        answer = await world.deliver(make_event("user.created", "user_1"), message_id)
        assert (answer.status_code, answer.json()["reason"]) == (202, "check_violation")
        await db.execute("alter table users drop constraint refuses")

        async def applied() -> bool:
            stored = await world.get_event(message_id)
            return bool(stored and stored["status"] == "applied")

        await wait_until(applied, 20)
        assert await world.get_user("user_1")
        await world.check_invariants()


async def test_attempts_are_counted_and_limited(retry: MaintenanceWorker, db: asyncpg.Connection) -> None:
    """The backoff grows; after the last attempt the event is dead and waits for an operator."""
    await refuse_all_users(db)
    stored = await park_event(retry)
    pauses = []
    for _ in range(2):
        row = await db.fetchrow("select *, next_attempt_at - now() as pause from clerk_sync.events")
        assert row
        pauses.append(row["pause"])
        await make_due(db)
        assert (await retry.run_once())["parked"] == 1
    assert timedelta(seconds=3) < pauses[0] <= timedelta(seconds=5)
    assert timedelta(seconds=10) < pauses[1] < timedelta(seconds=20)
    row = await db.fetchrow("select * from clerk_sync.events where id = $1", stored.id)
    assert row
    assert (row["status"], row["attempts"], row["next_attempt_at"]) == ("dead", 3, None)
    failures = json.loads(row["failures"])
    assert len(failures) == 3
    assert failures[0]["reason"] == "check_violation"
    assert (failures[0]["table"], failures[0]["constraint"]) == ("users", "refuses")
    assert PII_SENTINEL not in row["failures"]
    assert await retry.run_once() == {}


async def test_the_failure_names_the_column(retry: MaintenanceWorker, db: asyncpg.Connection) -> None:
    """The stored failure of an event names the table and the column (E8)."""
    await db.execute("alter table users add plan text not null default 'x'")
    await db.execute("alter table users alter plan drop default")
    await park_event(retry)
    [failure] = json.loads(await db.fetchval("select failures from clerk_sync.events"))
    assert (failure["reason"], failure["table"], failure["column"]) == ("not_null_violation", "users", "plan")


async def test_concurrent_workers_do_not_claim_the_same_event(retry: MaintenanceWorker, db: asyncpg.Connection) -> None:
    await refuse_all_users(db)
    for number in range(30):
        await park_event(retry, f"user_{number}")
    await db.execute("alter table users drop constraint refuses")
    await make_due(db)
    done = await asyncio.gather(*(retry.run_once() for _ in range(4)))
    assert sum(each["applied"] for each in done) == 30
    assert await db.fetchval("select max(attempts) from clerk_sync.events") == 2


async def test_the_claim_of_a_crashed_worker_expires(retry: MaintenanceWorker, db: asyncpg.Connection) -> None:
    """The claim is a lease, so another worker takes the event after its end."""
    await refuse_all_users(db)
    await park_event(retry)
    await db.execute("alter table users drop constraint refuses")
    await make_due(db)
    from sync_service.store.retry_queue import claim_due  # noqa: PLC0415  only the claim, as before a crash

    assert len(await claim_due(db, 10)) == 1
    assert (await retry.run_once())["applied"] == 0
    await db.execute("update clerk_sync.events set next_attempt_at = next_attempt_at - interval '10 minutes'")
    assert (await retry.run_once())["applied"] == 1


async def test_one_failed_event_does_not_stop_the_others(retry: MaintenanceWorker, db: asyncpg.Connection) -> None:
    await refuse_all_users(db)
    for number in range(5):
        await park_event(retry, f"user_{number}")
    await db.execute("alter table users drop constraint refuses")
    await db.execute("alter table users add constraint refuses check (id <> 'user_3')")
    await make_due(db)
    assert await retry.run_once() == {"applied": 4, "parked": 1}


async def test_an_unreadable_user_is_parsed_again_at_each_attempt(
    retry: MaintenanceWorker, db: asyncpg.Connection
) -> None:
    unreadable = parse_event(make_message_id(), encode_body(make_event("user.created", "user_1", banned="yes")))
    assert (await retry._applier.apply([unreadable]))[0] == Outcome("parked", "unreadable_user")
    await make_due(db)
    assert (await retry.run_once())["parked"] == 1
    await db.execute("update clerk_sync.events set payload = payload - 'banned'")
    await make_due(db)
    assert (await retry.run_once())["applied"] == 1
    assert await db.fetchval("select count(*) from users") == 1


async def test_a_long_deletion_is_acknowledged_in_time_and_finished_later(serve: Serve, db: asyncpg.Connection) -> None:
    """The webhook gets 202, other users are not delayed, an update does not restore the user (K3, small)."""
    await db.execute(
        "create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return old; end $$"
    )
    await db.execute(
        "create trigger slowly before delete on users for each row when (old.id = 'user_1') execute function slowly()"
    )
    async with serve(limits=TimeLimits(deletion=0.3)) as world:
        await world.deliver_ok(make_event("user.created", "user_1"))
        message_id = make_message_id()
        deletion = asyncio.create_task(world.deliver(make_event("user.deleted", "user_1"), message_id))
        assert await world.deliver_ok(make_event("user.created", "user_2")) == "applied"
        answer = await deletion
        assert (answer.status_code, answer.json()["reason"]) == (202, "long_deletion")
        assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "stale"

        async def gone() -> bool:
            return await world.get_user("user_1") is None

        await wait_until(gone, 20)
        stored = await world.get_event(message_id)
        assert stored
        assert stored["status"] == "applied"
        await world.check_invariants()


async def test_a_deletion_that_a_foreign_key_refuses_is_retried(world: World, db: asyncpg.Connection) -> None:
    """Once no row refers to the user, background maintenance deletes the row (K2)."""
    await db.execute("create table orders (user_id text references users)")
    await world.deliver_ok(make_event("user.created", "user_1"))
    await db.execute("insert into orders values ('user_1')")
    answer = await world.deliver(make_event("user.deleted", "user_1"))
    assert answer.status_code == 202
    assert await world.deliver_ok(make_event("user.updated", "user_1", T2)) == "stale"
    assert await world.deliver_ok(make_event("user.created", "user_2")) == "applied"
    await db.execute("delete from orders")

    async def gone() -> bool:
        return await world.get_user("user_1") is None

    await wait_until(gone, 20)


async def test_after_a_deletion_no_personal_data_are_left(world: World, db: asyncpg.Connection) -> None:
    """Applied, stale and waiting events of the user lose their payload (K4)."""
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("e")))
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    answer = await world.deliver(make_event("user.updated", "user_1", banned="yes"))
    assert answer.status_code == 202
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    for table in ("events", "identities", "instance", "migrations"):
        assert PII_SENTINEL not in str(await db.fetchval(f"select jsonb_agg(to_jsonb(t)) from clerk_sync.{table} t"))
    assert {r[0] for r in await db.fetch("select status from clerk_sync.events")} == {"applied", "stale"}


@pytest.mark.parametrize("grace", [False, True])
async def test_an_event_after_the_deletion_leaves_no_personal_data(
    serve: Serve, db: asyncpg.Connection, grace: bool
) -> None:
    """Stale, unreadable and refused events of a deleted user are finished without a payload, also on redelivery."""
    await db.execute("alter table users add constraint refuses check (banned is false) not valid")
    mapping = replace(DEFAULT, delete_grace=timedelta(days=1)) if grace else DEFAULT
    async with serve(mapping=mapping) as world:
        parked = make_message_id()
        await world.deliver(make_event("user.updated", "user_1", T2, banned=True), parked)
        await world.deliver_ok(make_event("user.deleted", "user_1"))
        late = [
            make_event("user.updated", "user_1", T3, **make_email_fields("e")),
            make_event("user.updated", "user_1", T3, banned=True),
            make_event("user.updated", "user_1", T3, banned="yes"),
            {"type": "session.created", "data": {"id": "sess_1", "user": make_user_data("user_1", T3)}},
        ]
        for body in late:
            assert await world.deliver_ok(body) == "stale"
        assert [await world.deliver_ok(late[0]), *await asyncio.gather(*map(world.deliver_ok, late))] == ["stale"] * 5
        kept = await db.fetch("select id from clerk_sync.events where payload is not null")
        assert [row["id"] for row in kept] == ([parked] if grace else [])
        statuses = await db.fetch("select distinct status from clerk_sync.events where type <> 'user.deleted'")
        assert {row["status"] for row in statuses} == ({"stale", "failed"} if grace else {"stale"})


async def test_an_event_that_waits_for_the_deletion_leaves_no_personal_data(
    world: World, db: asyncpg.Connection, database: str
) -> None:
    """The tombstone commits after the snapshot of the waiting statements, which file a stale and a parked event."""
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    deleting = await asyncpg.connect(database)
    transaction = deleting.transaction()
    await transaction.start()
    await deleting.execute(
        "update clerk_sync.identities set version = null, tiebreak = null, deleted_at = now() where clerk_id = 'user_1'"
    )
    late = [
        asyncio.create_task(world.deliver_ok(make_event("user.updated", "user_1", T2))),
        asyncio.create_task(world.deliver_ok(make_event("user.updated", "user_1", T2, banned="yes"))),
    ]
    await wait_until(lambda: are_two_waiting(db))
    await deleting.execute("update clerk_sync.events set payload = null")
    await transaction.commit()
    await deleting.close()
    assert [await task for task in late] == ["stale", "stale"]
    assert await db.fetchval("select count(*) from clerk_sync.events where payload is not null") == 0
    await db.execute("delete from users")


async def are_two_waiting(db: asyncpg.Connection) -> bool:
    return await count_lock_waiters(db) == 2


async def test_unreadable_events_without_a_user_are_removed_after_the_retention(
    retry: MaintenanceWorker, db: asyncpg.Connection
) -> None:
    """No deletion can name them. Unreadable events of a known user stay."""
    bodies = [make_event("user.updated", "user_1", id=5), make_event("user.updated", "user_2", banned="yes")]
    events = [parse_event(make_message_id(), encode_body(body)) for body in bodies]
    await retry._applier.apply(events)
    await db.execute("update clerk_sync.events set next_attempt_at = now() + interval '1 day'")
    await db.execute("update clerk_sync.events set received_at = now() - interval '29 days'")
    assert (await retry.run_once())["pruned"] == 0
    await db.execute("update clerk_sync.events set received_at = now() - interval '31 days'")
    assert (await retry.run_once())["pruned"] == 1
    assert [row["clerk_id"] for row in await db.fetch("select clerk_id from clerk_sync.events")] == ["user_2"]


async def test_old_events_lose_their_payload_and_are_then_deleted(
    retry: MaintenanceWorker, db: asyncpg.Connection
) -> None:
    """Events are deleted once Svix can no longer replay them; tombstones, failed and dead events stay (K7)."""
    events = [parse_event(make_message_id(), encode_body(make_event("user.created", f"user_{n}"))) for n in range(4)]
    await retry._applier.apply(
        [*events, parse_event(make_message_id(), encode_body(make_event("user.deleted", "user_0")))]
    )
    await refuse_all_users(db)
    await park_event(retry, "user_9")
    ages = {events[1].id: 29, events[2].id: 31, events[3].id: 121}
    for message_id, days in ages.items():
        await db.execute(
            "update clerk_sync.events set finished_at = now() - $2 * interval '1 day' where id = $1", message_id, days
        )
    await db.execute("update clerk_sync.events set received_at = now() - interval '1 year'")
    await retry.run_once()
    kept = {r["id"]: r["payload"] for r in await db.fetch("select id, payload from clerk_sync.events")}
    assert kept[events[1].id] is not None
    assert kept[events[2].id] is None
    assert events[3].id not in kept
    assert (
        await db.fetchval("select count(*) from clerk_sync.events where status = 'failed' and payload is not null") == 1
    )
    assert await db.fetchval("select count(*) from clerk_sync.identities where deleted_at is not null") == 1


@pytest.mark.parametrize("order", [("Ada", "Grace"), ("Grace", "Ada")])
@pytest.mark.parametrize("stored", [False, True])
async def test_two_versions_with_one_timestamp_in_one_batch_mark_the_user_for_a_fetch(
    retry: MaintenanceWorker, db: asyncpg.Connection, order: tuple[str, str], stored: bool
) -> None:
    """The two contents are compared with each other too. The same content twice marks no user."""
    if stored:
        await retry._applier.apply(
            [parse_event(make_message_id(), encode_body(make_event("user.created", f"user_{n}", T1))) for n in range(2)]
        )
    batch = [
        parse_event(make_message_id(), encode_body(make_event("user.updated", user_id, T2, first_name=name)))
        for user_id, names in (("user_0", order), ("user_1", ("Ada", "Ada")))
        for name in names
    ]
    outcomes = await retry._applier.apply(batch)
    assert sorted(outcome.outcome for outcome in outcomes) == ["applied", "applied", "applied", "stale"]
    pending = await db.fetch("select clerk_id from clerk_sync.identities where refetch_pending")
    assert [row["clerk_id"] for row in pending] == ["user_0"]


@pytest.mark.parametrize("order", [("Ada", "Grace"), ("Grace", "Ada")])
async def test_two_versions_with_one_timestamp_in_concurrent_transactions_mark_the_user_for_a_fetch(
    retry: MaintenanceWorker, db: asyncpg.Connection, database: str, order: tuple[str, str]
) -> None:
    """The second statement waits for the first one's lock, and its snapshot does not contain the first content."""
    first, second = (
        parse_event(make_message_id(), encode_body(make_event("user.updated", "user_1", T2, first_name=name)))
        for name in order
    )
    other = await asyncpg.connect(database)
    bound = BoundConnection(other, await retry._applier.store.binding.ensure_bound(other))
    async with other.transaction():
        await apply_changes(bound, [first], source="webhook", lock_timeout_ms=1000)
        waiting = asyncio.create_task(retry._applier.apply([second]))
        await wait_until(lambda: count_lock_waiters(db))
    await waiting
    await other.close()
    assert await db.fetchval("select refetch_pending from clerk_sync.identities")


async def test_a_locked_row_delays_its_own_user_only(serve: Serve, database: str, db: asyncpg.Connection) -> None:
    """Its webhook gets 503 within 10 s, other users 200 at once, and the next attempt is applied (DB6)."""
    async with serve() as world:
        for number in range(5):
            await world.deliver_ok(make_event("user.created", f"user_{number}"))
        holder = await asyncpg.connect(database)
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute("select * from users where id = 'user_0' for update")
        message_id = make_message_id()
        body = make_event("user.updated", "user_0", T2)
        locked = asyncio.create_task(world.deliver(body, message_id))
        looking = await asyncpg.connect(database)
        await wait_until(lambda: count_lock_waiters(looking))
        others = await asyncio.gather(
            *(world.deliver(make_event("user.updated", f"user_{n}", T2 + m)) for n in range(1, 5) for m in range(10))
        )
        assert {answer.status_code for answer in others} == {200}
        # Both lanes' batches contain an event of the locked user. Each delays its batch by 0.3 s, and by 0.3 s more
        # until the blocked event is identified.
        crowd = [
            make_event("user.updated", f"user_{n % 4 + 1 if n % 64 else 0}", (T2 if n % 64 else T1) + 100 + n)
            for n in range(2 * MAX_BATCH_SIZE)
        ]
        tasks = [asyncio.create_task(world.deliver(body)) for body in crowd]
        answers = await asyncio.gather(*(task for n, task in enumerate(tasks) if n % 64))
        assert {answer.status_code for answer in answers} == {200}
        answer = await locked
        assert answer.status_code == 503
        # Those that wait for several locks in turn are stored as parked.
        assert {(await task).status_code for task in tasks[::64]} <= {503, 202, 200}
        await transaction.rollback()
        assert await world.deliver_ok(body, message_id) == "applied"
        await holder.close()
        await looking.close()
        await world.check_invariants()


async def test_two_versions_with_one_timestamp_mark_the_user_for_a_fetch(
    retry: MaintenanceWorker, db: asyncpg.Connection
) -> None:
    for name in ("Ada", "Grace"):
        await retry._applier.apply(
            [parse_event(make_message_id(), encode_body(make_event("user.updated", "user_1", first_name=name)))]
        )
    assert await db.fetchval("select refetch_pending from clerk_sync.identities")
