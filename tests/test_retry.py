"""What failed is tried again by itself; long deletions are finished; what is old is forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from sync_service.clerk.events import Event, read_event
from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements
from sync_service.sync import apply as applying
from sync_service.sync.apply import Applier
from sync_service.sync.intake import MOST
from sync_service.sync.parking import Outcome
from sync_service.sync.retry import Retry
from tests.conftest import Serve
from tests.world import (
    PII_SENTINEL,
    T1,
    T2,
    World,
    count_lock_waiters,
    encode_body,
    make_email_fields,
    make_event,
    make_message_id,
    wait_until,
)

RETENTION = timedelta(days=30)


@pytest.fixture
async def retry(database: str) -> AsyncIterator[Retry]:
    pool = await open_pool(clean_dsn(database))
    yield Retry(Applier(pool, Statements(DEFAULT), max_attempts=3), RETENTION, asyncio.Event())
    await pool.close()


async def refuse(db: asyncpg.Connection, message_text: str = "no") -> None:
    """Have the table refuse every row, as a constraint that somebody forgot would."""
    await db.execute(f"alter table users add constraint refuses check (first_name = '{message_text}') not valid")


async def parked(retry: Retry, user_id: str = "user_1") -> Event:
    filed = read_event(make_message_id(), encode_body(make_event("user.created", user_id)))
    assert [outcome.outcome for outcome in await retry._applier.apply([filed])] == ["parked"]
    return filed


async def make_due(db: asyncpg.Connection) -> None:
    await db.execute("update clerk_sync.events set next_attempt_at = now() where status = 'failed'")


async def test_a_parked_event_is_applied_by_itself_once_the_table_is_repaired(
    serve: Serve, db: asyncpg.Connection
) -> None:
    """C4, with nobody's help and in real time."""
    async with serve() as world:
        await refuse(db)
        message_id = make_message_id()
        answer = await world.deliver(make_event("user.created", "user_1"), message_id)
        assert (answer.status_code, answer.json()["reason"]) == (202, "check_violation")
        await db.execute("alter table users drop constraint refuses")

        async def applied() -> bool:
            filed = await world.get_event(message_id)
            return bool(filed and filed["status"] == "applied")

        await wait_until(applied, 20)
        assert await world.get_user("user_1")
        await world.check_invariants()


async def test_attempts_are_counted_told_and_end(retry: Retry, db: asyncpg.Connection) -> None:
    """Backoff grows; after the last attempt the event is dead and waits for an operator."""
    await refuse(db)
    filed = await parked(retry)
    pauses = []
    for _ in range(2):
        row = await db.fetchrow("select *, next_attempt_at - now() as pause from clerk_sync.events")
        assert row
        pauses.append(row["pause"])
        await make_due(db)
        assert (await retry.run_once())["parked"] == 1
    assert timedelta(seconds=3) < pauses[0] <= timedelta(seconds=5)
    assert timedelta(seconds=10) < pauses[1] < timedelta(seconds=20)
    row = await db.fetchrow("select * from clerk_sync.events where id = $1", filed.id)
    assert row
    assert (row["status"], row["attempts"], row["next_attempt_at"]) == ("dead", 3, None)
    failures = json.loads(row["failures"])
    assert len(failures) == 3
    assert failures[0]["reason"] == "check_violation"
    assert (failures[0]["table"], failures[0]["constraint"]) == ("users", "refuses")
    assert PII_SENTINEL not in row["failures"]
    assert await retry.run_once() == {}


async def test_what_stands_in_the_way_is_told_by_name(retry: Retry, db: asyncpg.Connection) -> None:
    """E8 as far as an event hits it: the column is named to the operators."""
    await db.execute("alter table users add plan text not null default 'x'")
    await db.execute("alter table users alter plan drop default")
    await parked(retry)
    [failure] = json.loads(await db.fetchval("select failures from clerk_sync.events"))
    assert (failure["reason"], failure["table"], failure["column"]) == ("not_null_violation", "users", "plan")


async def test_two_at_once_do_not_take_the_same_event(retry: Retry, db: asyncpg.Connection) -> None:
    await refuse(db)
    for number in range(30):
        await parked(retry, f"user_{number}")
    await db.execute("alter table users drop constraint refuses")
    await make_due(db)
    done = await asyncio.gather(*(retry.run_once() for _ in range(4)))
    assert sum(each["applied"] for each in done) == 30
    assert await db.fetchval("select max(attempts) from clerk_sync.events") == 2


async def test_a_claim_that_crashed_is_due_again(retry: Retry, db: asyncpg.Connection) -> None:
    """The claim is a lease: whoever died with it loses it."""
    await refuse(db)
    await parked(retry)
    await db.execute("alter table users drop constraint refuses")
    await make_due(db)
    from sync_service.postgres.queue import claim_due  # noqa: PLC0415  the half of it, as before a crash

    assert len(await claim_due(db, 10)) == 1
    assert (await retry.run_once())["applied"] == 0
    await db.execute("update clerk_sync.events set next_attempt_at = next_attempt_at - interval '10 minutes'")
    assert (await retry.run_once())["applied"] == 1


