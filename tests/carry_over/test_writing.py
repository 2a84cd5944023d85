"""POST /sync writes the data from before sign-up: once, whole, and through the types and rules of the app."""

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from sync_service.mapping.toml import parse_mapping
from tests.carry_over.conftest import (
    ANSWERS,
    MARKER,
    PROFILE,
    SYNC_TOML,
    carry,
    carry_as_backend,
    count_rows,
    create_app,
    make_body,
    read_result,
)
from tests.clerk_stub import ClerkStub
from tests.conftest import Output, Serve
from tests.sync_requests import build_settings
from tests.world import T2, World, make_event


async def read_record(db: asyncpg.Connection, visit: str = "visit-1") -> dict[str, Any]:
    return dict(await db.fetchrow("select * from clerk_sync.carry_overs where id = $1", visit) or {})


async def test_the_rows_belong_to_the_user_and_the_record_has_only_their_keys(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """The user's row is created first; columns that the visitor omits get their defaults."""
    response = await carry(world, make_body(notes=[{"text": MARKER}], user_profiles=[PROFILE], interactions=ANSWERS))
    assert read_result(response) == ("completed", None)
    assert (response.json()["outcome"], response.json()["user"]["clerk_id"]) == ("created", "user_1")
    user_id = response.json()["user"]["id"]
    profile = dict(await db.fetchrow("select * from app.user_profiles") or {})
    assert (profile["user_id"], profile["clerk_id"], profile["age"], profile["label"]) == (user_id, "user_1", 36, "p36")
    assert (profile["first_name"], profile["subscribed"], profile["tags"]) == (PROFILE["first_name"], False, None)
    assert await db.fetchval("select count(*) from app.interactions where user_id = $1", user_id) == 2
    assert await db.fetchval("select clerk_id from app.notes") == "user_1"
    record = await read_record(db)
    assert (record["clerk_id"], record["status"], record["reason"]) == ("user_1", "completed", None)
    assert record["finished_at"] >= record["created_at"]
    assert json.loads(record["keys"]) == [
        {"schema": "app", "table": "user_profiles", "key": {"id": 1}},
        {"schema": "app", "table": "interactions", "key": {"user_id": user_id, "question": "q1"}},
        {"schema": "app", "table": "interactions", "key": {"user_id": user_id, "question": "q2"}},
        {"schema": "app", "table": "notes", "key": None},
    ]
    assert MARKER not in str(record)
    [line] = output.log("carry_over")
    assert line["status"] == "completed"


@pytest.mark.parametrize(
    ("key", "reference", "generated"),
    [
        ("uuid primary key default gen_random_uuid()", "uuid", ""),
        ("text primary key", "text", 'id = { generate = "cuid2" }'),
        ("bigint primary key default 9007199254740993", "bigint", ""),
    ],
)
async def test_a_key_of_any_type_reaches_the_rows(
    serve: Serve, clerk: ClerkStub, db: asyncpg.Connection, key: str, reference: str, generated: str
) -> None:
    await create_app(db, key, reference)
    clerk.add_user("user_1")
    mapping = parse_mapping(SYNC_TOML.format(generated=generated))
    async with serve(**build_settings(clerk, mapping=mapping)) as world:
        assert read_result(await carry(world, make_body())) == ("completed", None)
    users = await db.fetch("select id from app.users")
    assert await db.fetch("select distinct user_id as id from app.interactions") == users
    assert await db.fetch("select user_id as id from app.user_profiles") == users


VALUES: dict[str, tuple[str, Any, Any]] = {
    "an integer as a form sends it": ("age", "36", 36),
    "an integer as Python sends a float": ("age", 36.0, 36),
    "a decimal": ("rating", 4.25, "4.25"),
    "null": ("rating", None, None),
    "a list": ("tags", ["a", "b c", 'd"'], ["a", "b c", 'd"']),
    "an enum": ("mood", "glad", "glad"),
    "an object": ("extra", {"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}),
    "a text in JSON": ("extra", "x", "x"),
    "a date": ("born", "1815-12-10", "1815-12-10"),
    "a time": ("seen_at", "2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00+00:00"),
    "a boolean": ("subscribed", True, True),
    "a text with quotes and more": ("first_name", "O'Hara \"\\ 😀 ; drop", "O'Hara \"\\ 😀 ; drop"),
}


async def test_values_pass_through_the_types_of_the_columns(world: World, db: asyncpg.Connection) -> None:
    for name, (column, given, stored) in VALUES.items():
        await db.execute("delete from app.user_profiles")
        body = make_body(f"visit-{column}-{len(name)}", user_profiles=[{column: given}])
        assert read_result(await carry(world, body)) == ("completed", None), name
        text = await db.fetchval(f"select to_jsonb(p)->'{column}' from app.user_profiles as p")
        found = json.loads(text)
        assert (str(found) if column == "rating" and given is not None else found) == stored, name


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a CHECK": ({"age": 7}, "check_violation"),
    "a number out of range": ({"age": 2**40}, "numeric_value_out_of_range"),
    "a number with too many digits": ({"rating": 1000}, "numeric_value_out_of_range"),
    "a text for a number": ({"age": "old"}, "invalid_text_representation"),
    "a boolean for a number": ({"age": True}, "datatype_mismatch"),
    "a number for a text": ({"first_name": 7}, "datatype_mismatch"),
    "an object for a text": ({"first_name": {"$ne": 1}}, "datatype_mismatch"),
    "a list for a text": ({"first_name": ["a"]}, "datatype_mismatch"),
    "a number for a list": ({"tags": 7}, "datatype_mismatch"),
    "a number for a date": ({"born": 20260131}, "datatype_mismatch"),
    "a text that is too long": ({"first_name": "x" * 41}, "string_data_right_truncation"),
    "no label of the enum": ({"mood": "sad"}, "invalid_text_representation"),
    "no date": ({"born": "2026-02-31"}, "datetime_field_overflow"),
    "null in a required column": ({"subscribed": None}, "not_null_violation"),
}


async def test_a_refusal_by_the_table_does_not_fail_the_login_and_stays_a_failure(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """No row of the carry-over is written, and the operators see the row, its table, column and constraint."""
    for number, (name, (row, reason)) in enumerate(REFUSED.items()):
        body = make_body(f"visit-{number}", interactions=ANSWERS, user_profiles=[row])
        assert read_result(await carry(world, body)) == ("failed", reason), name
        corrected = make_body(f"visit-{number}", user_profiles=[PROFILE])
        assert read_result(await carry(world, corrected)) == ("failed", reason), name
    assert await count_rows(db) == [0, 0, 0, len(REFUSED)]
    assert json.loads((await read_record(db, "visit-0"))["failure"]) == {
        "table": "app.user_profiles",
        "row": 1,
        "column": None,
        "constraint": "user_profiles_age_check",
        "function": None,
    }
    assert output.log("carry_over")[0]["constraint"] == "user_profiles_age_check"


async def test_a_repeat_returns_the_first_result_and_writes_nothing(world: World, db: asyncpg.Connection) -> None:
    """Whatever it contains, and whether the user or the app's backend sends it."""
    first = await carry(world, make_body())
    rows = await count_rows(db)
    assert rows == [1, 2, 0, 1]
    again = make_body(notes=[{"text": MARKER}])
    for response in (await carry(world, make_body()), await carry(world, again), await carry_as_backend(world, again)):
        assert read_result(response) == read_result(first)
    assert await count_rows(db) == rows


async def test_another_user_gets_neither_the_rows_nor_the_result_of_an_id(world: World, db: asyncpg.Connection) -> None:
    """The ID stays with its first user, also when that carry-over has failed."""
    assert read_result(await carry(world, make_body("a")))[0] == "completed"
    assert read_result(await carry(world, make_body("b", user_profiles=[{"age": 7}])))[0] == "failed"
    rows = await count_rows(db)
    for visit in ("a", "b"):
        body = make_body(visit, notes=[{"text": MARKER}])
        assert read_result(await carry(world, body, "user_2")) == ("failed", "id_of_another_user")
    assert await count_rows(db) == rows
    assert read_result(await carry(world, make_body("a"))) == ("completed", None)


async def test_a_carry_over_without_rows_is_completed(world: World, db: asyncpg.Connection) -> None:
    given: dict[str, Any] = {"a": {}, "b": {"notes": []}}
    for visit, rows in given.items():
        response = await carry(world, {"carry_over": {"id": visit, "rows": rows}})
        assert read_result(response) == ("completed", None)
    assert await count_rows(db) == [0, 0, 0, 2]


async def test_a_login_without_a_carry_over_has_none_in_its_response(world: World) -> None:
    for body in (b"", b"{}", b'{"carry_over": null}'):
        response = await carry(world, body)
        assert (response.status_code, "carry_over" in response.json()) == (200, False)


async def test_the_response_has_the_users_row_as_the_triggers_of_the_app_left_it(
    world: World, db: asyncpg.Connection
) -> None:
    await db.execute(
        "create function app.count_profile() returns trigger language plpgsql as $$ begin"
        " update app.users set profiles = profiles + 1 where id = new.user_id; return new; end $$;"
        "create trigger count_profile after insert on app.user_profiles"
        " for each row execute function app.count_profile()"
    )
    response = await carry(world, make_body())
    assert response.json()["user"]["profiles"] == await db.fetchval("select profiles from app.users") == 1


CODES = ("P0001", "40001", "53100", "57014", "57P01", "08006", "25006", "3D000", "XX000")


async def test_a_trigger_that_raises_any_code_is_a_refusal(world: World, db: asyncpg.Connection) -> None:
    for code in CODES:
        await db.execute(
            "create or replace function app.refuse() returns trigger language plpgsql as"
            f" $$ begin raise exception '%', new.first_name using errcode = '{code}'; end $$;"
            "create or replace trigger refuse before insert on app.user_profiles"
            " for each row execute function app.refuse()"
        )
        assert read_result(await carry(world, make_body(code)))[0] == "failed", code
        assert json.loads((await read_record(db, code))["failure"])["function"] == "app.refuse"
    assert await count_rows(db) == [0, 0, 0, len(CODES)]


@pytest.mark.parametrize(
    ("body", "event", "reason"),
    [
        ("return null;", "before", "row_not_written"),
        ("insert into app.dropped values (1); return new;", "before", "undefined_table"),
    ],
)
async def test_a_trigger_that_suppresses_a_row_or_fails_is_a_refusal(
    world: World, db: asyncpg.Connection, body: str, event: str, reason: str
) -> None:
    await db.execute(
        f"create function app.hinder() returns trigger language plpgsql as $$ begin {body} end $$;"
        f"create trigger hinder {event} insert on app.user_profiles for each row execute function app.hinder()"
    )
    assert read_result(await carry(world, make_body())) == ("failed", reason)
    assert await count_rows(db) == [0, 0, 0, 1]


async def test_a_deferred_constraint_refuses_before_the_commit(world: World, db: asyncpg.Connection) -> None:
    await db.execute("create table app.questions (name text primary key)")
    await db.execute(
        "alter table app.interactions add foreign key (question) references app.questions deferrable initially deferred"
    )
    assert read_result(await carry(world, make_body())) == ("failed", "foreign_key_violation")
    assert await count_rows(db) == [0, 0, 0, 1]


async def test_a_table_that_does_not_fit_keeps_the_id_for_a_later_call(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """A mistake of the operator loses no data: the response is 503, and the same ID works after the correction."""
    await db.execute("alter table app.user_profiles rename column age to years")
    response = await carry(world, make_body())
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert response.headers["retry-after"]
    [line] = output.log("carry_over_mismatch")
    assert line["errors"] == ["app.user_profiles.age: there is no such column"]
    await db.execute("alter table app.user_profiles rename column years to age")
    assert read_result(await carry(world, make_body())) == ("completed", None)


async def test_a_deleted_user_gets_no_rows(world: World, db: asyncpg.Connection) -> None:
    assert read_result(await carry(world, make_body("a"))) == ("completed", None)
    assert await world.deliver_ok(make_event("user.deleted", "user_1", T2)) == "applied"
    response = await carry(world, make_body("b", notes=[{"text": MARKER}]))
    assert (response.status_code, response.json()["code"]) == (410, "deleted_user")
    assert await count_rows(db) == [0, 0, 0, 1]


async def test_two_calls_at_once_write_once_and_get_the_same_response(world: World, db: asyncpg.Connection) -> None:
    """Two tabs, and the webhook of the sign-up at the same time; the user's row is created once."""
    created = make_event("user.created", "user_1")
    *responses, webhook = await asyncio.gather(
        *(carry(world, make_body()) for _ in range(6)),
        *(carry_as_backend(world, make_body()) for _ in range(2)),
        world.deliver(created),
    )
    assert webhook.is_success
    assert {read_result(response) for response in responses} == {("completed", None)}
    assert await count_rows(db) == [1, 2, 0, 1]
    assert await db.fetchval("select count(*) from app.users") == 1
