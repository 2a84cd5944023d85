"""The fold knows the law, the histories are worth their while, and the checks can fail."""

import json
import random

import asyncpg
import pytest

from tests.faults.conftest import Besiege
from tests.faults.siege import Siege
from tests.faults.truth import Message, differences, fold, histories, lost
from tests.world import T1, make_event


def told(event_type: str, moment: int, **data: str) -> Message:
    body = make_event(event_type, "user_1", moment, **data)
    if event_type != "user.deleted":
        body["data"]["email_addresses"] = [{"email_address": f"{moment}@example.com"}]
    return Message(f"msg_{event_type}_{moment}", json.dumps(body).encode())


def test_the_fold_keeps_the_greatest_version_and_no_deleted_user() -> None:
    older, newer = told("user.created", T1, first_name="a"), told("user.updated", T1 + 1, first_name="b")
    assert fold([newer, older, newer]) == {"user_1": (f"{T1 + 1}@example.com", "b", T1 + 1)}
    assert fold([told("user.deleted", T1), newer, older]) == {}


def test_the_histories_are_what_the_faults_are_tried_with() -> None:
    """Messages twice, users out of order, users deleted; the same seed gives the same."""
    first, again = histories(random.Random(7), "x"), histories(random.Random(7), "x")
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


BREAKAGES = {
    "a user is lost": "delete from public.users where id = (select min(id) from public.users)",
    "an older version has won": "update public.users set updated_at = updated_at - interval '1 millisecond'"
    " where id = (select max(id) from public.users)",
    "an update is half done": "update public.users set first_name = 'x' where id = (select min(id) from public.users)",
    "a deleted user is back": "insert into public.users (id, email_verified, banned, locked, public_metadata)"
    " select clerk_id, false, false, false, '{}' from clerk_sync.identities where deleted_at is not null limit 1",
    "a user is there twice": "alter table public.users drop constraint users_pkey, drop constraint users_email_key;"
    " insert into public.users select * from public.users limit 1",
}


async def test_the_checks_see_every_kind_of_damage(besiege: Besiege) -> None:
    """Nothing is broken by the service here, but by the test, and each time the check says so."""
    async with besiege(None) as siege:
        await siege.pause(2, 2)
        await siege.lift()
        async with siege.engine.connected(siege.database) as db:
            await notices(siege, db)


async def notices(siege: Siege, db: asyncpg.Connection) -> None:
    truth = fold(siege.issued)
    assert truth
    for damage, sql in BREAKAGES.items():
        await db.execute("begin")
        await db.execute(sql)
        assert await differences(db, truth), damage
        await db.execute("rollback")
    assert not await differences(db, truth)
    for forgotten in (
        "delete from clerk_sync.events",
        "update clerk_sync.events set status = 'dead', finished_at = null",
    ):
        await db.execute("begin")
        await db.execute(f"{forgotten} where id = '{siege.issued[0].id}'")
        assert await lost(db, siege.sender.acknowledged) == [siege.issued[0].id]
        await db.execute("rollback")
    assert not await lost(db, siege.sender.acknowledged)


async def test_a_siege_in_which_a_row_is_lost_fails(besiege: Besiege) -> None:
    with pytest.raises(AssertionError, match="rows are not the truth"):
        await _lose_one(besiege)


async def _lose_one(besiege: Besiege) -> None:
    async with besiege(None) as siege:
        await siege.pause(0.5, 0.5)
        await siege.lift()
        async with siege.engine.connected(siege.database) as db:
            await db.execute(BREAKAGES["a user is lost"])
