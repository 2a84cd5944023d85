"""Forged and hostile carry-overs: none writes a row, and none of their data is seen outside of the tables."""

import json
import time
from collections.abc import Iterator
from typing import Any

import asyncpg

from tests.carry_over.conftest import ANSWERS, MARKER, PROFILE, TABLES, carry, carry_as_backend, count_rows, make_body
from tests.clerk_stub import make_session_token
from tests.conftest import Output
from tests.forged_tokens import forge_tokens
from tests.world import World

MIN_ATTACKS = 200

# Names of tables and columns that no entry lists.
NAMES = (
    *("users", "app.users", "app.user_profiles", "pg_catalog.pg_authid", "clerk_sync.identities", "USER_PROFILES"),
    *(
        "user_profiles ",
        'user_profiles"; drop table app.notes; --',
        "user_profiles;select 1",
        "notes(text) values('x')",
    ),
    *("__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "__class__", "__init__"),
    *("", " ", "*", "$1", "%s", "{}", "../notes", "text\0", "\ud800", "техт", "text\n", MARKER, "x" * 5000),
)
COLUMNS = ("id", "user_id", "clerk_id", "label", "created_at", "ctid", "xmin", "tableoid", "user_profiles", *NAMES)

# Values that no column of the profile takes.
WRONG_VALUES: dict[str, tuple[Any, ...]] = {
    "age": ("x", "1; drop table app.notes", "", {}, [], [1], True, 7, 999, 1.5, 2**31, -(2**63), "0xzz", "٣", MARKER),
    "rating": ("abc", {}, [], False, 1e9, -1e300, MARKER),
    "tags": (7, True, {"a": 1}, "a,b", "{a", MARKER),
    "mood": (7, "", "sad", {}, [], "calm'", "GLAD", MARKER),
    "born": (7, "yesterdayy", {}, [], "2026-13-01", True, MARKER),
    "seen_at": (7, {}, [], "25:61", MARKER),
    "subscribed": (7, {}, [], None, "perhaps", MARKER),
    "first_name": (7, True, {}, [], {"$gt": ""}, ["a"], "x" * 41, "a\0b", "\ud83d", MARKER + "\0"),
    "extra": ("a\0", "\udc00", {"a\0": 1}, ["\ud800"], {"a": {"b": "\0"}}),
}

WRONG_ROWS: tuple[Any, ...] = ([], 7, "x", [[]], {"notes": 7}, {"notes": {}}, {"notes": {"text": "x"}})
WRONG_LISTS: tuple[Any, ...] = ("x", [7], [None], [[]], ["x"], [[{"text": "x"}]], None, True)
WRONG_IDS: tuple[Any, ...] = (
    *(7, None, True, [], {}, "", " ", "a b", "a\n", "a\0", "\ud800", "x" * 256, "ada@example.com"),
    *("v'; drop table app.notes; --", "é", "a\u2028"),
)

# The whole of `carry_over`, or of its parts.
SHAPES: tuple[Any, ...] = (
    *(7, "x", [], True, {}, [{}], {"id": "v"}, {"rows": {}}, {"id": "v", "rows": None}),
    *({"id": "v", "rows": rows} for rows in WRONG_ROWS),
    *({"id": "v", "rows": {"notes": rows}} for rows in WRONG_LISTS),
    *({"id": visit, "rows": {"notes": [{"text": "x"}]}} for visit in WRONG_IDS),
    {"id": "v", "rows": {"notes": [{"text": "x"}]}, "user_id": "user_2"},
    {"id": "v", "rows": {"notes": [{"text": "x"}]}, MARKER: 1},
)


def nest(depth: int) -> str:
    return "[" * depth + "]" * depth


# Bodies that `json.dumps` cannot write: duplicates, constants, sizes, depths, broken texts.
RAW = (
    '{"carry_over": {"id": "v", "id": "w", "rows": {"notes": [{"text": "x"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "x"}], "notes": [{"text": "y"}]}}}',
    '{"carry_over": {"id": "v", "rows": {}, "rows": {"notes": [{"text": "y"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "x", "text": "y"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "x", "te\\u0078t": "y"}]}}}',
    '{"carry_over": {"id": "v", "rows": {}}, "carry_over": {"id": "v", "rows": {"notes": [{"text": "y"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"user_profiles": [{"extra": {"a": 1, "a": 2}}]}}}',
    *(
        f'{{"carry_over": {{"id": "v", "rows": {{"user_profiles": [{{"rating": {number}}}]}}}}}}'
        for number in (
            *(
                "NaN",
                "Infinity",
                "-Infinity",
                "1e999",
                "-1e999",
                "1" * 5000,
                "01",
                "+1",
                ".5",
                "1.",
                "0x10",
                "nan",
                "1_0",
            ),
        )
    ),
    *(
        f'{{"carry_over": {{"id": "v", "rows": {{"user_profiles": [{{"extra": {nest(depth)}}}]}}}}}}'
        for depth in (*(40, 400, 600, 5000, 100_000),)
    ),
    '{"carry_over": {"id": "v", "rows": ' + '{"notes":' * 600 + "1" + "}" * 600 + "}}",
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "x"}]}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "x"}]}}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "\\x"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "\\ud800"}]}}}',
    '{"carry_over": {"id": "v", "rows": {"notes": [{"text": "a\nb"}]}}}',
    "{'carry_over': {}}",
    '[{"carry_over": {"id": "v", "rows": {}}}]',
)


