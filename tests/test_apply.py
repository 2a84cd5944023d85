"""Changes are applied by the reference model's rules: in batches, in races, and when the app's table refuses one."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.change import Deletion, Snapshot, Version
from sync_service.clerk.events import Event, parse_event
from sync_service.clerk.user import User
from sync_service.dsn import parse_dsn
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import open_database
from sync_service.postgres.sql import quote_ident
from sync_service.store.access import BoundConnection, Store
from sync_service.store.changes import apply_changes
from sync_service.sync.apply import Applier
from sync_service.sync.outcome import Outcome
from tests.reference_model import HISTORIES, Decision, Identity, decide, join
from tests.world import T1, T2, T3, count_lock_waiters, encode_body, make_event, make_message_id, wait_until

pytestmark = pytest.mark.every_postgres


@pytest.fixture
async def applier(database: str) -> AsyncIterator[Applier]:
    pool = await open_database(parse_dsn(database))
    yield Applier(Store(pool, DEFAULT))
    await pool.aclose()


def make_webhook(
    event_type: str, user_id: str, updated_at: int = T1, message_id: str | None = None, **data: Any
) -> Event:
    return parse_event(
        message_id or make_message_id(), encode_body(make_event(event_type, user_id, updated_at, **data))
    )


async def apply_all(applier: Applier, *events: Event) -> list[str]:
    return [outcome.outcome for outcome in await applier.apply(events)]


@pytest.mark.parametrize("alone", [False, True])
async def test_the_sql_agrees_with_the_reference_model(applier: Applier, db: asyncpg.Connection, alone: bool) -> None:
    """Each of the 780 histories is one user; a batch is the n-th change of all users, or a single change.

    A third of the histories is enough for single changes, which take longer.
    """
    histories = HISTORIES[::3] if alone else HISTORIES
    known: dict[str, Identity | None] = {}
    shown: dict[str, str] = {}
    for step in range(4):
        batch: list[Event] = []
        expected: list[str] = []
        for number, history in enumerate(histories):
            if step < len(history):
                change, user_id = history[step], f"user_{number}"
                match change:
                    case Snapshot(version=version):
                        name = f"{version.updated_at}{version.tiebreak.decode()}"
                        user = User(id=user_id, updated_at=version.updated_at, first_name=name)
                        stored = Event(
                            make_message_id(), "user.updated", None, user_id, Snapshot(user, version), payload="{}"
                        )
                    case Deletion():
                        name = ""
                        stored = Event(make_message_id(), "user.deleted", None, user_id, Deletion(user_id))
                decision = decide(change, known.get(user_id))
                known[user_id] = join(change, known.get(user_id))
                if decision is Decision.SAVE:
                    shown[user_id] = name
                elif decision is Decision.DELETE:
                    shown.pop(user_id, None)
                batch.append(stored)
                expected.append("stale" if decision is Decision.STALE else "applied")
        batches = [[each] for each in batch] if alone else [batch]
        assert [outcome for part in batches for outcome in await apply_all(applier, *part)] == expected
        rows = await db.fetch("select clerk_id, version, tiebreak, deleted_at from clerk_sync.identities")
        found = {
            r["clerk_id"]: Identity(None if r["deleted_at"] else Version(r["version"], r["tiebreak"])) for r in rows
        }
        assert found == known
        assert {r["id"]: r["first_name"] for r in await db.fetch("select id, first_name from users")} == shown


async def test_a_batch_with_a_whole_history_ends_as_single_changes_do(applier: Applier, db: asyncpg.Connection) -> None:
    """One batch contains every history of up to three changes, in random order."""
    batch: list[tuple[int, Event]] = []
    histories = [history for history in HISTORIES if len(history) <= 3]
    for number, history in enumerate(histories):
        for change in history:
            user_id = f"user_{number}"
            if isinstance(change, Snapshot):
                user = User(
                    id=user_id,
                    updated_at=1,
                    first_name=f"{change.version.updated_at}{change.version.tiebreak.decode()}",
                )
                batch.append(
                    (number, Event(make_message_id(), "user.updated", None, user_id, Snapshot(user, change.version)))
                )
            else:
                batch.append((number, Event(make_message_id(), "user.deleted", None, user_id, Deletion(user_id))))
    random.Random(1).shuffle(batch)
    found = await apply_all(applier, *(stored for _, stored in batch))
    shown = {r["id"]: r["first_name"] for r in await db.fetch("select id, first_name from users")}
    for number, history in enumerate(histories):
        known: Identity | None = None
        for change in history:
            known = join(change, known)
        assert known is not None
        version = known.version
        assert shown.get(f"user_{number}") == (f"{version.updated_at}{version.tiebreak.decode()}" if version else None)
    # A snapshot is applied if the table shows it afterwards, else stale.
    for (number, stored), outcome in zip(batch, found, strict=True):
        if isinstance(stored.change, Snapshot):
            shows = shown.get(f"user_{number}") == stored.change.user.first_name
            assert outcome == ("applied" if shows else "stale")
        else:
            assert outcome == "applied"


async def test_a_user_identical_to_the_row_is_applied_without_writing_it(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """An update that equals the stored row is applied without a new row version (C8)."""
    await apply_all(applier, make_webhook("user.created", "user_1"))
    before = await db.fetchval("select ctid::text || xmin::text from users")
    assert await apply_all(applier, make_webhook("user.updated", "user_1")) == ["applied"]
    assert await db.fetchval("select ctid::text || xmin::text from users") == before


async def test_the_same_message_twice_in_a_batch_is_one(applier: Applier) -> None:
    stored = make_webhook("user.created", "user_1")
    assert await apply_all(applier, stored, stored, stored) == ["applied", "duplicate", "duplicate"]


async def test_each_event_of_a_batch_keeps_its_own_payload(applier: Applier, db: asyncpg.Connection) -> None:
    """Payloads are not mixed up: the users are unordered, one occurs twice, one event has no payload."""
    said = {
        make_webhook("user.created", "user_3", first_name="Ada"): "Ada",
        make_webhook("user.updated", "user_1", T2, first_name="Grace"): "Grace",
        parse_event(make_message_id(), encode_body(make_event("organization.created", "org_1"))): None,
        make_webhook("user.created", "user_1", T1, first_name="Gracie"): "Gracie",
        make_webhook("user.created", "user_2", first_name="Edsger"): "Edsger",
    }
    assert await apply_all(applier, *said) == ["applied", "applied", "ignored", "stale", "applied"]
    kept = await db.fetch("select id, payload ->> 'first_name' from clerk_sync.events")
    assert dict(map(tuple, kept)) == {stored.id: name for stored, name in said.items()}
    rows = await db.fetch("select id, first_name from users")
    assert dict(map(tuple, rows)) == {"user_1": "Grace", "user_2": "Edsger", "user_3": "Ada"}


async def test_columns_of_the_app_are_never_written(applier: Applier, db: asyncpg.Connection) -> None:
    await db.execute("alter table users add tier text not null default 'FREE'")
    await apply_all(applier, make_webhook("user.created", "user_1"))
    await db.execute("update users set tier = 'PRO'")
    await apply_all(applier, make_webhook("user.updated", "user_1", T2, first_name="Grace"))
    assert tuple(await db.fetchrow("select tier, first_name from users") or ()) == ("PRO", "Grace")


async def test_a_deletion_cascades_and_leaves_no_personal_data(applier: Applier, db: asyncpg.Connection) -> None:
    """A deletion removes the app's dependent rows, the payloads of the user's events and the version (K4)."""
    await db.execute("create table notes (user_id text references users on delete cascade)")
    await apply_all(applier, make_webhook("user.created", "user_1"), make_webhook("user.created", "user_2"))
    await db.execute("insert into notes values ('user_1'), ('user_2')")
    assert await apply_all(applier, make_webhook("user.deleted", "user_1")) == ["applied"]
    assert [r[0] for r in await db.fetch("select user_id from notes")] == ["user_2"]
    assert [r[0] for r in await db.fetch("select clerk_id from clerk_sync.events where payload is not null")] == [
        "user_2"
    ]
    tombstone = await db.fetchrow("select version, tiebreak from clerk_sync.identities where clerk_id = 'user_1'")
    assert tuple(tombstone or ()) == (None, None)


async def test_concurrent_updates_of_a_user_end_with_the_newest(applier: Applier, db: asyncpg.Connection) -> None:
    """A SELECT before the write would lose most of these races; the guard in ON CONFLICT … WHERE loses none."""
    users = [f"user_{n}" for n in range(60)]
    events = [make_webhook("user.updated", user, T1 + n, first_name=f"v{n}") for user in users for n in range(8)]
    random.Random(2).shuffle(events)
    await asyncio.gather(*(applier.apply([each]) for each in events))
    assert {r[0] for r in await db.fetch("select first_name from users")} == {"v7"}
    assert await db.fetchval("select count(*) from users") == 60


async def test_a_deletion_racing_with_a_creation_leaves_no_row(applier: Applier, db: asyncpg.Connection) -> None:
    """The deletion waits for the lock with a snapshot older than the row, and must still remove the row."""
    events = []
    for number in range(150):
        events += [
            make_webhook("user.created", f"user_{number}"),
            make_webhook("user.deleted", f"user_{number}"),
            make_webhook("user.updated", f"user_{number}", T2),
        ]
    random.Random(3).shuffle(events)
    await asyncio.gather(*(applier.apply([each]) for each in events))
    assert await db.fetchval("select count(*) from users") == 0
    assert await db.fetchval("select count(*) from clerk_sync.identities where deleted_at is not null") == 150


async def test_a_deletion_that_waited_for_the_creation_s_lock_removes_its_row(applier: Applier, database: str) -> None:
    """The same race step by step; pg_stat_activity proves that the deletion waits."""
    other = await asyncpg.connect(database)
    transaction = other.transaction()
    await transaction.start()
    bound = BoundConnection(other, await applier.store.binding.ensure_bound(other))
    created = make_webhook("user.created", "user_1")
    await apply_changes(bound, [created], source="webhook", lock_timeout_ms=1000)
    deletion = asyncio.create_task(applier.apply([make_webhook("user.deleted", "user_1")]))
    observer = await asyncpg.connect(database)
    await wait_until(lambda: count_lock_waiters(observer))
    await transaction.commit()
    assert await deletion == [Outcome("applied")]
    assert await observer.fetchval("select count(*) from users") == 0
    await other.close()
    await observer.close()


@pytest.mark.parametrize("many", [1, 2])
async def test_a_statement_waits_for_a_lock_only_for_its_lock_timeout(
    applier: Applier, db: asyncpg.Connection, database: str, many: int
) -> None:
    """Both statements, for one event and for several, set their own lock_timeout and reset it."""
    await apply_all(applier, make_webhook("user.created", "user_1"))
    other = await asyncpg.connect(database)
    events = [make_webhook("user.updated", f"user_{n}", T2) for n in range(1, many + 1)]
    async with other.transaction():
        await other.execute("select from users for update")
        bound = BoundConnection(db, await applier.store.binding.ensure_bound(db))
        with pytest.raises(asyncpg.LockNotAvailableError):
            async with asyncio.timeout(5):
                await apply_changes(bound, events, source="webhook", lock_timeout_ms=50)
    await other.close()
    assert await db.fetchval("show lock_timeout") == "0"


async def test_batches_with_the_same_users_in_other_orders_do_not_deadlock(applier: Applier) -> None:
    users = [f"user_{n}" for n in range(40)]
    batches = []
    for turn in range(20):
        batch = [make_webhook("user.updated", user, T1 + turn) for user in users]
        random.Random(turn).shuffle(batch)
        batches.append(batch)
    for result in await asyncio.gather(*(applier.apply(batch) for batch in batches)):
        assert {outcome.outcome for outcome in result} <= {"applied", "stale"}


async def test_one_bad_event_does_not_stop_the_rest(applier: Applier, db: asyncpg.Connection) -> None:
    """A failed batch is halved until only the event that causes the failure is parked."""
    await db.execute("alter table users add constraint no_grace check (first_name <> 'Grace')")
    batch = [make_webhook("user.created", f"user_{n}", first_name="Grace" if n == 5 else "Ada") for n in range(12)]
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


async def test_a_deletion_that_a_foreign_key_refuses_is_parked_and_keeps_its_tombstone(
    applier: Applier, db: asyncpg.Connection
) -> None:
    """A later update does not restore the user, and the deletion succeeds once no row refers to the user (K2)."""
    await db.execute("create table orders (user_id text references users)")
    await apply_all(applier, make_webhook("user.created", "user_1"))
    await db.execute("insert into orders values ('user_1')")
    deletion = make_webhook("user.deleted", "user_1")
    [found] = await applier.apply([deletion])
    assert found.outcome == "parked"
    assert found.reason in {"foreign_key_violation", "restrict_violation"}
    assert await apply_all(applier, make_webhook("user.updated", "user_1", T3)) == ["stale"]
    await db.execute("delete from orders")
    assert await apply_all(applier, deletion) == ["applied"]
    assert await db.fetchval("select count(*) from users") == 0


async def test_an_empty_batch_has_no_outcomes(applier: Applier) -> None:
    assert await applier.apply([]) == []


async def test_an_unreachable_database_is_unavailable(tmp_path: Any) -> None:
    pool = await open_database(parse_dsn(f"postgresql://postgres@/db?host={tmp_path}"))
    assert await apply_all(Applier(Store(pool, DEFAULT)), make_webhook("user.created", "user_1")) == ["unavailable"]
    await pool.aclose()


async def test_a_database_that_is_not_migrated_is_unavailable(empty_database: str) -> None:
    pool = await open_database(parse_dsn(empty_database))
    assert await apply_all(Applier(Store(pool, DEFAULT)), make_webhook("user.created", "user_1")) == ["unavailable"]
    await pool.aclose()


async def test_a_role_that_may_not_write_the_inbox_is_unavailable(database: str, db: asyncpg.Connection) -> None:
    """An event that cannot be stored is never acknowledged."""
    await db.execute("create role stranger login; grant all on public.users to stranger")
    stranger = await open_database(parse_dsn(database.replace("//postgres@", "//stranger@")))
    [found] = await Applier(Store(stranger, DEFAULT)).apply([make_webhook("user.created", "user_1")])
    assert found == Outcome("unavailable", "insufficient_privilege")
    await stranger.aclose()
    await db.execute("drop owned by stranger; drop role stranger")


def test_an_identifier_is_quoted() -> None:
    assert quote_ident('Us"ers') == '"Us""ers"'


@pytest.mark.parametrize("source", ["webhook", "login"])
async def test_the_source_that_created_the_row_is_kept(applier: Applier, db: asyncpg.Connection, source: str) -> None:
    """A webhook after a login, identical or newer, keeps `created_by` and causes no duplicate (A4)."""
    login = applier.with_source(source)
    change = make_webhook("user.created", "user_1").change
    assert isinstance(change, Snapshot)
    assert await apply_all(login, Event(None, "", clerk_id="user_1", change=change)) == ["applied"]
    assert not await db.fetchval("select count(*) from clerk_sync.events")
    assert await apply_all(
        applier, make_webhook("user.created", "user_1"), make_webhook("user.updated", "user_1", T2)
    ) == [
        "stale",
        "applied",
    ]
    assert await db.fetchval("select created_by from clerk_sync.identities") == source
    assert await db.fetchval("select count(*) from users") == 1