async def test_one_that_fails_does_not_stop_the_others(retry: Retry, db: asyncpg.Connection) -> None:
    await refuse(db)
    for number in range(5):
        await parked(retry, f"user_{number}")
    await db.execute("alter table users drop constraint refuses")
    await db.execute("alter table users add constraint refuses check (id <> 'user_3')")
    await make_due(db)
    assert await retry.run_once() == {"applied": 4, "parked": 1}


async def test_a_user_that_an_older_release_could_not_read_is_read_by_a_newer(
    retry: Retry, db: asyncpg.Connection
) -> None:
    unreadable = read_event(make_message_id(), encode_body(make_event("user.created", "user_1", banned="yes")))
    assert (await retry._applier.apply([unreadable]))[0] == Outcome("parked", "unreadable_user")
    await make_due(db)
    assert (await retry.run_once())["parked"] == 1
    await db.execute("update clerk_sync.events set payload = payload - 'banned'")
    await make_due(db)
    assert (await retry.run_once())["applied"] == 1
    assert await db.fetchval("select count(*) from users") == 1


async def test_a_deletion_that_cascades_for_long_is_answered_in_time_and_finished_later(
    serve: Serve, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K3 in small: the webhook is answered, others go on meanwhile, nothing brings the user back, and the row goes."""
    monkeypatch.setattr(applying, "DELETE_SECONDS", 0.3)
    await db.execute(
        "create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(1); return old; end $$"
    )
    await db.execute(
        "create trigger slowly before delete on users for each row when (old.id = 'user_1') execute function slowly()"
    )
    async with serve() as world:
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
        filed = await world.get_event(message_id)
        assert filed
        assert filed["status"] == "applied"
        await world.check_invariants()


async def test_a_deletion_in_the_way_of_a_foreign_key_succeeds_by_itself_once_nothing_is(
    world: World, db: asyncpg.Connection
) -> None:
    """K2 for the default table."""
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


async def test_after_a_deletion_nothing_of_the_person_is_left(world: World, db: asyncpg.Connection) -> None:
    """K4: not in events that were applied, stale, or still waiting for another attempt."""
    await world.deliver_ok(make_event("user.updated", "user_1", T2, **make_email_fields("e")))
    await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("e")))
    answer = await world.deliver(make_event("user.updated", "user_1", banned="yes"))
    assert answer.status_code == 202
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    for table in ("events", "identities", "instance", "migrations"):
        assert PII_SENTINEL not in str(await db.fetchval(f"select jsonb_agg(to_jsonb(t)) from clerk_sync.{table} t"))
    assert {r[0] for r in await db.fetch("select status from clerk_sync.events")} == {"applied", "stale"}
    world.accepted.clear()  # told again, the unreadable one would be parked anew


async def test_what_is_old_is_forgotten_in_two_steps(retry: Retry, db: asyncpg.Connection) -> None:
    """K7: payloads first, the rows when Svix can replay them no more; tombstones, failed and dead events stay."""
    events = [read_event(make_message_id(), encode_body(make_event("user.created", f"user_{n}"))) for n in range(4)]
    await retry._applier.apply(
        [*events, read_event(make_message_id(), encode_body(make_event("user.deleted", "user_0")))]
    )
    await refuse(db)
    await parked(retry, "user_9")
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


async def test_a_locked_row_keeps_nobody_else_waiting(serve: Serve, database: str, db: asyncpg.Connection) -> None:
    """DB6: its own webhook is answered 503 in under 10 s, the others at once, and the next attempt is applied."""
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
        # Together with others of the same user, so that both lanes' batches have one of them; each holds them up for
        # 0.3 s, and for 0.3 s more until it is known who in it is behind the lock.
        crowd = [make_event("user.updated", f"user_{n % 5}", (T2 if n % 5 else T1) + 100 + n) for n in range(2 * MOST)]
        tasks = [asyncio.create_task(world.deliver(body)) for body in crowd]
        answers = await asyncio.gather(*(task for n, task in enumerate(tasks) if n % 5))
        assert {answer.status_code for answer in answers} == {200}
        assert not locked.done()
        answer = await locked
        assert answer.status_code == 503
        assert {(await task).status_code for task in tasks[::5]} <= {503, 200}
        await transaction.rollback()
        assert await world.deliver_ok(body, message_id) == "applied"
        await holder.close()
        await looking.close()
        await world.check_invariants()


async def test_two_contents_of_one_instant_are_noted_for_a_look_at_clerk(retry: Retry, db: asyncpg.Connection) -> None:
    for name in ("Ada", "Grace"):
        await retry._applier.apply(
            [read_event(make_message_id(), encode_body(make_event("user.updated", "user_1", first_name=name)))]
        )
    assert await db.fetchval("select refetch_wanted from clerk_sync.identities")
