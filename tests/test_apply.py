"""The law in SQL: held against `decide`, in batches, in races, and when the app's table refuses."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import Event, read_event
from sync_service.clerk.values import Deletion, Snapshot, User, Version
from sync_service.dsn import clean_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.inbox import apply_changes
from sync_service.postgres.pool import open_pool
from sync_service.postgres.statements import Statements, quoted
from sync_service.sync.apply import Applier
from sync_service.sync.parking import Outcome
from tests.reference_model import HISTORIES, Decision, Identity, decide, join
from tests.world import T1, T2, T3, count_lock_waiters, encode_body, make_event, make_message_id, wait_until


@pytest.fixture
async def applier(database: str) -> AsyncIterator[Applier]:
    pool = await open_pool(clean_dsn(database))
    yield Applier(pool, Statements(DEFAULT))
    await pool.close()


def webhook(event_type: str, user_id: str, updated_at: int = T1, message_id: str | None = None, **data: Any) -> Event:
    return read_event(message_id or make_message_id(), encode_body(make_event(event_type, user_id, updated_at, **data)))


async def outcomes(applier: Applier, *events: Event) -> list[str]:
    return [outcome.outcome for outcome in await applier.apply(events)]


@pytest.mark.parametrize("alone", [False, True])
async def test_the_sql_ends_every_history_as_the_rule_does(
    applier: Applier, db: asyncpg.Connection, alone: bool
) -> None:
    """Each of the 780 histories is a user; the n-th change of all of them is one batch, or each is one by itself."""
    known: dict[str, Identity | None] = {}
    shown: dict[str, str] = {}
    for step in range(4):
        batch: list[Event] = []
        expected: list[str] = []
        for number, history in enumerate(HISTORIES):
            if step < len(history):
                change, user_id = history[step], f"user_{number}"
                match change:
                    case Snapshot(version=version):
                        name = f"{version.updated_at}{version.tie.decode()}"
                        user = User(id=user_id, updated_at=version.updated_at, first_name=name)
                        filed = Event(
                            make_message_id(), "user.updated", None, user_id, Snapshot(user, version), payload="{}"
                        )
                    case Deletion():
                        name = ""
                        filed = Event(make_message_id(), "user.deleted", None, user_id, Deletion(user_id))
                decision = decide(change, known.get(user_id))
                known[user_id] = join(change, known.get(user_id))
                if decision is Decision.SAVE:
                    shown[user_id] = name
                elif decision is Decision.DELETE:
                    shown.pop(user_id, None)
                batch.append(filed)
                expected.append("stale" if decision is Decision.STALE else "applied")
        batches = [[each] for each in batch] if alone else [batch]
        assert [outcome for part in batches for outcome in await outcomes(applier, *part)] == expected
        rows = await db.fetch("select clerk_id, version, tie, deleted_at from clerk_sync.identities")
        found = {r["clerk_id"]: Identity(None if r["deleted_at"] else Version(r["version"], r["tie"])) for r in rows}
        assert found == known
        assert {r["id"]: r["first_name"] for r in await db.fetch("select id, first_name from users")} == shown


async def test_a_batch_of_one_user_s_whole_life_ends_as_one_by_one_does(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """All of a history in a single batch, for every history up to three changes, shuffled together."""
    batch: list[tuple[int, Event]] = []
    histories = [history for history in HISTORIES if len(history) <= 3]
    for number, history in enumerate(histories):
        for change in history:
            user_id = f"user_{number}"
            if isinstance(change, Snapshot):
                user = User(
                    id=user_id, updated_at=1, first_name=f"{change.version.updated_at}{change.version.tie.decode()}"
                )
                batch.append(
                    (number, Event(make_message_id(), "user.updated", None, user_id, Snapshot(user, change.version)))
                )
            else:
                batch.append((number, Event(make_message_id(), "user.deleted", None, user_id, Deletion(user_id))))
    random.Random(1).shuffle(batch)
    found = await outcomes(applier, *(filed for _, filed in batch))
    shown = {r["id"]: r["first_name"] for r in await db.fetch("select id, first_name from users")}
    for number, history in enumerate(histories):
        known: Identity | None = None
        for change in history:
            known = join(change, known)
        assert known is not None
        version = known.version
        assert shown.get(f"user_{number}") == (f"{version.updated_at}{version.tie.decode()}" if version else None)
    # Applied is whatever the table shows afterwards; all else is stale.
    for (number, filed), outcome in zip(batch, found, strict=True):
        if isinstance(filed.change, Snapshot):
            shows = shown.get(f"user_{number}") == filed.change.user.first_name
            assert outcome == ("applied" if shows else "stale")
        else:
            assert outcome == "applied"


async def test_a_user_identical_to_the_row_is_applied_without_writing_it(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """C8."""
    await outcomes(applier, webhook("user.created", "user_1"))
    before = await db.fetchval("select ctid::text || xmin::text from users")
    assert await outcomes(applier, webhook("user.updated", "user_1")) == ["applied"]
    assert await db.fetchval("select ctid::text || xmin::text from users") == before


async def test_the_same_message_twice_in_a_batch_is_one(applier: Applier) -> None:
    filed = webhook("user.created", "user_1")
    assert await outcomes(applier, filed, filed, filed) == ["applied", "duplicate", "duplicate"]


async def test_each_event_of_a_batch_keeps_what_it_said(applier: Applier, db: asyncpg.Connection) -> None:
    """Its own, and not that of its neighbour: of users out of order, of one told of twice, of what says nothing."""
    said = {
        webhook("user.created", "user_3", first_name="Ada"): "Ada",
        webhook("user.updated", "user_1", T2, first_name="Grace"): "Grace",
        read_event(make_message_id(), encode_body(make_event("organization.created", "org_1"))): None,
        webhook("user.created", "user_1", T1, first_name="Gracie"): "Gracie",
        webhook("user.created", "user_2", first_name="Edsger"): "Edsger",
    }
    assert await outcomes(applier, *said) == ["applied", "applied", "ignored", "stale", "applied"]
    kept = await db.fetch("select id, payload ->> 'first_name' from clerk_sync.events")
    assert dict(map(tuple, kept)) == {filed.id: name for filed, name in said.items()}
    rows = await db.fetch("select id, first_name from users")
    assert dict(map(tuple, rows)) == {"user_1": "Grace", "user_2": "Edsger", "user_3": "Ada"}


async def test_columns_of_the_app_are_never_written(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute("alter table users add tier text not null default 'FREE'")
    await outcomes(applier, webhook("user.created", "user_1"))
    await db.execute("update users set tier = 'PRO'")
    await outcomes(applier, webhook("user.updated", "user_1", T2, first_name="Grace"))
    assert tuple(await db.fetchrow("select tier, first_name from users") or ()) == ("PRO", "Grace")


async def test_a_deletion_takes_the_app_s_rows_with_it_and_leaves_no_trace_of_the_person(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """K4: after it, the payloads of the inbox know nothing, either."""
    await db.execute("create table notes (user_id text references users on delete cascade)")
    await outcomes(applier, webhook("user.created", "user_1"), webhook("user.created", "user_2"))
    await db.execute("insert into notes values ('user_1'), ('user_2')")
    assert await outcomes(applier, webhook("user.deleted", "user_1")) == ["applied"]
    assert [r[0] for r in await db.fetch("select user_id from notes")] == ["user_2"]
    assert [r[0] for r in await db.fetch("select clerk_id from clerk_sync.events where payload is not null")] == [
        "user_2"
    ]
    tombstone = await db.fetchrow("select version, tie from clerk_sync.identities where clerk_id = 'user_1'")
    assert tuple(tombstone or ()) == (None, None)


async def test_eight_at_once_for_each_of_many_users_end_with_the_newest(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """A look before the write loses most of these races; the guard in ON CONFLICT … WHERE loses none."""
    users = [f"user_{n}" for n in range(60)]
    events = [webhook("user.updated", user, T1 + n, first_name=f"v{n}") for user in users for n in range(8)]
    random.Random(2).shuffle(events)
    await asyncio.gather(*(applier.apply([each]) for each in events))
    assert {r[0] for r in await db.fetch("select first_name from users")} == {"v7"}
    assert await db.fetchval("select count(*) from users") == 60


async def test_a_deletion_racing_with_a_creation_leaves_no_ghost(applier: Applier, db: asyncpg.Connection) -> None:
    """The deletion waits for the lock with a snapshot older than the row, and must remove the row all the same."""
    events = []
    for number in range(150):
        events += [
            webhook("user.created", f"user_{number}"),
            webhook("user.deleted", f"user_{number}"),
            webhook("user.updated", f"user_{number}", T2),
        ]
    random.Random(3).shuffle(events)
    await asyncio.gather(*(applier.apply([each]) for each in events))
    assert await db.fetchval("select count(*) from users") == 0
    assert await db.fetchval("select count(*) from clerk_sync.identities where deleted_at is not null") == 150


async def test_a_deletion_that_waited_for_the_creation_s_lock_removes_its_row(applier: Applier, database: str) -> None:
    """The same, step by step: the wait is seen in pg_stat_activity, not hoped for."""
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    statements = applier.statements
    created = webhook("user.created", "user_1")
    await apply_changes(other, statements, [created], source="webhook", patience_ms=1000)
    deletion = asyncio.create_task(applier.apply([webhook("user.deleted", "user_1")]))
    looking = await asyncpg.connect(database)
    await wait_until(lambda: count_lock_waiters(looking))
    await transaction.commit()
    assert await deletion == [Outcome("applied")]
    assert await looking.fetchval("select count(*) from users") == 0
    await other.close()
    await looking.close()


@pytest.mark.parametrize("many", [1, 2])
async def test_a_statement_waits_for_a_lock_only_as_long_as_it_is_told(
    applier: Applier, db: asyncpg.Connection, database: str, many: int
) -> None:
    """Whether it is of one event or of more: both set their own patience, and leave none behind."""
    await outcomes(applier, webhook("user.created", "user_1"))
    other = await asyncpg.connect(database)
    events = [webhook("user.updated", f"user_{n}", T2) for n in range(1, many + 1)]
    async with other.transaction():
        await other.execute("select from users for update")
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with asyncio.timeout(5):
                await apply_changes(db, applier.statements, events, source="webhook", patience_ms=50)
    await other.close()
    assert await db.fetchval("show lock_timeout") == "0"


async def test_batches_that_hold_the_same_users_in_other_orders_do_not_deadlock(applier: Applier) -> None:
    users = [f"user_{n}" for n in range(40)]
    batches = []
    for turn in range(20):
        batch = [webhook("user.updated", user, T1 + turn) for user in users]
        random.Random(turn).shuffle(batch)
        batches.append(batch)
    for result in await asyncio.gather(*(applier.apply(batch) for batch in batches)):
        assert {outcome.outcome for outcome in result} <= {"applied", "stale"}


async def test_one_bad_event_does_not_stop_the_rest(applier: Applier, db: asyncpg.Connection) -> None:
    """A batch that fails is taken apart until only the guilty one is parked."""
    await db.execute("alter table users add constraint no_grace check (first_name <> 'Grace')")
    batch = [webhook("user.created", f"user_{n}", first_name="Grace" if n == 5 else "Ada") for n in range(12)]
    found = await applier.apply(batch)
    assert found[5] == Outcome("parked", "check_violation")
    assert {outcome.outcome for n, outcome in enumerate(found) if n != 5} == {"applied"}
    assert await db.fetchval("select count(*) from users") == 11
    row = await db.fetchrow(
        "select status, reason, attempts, next_attempt_at, payload from clerk_sync.events where id = $1", batch[5].id
    )
    assert row
    assert (row["status"], row["reason"], row["attempts"]) == ("failed", "check_violation", 1)
    assert row["next_attempt_at"]
    assert row["payload"]
    assert not await db.fetchval("select count(*) from clerk_sync.identities where clerk_id = 'user_5'")


async def test_a_deletion_that_a_foreign_key_refuses_is_parked_and_its_tombstone_stands(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """K2 for the default table: nothing brings the user back, and the deletion succeeds once nothing is in its way."""
    await db.execute("create table orders (user_id text references users)")
    await outcomes(applier, webhook("user.created", "user_1"))
    await db.execute("insert into orders values ('user_1')")
    deletion = webhook("user.deleted", "user_1")
    [found] = await applier.apply([deletion])
    assert found.outcome == "parked"
    assert found.reason in {"foreign_key_violation", "restrict_violation"}
    assert await outcomes(applier, webhook("user.updated", "user_1", T3)) == ["stale"]
    await db.execute("delete from orders")
    assert await outcomes(applier, deletion) == ["applied"]
    assert await db.fetchval("select count(*) from users") == 0


async def test_what_jsonb_cannot_hold_is_said_to_be_unstorable_and_the_rest_goes_on(applier: Applier) -> None:
    batch = [webhook("user.created", f"user_{n}", first_name="a\0b" if n == 1 else "Ada") for n in range(3)]
    found = await applier.apply(batch)
    assert [outcome.outcome for outcome in found] == ["applied", "unstorable", "applied"]


async def test_nothing_is_nothing(applier: Applier) -> None:
    assert await applier.apply([]) == []


async def test_a_database_that_is_away_is_unavailable(tmp_path: Any) -> None:
    pool = await open_pool(clean_dsn(f"postgresql://postgres@/db?host={tmp_path}"))
    assert await outcomes(Applier(pool, Statements(DEFAULT)), webhook("user.created", "user_1")) == ["unavailable"]
    await pool.close()


async def test_a_database_that_is_not_migrated_is_unavailable(empty_database: str) -> None:
    pool = await open_pool(clean_dsn(empty_database))
    assert await outcomes(Applier(pool, Statements(DEFAULT)), webhook("user.created", "user_1")) == ["unavailable"]
    await pool.close()


async def test_a_role_that_may_not_write_the_inbox_is_unavailable(database: str, db: asyncpg.Connection) -> None:
    """What cannot even be filed is never acknowledged."""
    await db.execute("create role stranger login; grant all on public.users to stranger")
    stranger = await open_pool(clean_dsn(database.replace("//postgres@", "//stranger@")))
    [found] = await Applier(stranger, Statements(DEFAULT)).apply([webhook("user.created", "user_1")])
    assert found == Outcome("unavailable", "insufficient_privilege")
    await stranger.close()
    await db.execute("drop owned by stranger; drop role stranger")


def test_a_name_of_the_mapping_is_quoted() -> None:
    assert quoted('Us"ers') == '"Us""ers"'


@pytest.mark.parametrize("source", ["webhook", "login"])
async def test_who_told_first_is_kept(applier: Applier, db: asyncpg.Connection, source: str) -> None:
    """A4: a login came first, then the webhook, identical or newer; no duplicate, and the book says who was first."""
    login = Applier(applier.pool, applier.statements, source=source)
    change = webhook("user.created", "user_1").change
    assert isinstance(change, Snapshot)
    assert await outcomes(login, Event(None, "", clerk_id="user_1", change=change)) == ["applied"]
    assert not await db.fetchval("select count(*) from clerk_sync.events")
    assert await outcomes(applier, webhook("user.created", "user_1"), webhook("user.updated", "user_1", T2)) == [
        "stale",
        "applied",
    ]
    assert await db.fetchval("select created_by from clerk_sync.identities") == source
    assert await db.fetchval("select count(*) from users") == 1
