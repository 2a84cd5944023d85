"""The fold follows the ordering rules, the messages are varied, and the checks detect damage."""

import json
import random

import asyncpg
import pytest

from tests.faults.conftest import RunUnderFault
from tests.faults.expected_table import Message, find_differences, find_lost, fold, generate_messages
from tests.faults.fault_run import FaultRun
from tests.world import T1, make_event


def make_message(event_type: str, moment: int, **data: str) -> Message:
    body = make_event(event_type, "user_1", moment, **data)
    if event_type != "user.deleted":
        body["data"]["email_addresses"] = [{"email_address": f"{moment}@example.com"}]
    return Message(f"msg_{event_type}_{moment}", json.dumps(body).encode())


def test_the_fold_keeps_the_greatest_version_and_no_deleted_user() -> None:
    older, newer = (
        make_message("user.created", T1, first_name="a"),
        make_message("user.updated", T1 + 1, first_name="b"),
    )
    assert fold([newer, older, newer]) == {"user_1": (f"{T1 + 1}@example.com", "b", T1 + 1)}
    assert fold([make_message("user.deleted", T1), newer, older]) == {}


def test_the_messages_are_repeated_unordered_and_reproducible() -> None:
    """Messages occur twice, unordered and with deletions; the same seed gives the same messages."""
    first, again = generate_messages(random.Random(7), "x"), generate_messages(random.Random(7), "x")
    messages = [next(first) for _ in range(2000)]
    assert messages == [next(again) for _ in range(2000)]
    assert len({message.id for message in messages}) < len(messages) * 0.95
    bodies = [json.loads(message.body) for message in messages]
    assert {body["type"] for body in bodies} == {"user.created", "user.updated", "user.deleted"}
    versions: dict[str, int] = {}
    reordered = 0
    for body in bodies:
        if "updated_at" in body["data"]:
            user, version = body["data"]["id"], body["data"]["updated_at"]
            reordered += version < versions.get(user, 0)
            versions[user] = max(version, versions.get(user, 0))
    assert reordered > 200


DAMAGES = {
    "a user is lost": "delete from public.users where id = (select min(id) from public.users)",
    "an older version is stored": "update public.users set updated_at = updated_at - interval '1 millisecond'"
    " where id = (select max(id) from public.users)",
    "an update is incomplete": "update public.users set first_name = 'x' where id = (select min(id) from public.users)",
    "a deleted user has a row": "insert into public.users (id, email_verified, banned, locked, public_metadata)"
    " select clerk_id, false, false, false, '{}' from clerk_sync.identities where deleted_at is not null limit 1",
    "a user has two rows": "alter table public.users drop constraint users_pkey, drop constraint users_email_key;"
    " insert into public.users select * from public.users limit 1",
}


async def test_the_checks_detect_every_kind_of_damage(run_under_fault: RunUnderFault) -> None:
    """The test damages the data in each of these ways, and a check must report it."""
    async with run_under_fault(None) as run:
        await run.wait(2, 2)
        await run.finish_load()
        async with run.engine.connect(run.database) as db:
            await check_detection(run, db)


async def check_detection(run: FaultRun, db: asyncpg.Connection) -> None:
    expected = fold(run.issued)
    assert expected
    for damage, sql in DAMAGES.items():
        await db.execute("begin")
        await db.execute(sql)
        assert await find_differences(db, expected), damage
        await db.execute("rollback")
    assert not await find_differences(db, expected)
    for loss in (
        "delete from clerk_sync.events",
        "update clerk_sync.events set status = 'dead', finished_at = null",
    ):
        await db.execute("begin")
        await db.execute(f"{loss} where id = '{run.issued[0].id}'")
        assert await find_lost(db, run.sender.acknowledged) == [run.issued[0].id]
        await db.execute("rollback")
    assert not await find_lost(db, run.sender.acknowledged)


async def test_a_fault_run_that_loses_a_row_fails(run_under_fault: RunUnderFault) -> None:
    with pytest.raises(AssertionError, match="rows are wrong"):
        await _delete_one_row(run_under_fault)


async def _delete_one_row(run_under_fault: RunUnderFault) -> None:
    async with run_under_fault(None) as run:
        await run.wait(0.5, 0.5)
        await run.finish_load()
        async with run.engine.connect(run.database) as db:
            await db.execute(DAMAGES["a user is lost"])