def list_bodies() -> Iterator[bytes]:
    """Yield the bodies of a user with a valid token, each with rows that could be written beside the hostile part."""
    valid = {"interactions": ANSWERS}
    for name in NAMES:
        yield encode({"id": "v", "rows": valid | {name: [{"text": MARKER}]}})
    for name in COLUMNS:
        yield encode({"id": "v", "rows": valid | {"user_profiles": [{**PROFILE, name: MARKER}]}})
    for column, values in WRONG_VALUES.items():
        for number, value in enumerate(values):
            yield encode({"id": f"{column}-{number}", "rows": valid | {"user_profiles": [PROFILE | {column: value}]}})
    yield from map(encode, SHAPES)
    yield from (text.encode() for text in RAW)
    yield RAW[0].replace('"x"', '"\xff"').encode("latin-1")
    yield b'{"carry_over": {"id": "v", "rows": {"notes": [{"text": "\xed\xa0\x80"}]}}}'
    yield make_over_limit(most=2)
    yield encode({"id": "v", "rows": {"notes": [{"text": "x"}] * 101}})
    yield encode({"id": "v", "rows": valid | {"notes": [{"text": "x"}] * 99}})
    yield encode({"id": "v", "rows": {"notes": [{"text": "x" * 256 * 1024}]}})
    yield encode({"id": "v", "rows": {"notes": [{"text": "é" * 1024 * 600}]}})


def make_over_limit(most: int) -> bytes:
    """Return a body with more rows than the table's `most`."""
    return encode({"id": "v", "rows": {"user_profiles": [PROFILE] * most}})


def encode(carry_over: Any) -> bytes:
    return json.dumps({"carry_over": carry_over}).encode()


async def read_rows(db: asyncpg.Connection) -> list[Any]:
    """Return all rows of the app's tables."""
    return [await db.fetch(f"select * from {table}") for table in (*TABLES, "app.users")]


async def test_no_hostile_carry_over_writes_a_row_or_shows_its_data(
    world: World, db: asyncpg.Connection, output: Output
) -> None:
    """400 writes no record either. Only a refusal by the table is recorded, and the login succeeds.

    Every fourth one comes from the app's backend, for which the same tables and columns hold.
    """
    for user_id in ("user_1", "user_2"):
        assert (await carry(world, b"", user_id)).status_code == 200
    before = await read_rows(db)
    bodies = [*list_bodies()]
    failed = 0
    for number, body in enumerate(bodies):
        response = await (carry_as_backend if number % 4 == 0 else carry)(world, body)
        if response.status_code == 200:
            assert response.json()["carry_over"]["status"] == "failed", body[:300]
            failed += 1
        else:
            assert response.status_code in {400, 413}, (body[:300], response.text)
            assert MARKER not in response.text, body[:300]
    assert await read_rows(db) == before
    assert await count_rows(db) == [0, 0, 0, failed]
    assert MARKER not in str(await db.fetch("select * from clerk_sync.carry_overs"))
    assert not output.log("unhandled_exception")
    output.read()
    assert MARKER not in output.said
    assert len(bodies) - failed >= MIN_ATTACKS / 2
    assert len(bodies) >= MIN_ATTACKS
    # The same service still takes a valid one.
    assert (await carry(world, make_body())).json()["carry_over"]["status"] == "completed"


async def test_no_forged_token_and_no_other_user_writes(world: World, db: asyncpg.Connection) -> None:
    for user_id in ("user_1", "user_2"):
        assert (await carry(world, b"", user_id)).status_code == 200
    before = await read_rows(db)
    now = int(time.time())
    tokens = forge_tokens() | {"expired a day ago": make_session_token("user_1", exp=now - 86_400, iat=now - 86_460)}
    for defect, token in tokens.items():
        # httpx sends no header that ends with a space.
        assert (await carry(world, make_body(), token=token or "-")).status_code == 401, defect
    for body in (make_body() | {"user_id": "user_2"}, make_body() | {"user_id": "user_1\u200b"}):
        assert (await carry(world, body)).status_code in {400, 403}
    for headers in ({"X-Clerk-User-Id": "user_2"}, {}):
        headers |= {"Authorization": f"Bearer {make_session_token('user_1')}"}
        query = "" if "X-Clerk-User-Id" in headers else "?user_id=user_2"
        response = await world.client.post(f"/sync{query}", headers=headers, json=make_body())
        assert (response.status_code, response.json()["code"]) == (403, "wrong_user")
    assert await read_rows(db) == before
    assert await count_rows(db) == [0, 0, 0, 0]
