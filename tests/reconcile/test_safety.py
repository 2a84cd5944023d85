"""No user is deleted by mistake, and a run that may not write writes nothing."""

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.toml import parse_mapping
from sync_service.sync.drift_report import is_mass_deletion
from tests.clerk_stub import ClerkStub
from tests.reconcile.conftest import Reconcile, add_users
from tests.world import INSTANCE, T0, T1, World, make_event


async def count_rows(db: asyncpg.Connection) -> int:
    return int(await db.fetchval("select count(*) from users"))


async def test_a_key_that_is_rejected_ends_the_run_at_once(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """A 401 is not tried again, and the message names the variable (G4)."""
    add_users(clerk, 3)
    clerk.error_status = 401
    report = await reconcile()
    assert report.error
    assert "CLERK_SECRET_KEY" in report.error
    assert not report.finished
    assert len(clerk.requests) == 1
    assert await count_rows(db) == 0


@pytest.mark.parametrize("kids", [{"ins_2other": "clerk"}, {}], ids=["another instance", "no instance"])
async def test_a_key_that_may_belong_to_another_instance_writes_nothing(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, kids: dict[str, str]
) -> None:
    """G6: the pinned instance decides, and a key set without an instance confirms nothing."""
    add_users(clerk, 3)
    assert (await reconcile()).is_clean
    assert await db.fetchval("select id from clerk_sync.instance") == INSTANCE
    clerk.kids = kids
    clerk.requests.clear()
    add_users(clerk, 6)
    report = await reconcile()
    assert report.error
    assert "CLERK_SECRET_KEY" in report.error
    assert clerk.list_calls == 0
    assert await count_rows(db) == 3


async def test_a_mass_deletion_needs_the_option(reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection) -> None:
    add_users(clerk, 40)
    await reconcile()
    for n in range(11):
        clerk.remove_user(f"user_{n:05}")
    refused = await reconcile()
    assert (refused.deleted, refused.refused, refused.repaired, refused.is_clean) == (11, 11, 0, False)
    assert await count_rows(db) == 40
    allowed = await reconcile(allow_mass_delete=True)
    assert (allowed.deleted, allowed.refused, allowed.repaired, allowed.is_clean) == (11, 0, 11, True)
    assert await count_rows(db) == 29
    assert await db.fetchval("select count(*) from clerk_sync.events where id like 'reconcile%'") == 11


def test_a_mass_deletion_is_more_than_ten_users_and_more_than_five_percent() -> None:
    assert not is_mass_deletion(10, 10)
    assert is_mass_deletion(11, 219)
    assert not is_mass_deletion(11, 220)


def shorten(clerk: ClerkStub) -> Callable[[Request], Response | None]:
    """Return answers of a list that ends after 3 users; the list by ID is right."""

    def answer(request: Request) -> Response | None:
        return None if "user_id" in request.query_params else JSONResponse(list(clerk.users.values())[:3])

    return answer


def ignore_ids(clerk: ClerkStub) -> Callable[[Request], Response | None]:
    """Return answers of a list that shows 3 users, whichever IDs are asked for."""
    return lambda _: JSONResponse(list(clerk.users.values())[:3])


def forget_ids(clerk: ClerkStub) -> Callable[[Request], Response | None]:
    """Return answers of a list by ID that is always empty."""

    def answer(request: Request) -> Response | None:
        found = [] if "user_id" in request.query_params else list(clerk.users.values())[:3]
        return JSONResponse(found)

    return answer


@pytest.mark.parametrize("fault", [shorten, ignore_ids, forget_ids])
async def test_a_list_that_lacks_users_deletes_none(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection, fault: Any
) -> None:
    """Clerk confirms each deletion by ID; a list by ID that is about other users confirms none."""
    add_users(clerk, 9)
    await reconcile()
    clerk.answer_list = fault(clerk)
    report = await reconcile(give_up_after=0)
    assert (report.deleted, report.repaired) == (0, 0)
    assert report.finished == (fault is shorten)
    assert await count_rows(db) == 9


async def test_users_created_during_the_walk_are_no_candidates(
    reconcile: Reconcile, clerk: ClerkStub, world: World
) -> None:
    """Their webhooks arrive before Clerk's lists show them."""
    add_users(clerk, 3)
    await reconcile()
    arrived = []

    def answer(request: Request) -> None:
        arrived.append(request.query_params.getlist("user_id"))

    clerk.answer_list = answer
    # The webhook came after the start of the run, as far as the database knows.
    await world.deliver_ok(make_event("user.created", "user_just_now"))
    await world.db.execute(
        "update clerk_sync.identities set first_seen_at = now() + interval '1 s' where clerk_id = 'user_just_now'"
    )
    assert (await reconcile()).deleted == 0
    assert arrived == [[], []]
    assert await world.get_user("user_just_now")


async def test_a_restored_user_stays_and_a_row_of_a_deleted_user_goes(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """An operator's decision is final. A row that a backup brought back is deleted again."""
    add_users(clerk, 4)
    await reconcile()
    await db.execute("update clerk_sync.identities set restored_at = now() where clerk_id = 'user_00001'")
    clerk.remove_user("user_00001")
    clerk.remove_user("user_00002")
    assert (await reconcile()).deleted == 1
    await db.execute(
        "insert into users (id, email_verified, banned, locked, public_metadata)"
        " values ('user_00002', false, false, false, '{}')"
    )
    report = await reconcile()
    assert (report.deleted, report.repaired) == (1, 1)
    assert [row["id"] for row in await db.fetch("select id from users order by id")] == [
        *("user_00000", "user_00001", "user_00003")
    ]


async def test_a_marked_row_of_a_deleted_user_stays(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """With a soft deletion the row remains. Without its mark, as a backup has it, it is marked again."""
    await db.execute("alter table users add column deleted_at timestamptz")
    mapping = replace(DEFAULT, on_delete="soft", deleted_at="deleted_at")
    add_users(clerk, 3)
    await reconcile(mapping=mapping)
    clerk.remove_user("user_00001")
    assert (await reconcile(mapping=mapping)).deleted == 1
    assert (await reconcile(mapping=mapping)).drift == 0
    await db.execute("update users set deleted_at = null")
    report = await reconcile(mapping=mapping)
    assert (report.deleted, report.repaired) == (1, 1)
    marked = await db.fetch("select id from users where deleted_at is not null")
    assert [row["id"] for row in marked] == ["user_00001"]


async def test_a_row_that_the_app_has_locked_is_one_failed_user(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """The run goes on to its end, and the next one repairs the row."""
    add_users(clerk, 3)
    await reconcile()
    await db.execute("update users set first_name = 'x' where id = 'user_00001'")
    async with db.transaction():
        await db.execute("select from users where id = 'user_00001' for update")
        report = await reconcile()
    assert (report.finished, report.failed, report.repaired) == (True, 1, 0)
    assert (await reconcile()).repaired == 1


async def test_columns_that_the_app_may_keep_are_no_drift(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    await db.execute("create table people (id text primary key, clerk text unique, first text, name text, note text)")
    mapping = parse_mapping(
        '[users]\ntable = "people"\nclerk_id = "clerk"\n[users.columns]\nid = { generate = "uuid7" }\n'
        'first = { from = "first_name", write = "insert" }\nname = { from = "last_name", on_null = "keep" }\n'
    )
    add_users(clerk, 2)
    await reconcile(mapping=mapping)
    await db.execute("update people set first = 'mine', name = 'mine', note = 'mine'")
    assert (await reconcile(mapping=mapping)).drift == 0
    await db.execute("delete from people")
    assert (await reconcile(mapping=mapping)).missing == 2


async def test_an_interrupted_run_continues_and_deletes_only_after_a_whole_walk(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """Clerk fails at the third page. The next run begins there, and walks over the first pages last (G2)."""
    add_users(clerk, 1300)
    await reconcile()
    clerk.remove_user("user_00001")
    for user in clerk.users.values():
        user["first_name"] = "Updated"

    def fail_at_the_end(request: Request) -> Response | None:
        is_late = request.query_params.get("starting_after", "") > "user_00700"
        return JSONResponse({}, 500) if is_late else None

    clerk.answer_list = fail_at_the_end
    first = await reconcile(give_up_after=0)
    assert (first.finished, first.deleted) == (False, 0)
    assert await db.fetchval("select count(*) from users where first_name = 'Updated'") == 1000
    since: list[str | None] = []
    clerk.answer_list = lambda request: since.append(request.query_params.get("created_at_after"))
    second = await reconcile()
    assert (second.users, second.deleted, second.differing) == (1299, 1, 299)
    assert int(since[0] or 0) > T0 + 300
    assert (await reconcile()).drift == 0
    errors = await db.fetch("select error is null, checkpoint from clerk_sync.reconciles order by id")
    assert [tuple(error) for error in errors] == [(True, None), (False, errors[1][1]), (True, None), (True, None)]
    assert errors[1][1] > T0
    assert json.loads(await db.fetchval("select columns from clerk_sync.reconciles where id = 3")) == {
        "first_name": 299
    }


async def test_recent_without_an_earlier_run_compares_all_users(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """A run over the inbox has not asked Clerk, and a run that ended early has not seen all changes."""
    add_users(clerk, 1200)
    await db.execute(
        "insert into clerk_sync.reconciles (mode, finished_at, error)"
        " values ('inbox', now(), null), ('full', now(), 'x')"
    )
    report = await reconcile(recent=True)
    assert (report.users, report.missing, report.repaired, report.is_clean) == (1200, 1200, 1200, True)


async def test_recent_overlaps_with_the_run_before(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    """A change from before the last run may have appeared in Clerk's list after it."""
    add_users(clerk, 3)
    await reconcile()
    now = int(time.time() * 1000)
    clerk.users["user_00000"] |= {"first_name": "late", "updated_at": now - 5 * 60_000}
    clerk.users["user_00001"] |= {"first_name": "older", "updated_at": now - 15 * 60_000}
    report = await reconcile(recent=True)
    assert (report.users, report.stale, report.repaired) == (1, 1, 1)
    assert await db.fetchval("select first_name from users where id = 'user_00000'") == "late"
    assert (await reconcile()).stale == 1


async def test_recent_looks_only_at_the_newest_changes(
    reconcile: Reconcile, clerk: ClerkStub, db: asyncpg.Connection
) -> None:
    add_users(clerk, 1200)
    await reconcile()
    clerk.requests.clear()
    await db.execute("delete from users where id in ('user_00005', 'user_00006')")
    clerk.users["user_00005"]["updated_at"] = T1 + 10 * 86_400_000
    report = await reconcile(recent=True)
    assert (report.missing, report.deleted, report.users, report.recent) == (1, 0, 1, True)
    assert clerk.list_calls == 1
    assert await count_rows(db) == 1199
