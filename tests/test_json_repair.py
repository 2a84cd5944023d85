"""JSON whose values cannot be stored: they are replaced, and the rest of an event or a profile is applied."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest
from starlette.responses import Response

from sync_service.clerk.json_repair import _TOKEN, MAX_DEPTH, MAX_DIGITS, parse_tolerantly, repair_json
from sync_service.clerk.stored_events import event_from_row
from sync_service.mapping.fields import FieldSource
from sync_service.mapping.presets import DEFAULT
from sync_service.web.sync_request import MAX_REPAIRED_BYTES
from tests.clerk_stub import API_TOKEN, ClerkStub, make_bearer_header
from tests.conftest import Output, Serve
from tests.processes import run_here
from tests.sync_requests import build_settings, post_sync, read_outcome
from tests.world import T1, T2, World, encode_body, make_email_fields, make_event, make_message_id

# Each value as JSON text, and the value that takes its place.
REPLACEMENTS: dict[str, tuple[str, Any]] = {
    "1e999": ("1e999", None),
    "-1e309": ("-1e309", None),
    "1e999999": ("1e999999", None),
    "5,000 digits": ("9" * 5000, None),
    "982 lists": ("[" * 982 + "]" * 982, None),
    "501 lists": ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), None),
    "50,000 lists": ("[" * 50_000 + "]" * 50_000, None),
    "NUL": (r'"a\u0000b"', "ab"),
    "lone surrogate": (r'"a\ud800"', "a\ufffd"),
    "second half of a surrogate pair": (r'"\uDC00b"', "\ufffdb"),
}
FIELDS = ["x", "public_metadata.plan"]


def put_value(body: dict[str, Any], text: str, field: str = "x") -> bytes:
    """Return the body with a JSON text as the value of a field of its user."""
    field, _, member = field.partition(".")
    body["data"][field] = {member: "VALUE", "kept": 1} if member else "VALUE"
    return encode_body(body).replace(b'"VALUE"', text.encode())


def read_field(user: dict[str, Any], field: str) -> Any:
    field, _, member = field.partition(".")
    return user[field][member] if member else user[field]


@pytest.mark.parametrize("field", FIELDS)
async def test_a_value_that_cannot_be_stored_is_replaced_and_the_rest_is_applied(
    world: World, output: Output, field: str
) -> None:
    """The row, the stored copy, the log and the inbox show it; the field is mapped or not."""
    for number, (name, (text, replacement)) in enumerate(REPLACEMENTS.items()):
        user_id, message_id = f"user_{number}", make_message_id()
        body = put_value(make_event("user.created", user_id, first_name="Ada"), text, field)
        assert await world.deliver_ok(body, message_id) == "applied", name
        row, stored = await world.get_user(user_id), await world.get_event(message_id)
        assert row, name
        assert stored, name
        assert row["first_name"] == "Ada"
        assert read_field(json.loads(stored["payload"]), field) == replacement, name
        assert stored["reason"] == "value_replaced"
        if field.startswith("public_metadata"):
            assert row["public_metadata"] == {"plan": replacement, "kept": 1}, name
        line = output.log("value_replaced")[-1]
        assert (line["svix_id"], line["fields"]) == (message_id, [field.partition(".")[0]])
    assert len(output.log("value_replaced")) == len(REPLACEMENTS)


async def test_a_replaced_value_is_noted_beside_a_conflict_of_emails_too(world: World) -> None:
    fields = make_email_fields("shared")
    await world.deliver_ok(make_event("user.created", "user_1", T1, **fields))
    message_id = make_message_id()
    body = put_value(make_event("user.created", "user_2", T2, **fields), "1e999", "username")
    assert await world.deliver_ok(body, message_id) == "applied"
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["reason"]) == ("applied", "value_replaced")


async def test_a_batch_with_every_such_value_applies_all_its_events(serve: Serve) -> None:
    """The good events of the batch are applied too; the mapping reads the field, so its version depends on it."""
    columns = {**DEFAULT.columns, "username": FieldSource("public_metadata.plan")}
    async with serve(mapping=replace(DEFAULT, columns=columns)) as world:
        texts = [text for text, _ in REPLACEMENTS.values()] * 2
        bodies = [
            put_value(make_event("user.created", f"user_{n}"), text, FIELDS[n % 2]) for n, text in enumerate(texts)
        ]
        bodies += [encode_body(make_event("user.created", f"good_{n}", banned=True)) for n in range(64 - len(bodies))]
        answers = await asyncio.gather(*(world.deliver(body) for body in bodies))
        assert {(answer.status_code, answer.json()["outcome"]) for answer in answers} == {(200, "applied")}
        assert len(await world.get_users()) == 64
        await world.check_invariants()


@pytest.fixture
async def plans(serve: Serve, db: asyncpg.Connection) -> AsyncIterator[World]:
    """A service whose table requires the plan."""
    await db.execute("alter table users add plan text not null")
    columns = {**DEFAULT.columns, "plan": FieldSource("public_metadata.plan")}
    async with serve(mapping=replace(DEFAULT, columns=columns)) as world:
        yield world


async def test_a_required_value_that_was_replaced_parks_its_event_only(plans: World) -> None:
    bad = put_value(make_event("user.created", "user_1"), "[" * 982 + "]" * 982, "public_metadata.plan")
    good = make_event("user.created", "user_2", public_metadata={"plan": "pro"})
    answers = await asyncio.gather(plans.deliver(bad), plans.deliver(good))
    assert [answer.json() for answer in answers] == [
        {"outcome": "parked", "reason": "not_null_violation"},
        {"outcome": "applied"},
    ]


async def test_a_ban_in_an_event_with_such_a_value_is_applied(world: World) -> None:
    await world.deliver_ok(make_event("user.created", "user_1", T1))
    body = put_value(make_event("user.updated", "user_1", T2, banned=True), r'"\ud800"', "last_name")
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    assert (row["banned"], row["last_name"]) == (True, "\ufffd")


@pytest.mark.parametrize("text", [r'"user_\u00001"', r'"user_1\ud800"', "1e999", "[" * 982 + "]" * 982])
async def test_an_id_is_never_repaired_into_another_id(world: World, text: str) -> None:
    """Without its NUL the ID would name another user, who must not be deleted."""
    await world.deliver_ok(make_event("user.created", "user_1"))
    response = await world.deliver(put_value(make_event("user.deleted", "user_1"), text, "id"))
    assert response.json() == {"outcome": "parked", "reason": "unreadable_user"}
    key = encode_body(make_event("user.deleted", "user_2", X="user_1")).replace(b'"X"', rb'"id\u0000"')
    assert (await world.deliver(key)).status_code == 200
    assert await world.get_user("user_1")
    world.accepted.clear()  # the unreadable deletions are parked again, as they should be


@pytest.mark.parametrize("field", ["public_metadata.plan", "created_at"])
async def test_a_session_with_such_a_value_updates_the_row(world: World, field: str) -> None:
    user = put_value(make_event("user.updated", "user_1", first_name="Ada"), "1e999", field)
    body = b'{"type": "session.created", "data": {"id": "sess_1", "user": ' + encode_user(user) + b"}}"
    assert await world.deliver_ok(body) == "applied"
    assert await world.get_user("user_1")


def encode_user(body: bytes) -> bytes:
    return body.partition(b'"data": ')[2].removesuffix(b"}")


async def test_clerk_s_api_may_return_such_a_value(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk)) as world:
        for number, (name, (text, replacement)) in enumerate(REPLACEMENTS.items()):
            body = put_value(make_event("user.updated", f"user_{number}"), text, "public_metadata.plan")
            clerk.error_response = Response(encode_user(body))
            response = await post_sync(world, f"user_{number}")
            assert await read_outcome(response) == "created", name
            assert response.json()["user"]["public_metadata"] == {"plan": replacement, "kept": 1}, name


async def test_a_profile_may_contain_such_a_value(serve: Serve, clerk: ClerkStub) -> None:
    headers = make_bearer_header(API_TOKEN)
    body = '{"user_id": "USER", "profile": {"first_name": "Ada", "public_metadata": {"plan": VALUE}}}'
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        for number, (name, (text, replacement)) in enumerate(REPLACEMENTS.items()):
            content = body.replace("USER", f"user_{number}").replace("VALUE", text)
            response = await world.client.post("/sync", headers=headers, content=content)
            assert await read_outcome(response) == "unverified", name
            assert response.json()["user"]["public_metadata"] == {"plan": replacement}, name
        nul = await world.client.post("/sync", headers=headers, content=r'{"user_id": "user_\u00001"}')
        assert nul.status_code == 400


@pytest.mark.parametrize("value", ["1" + "0" * 5000, "1e999", "[" * 982 + "]" * 982])
async def test_a_payload_of_an_older_release_blocks_no_other_event(
    world: World, db: asyncpg.Connection, database: str, tmp_path: Path, value: str
) -> None:
    """A replay applies the event and its neighbours, and the commands print it."""
    environment: dict[str, Any] = {"cwd": tmp_path, "DATABASE_URL": database, "QUIET": "1"}
    good = make_message_id()
    await world.deliver_ok(make_event("user.created", "user_1"), good)
    event = make_event("user.created", "user_2", first_name="Old", last_name=None)
    await db.execute(
        "insert into clerk_sync.events (id, type, clerk_id, status, payload)"
        " values ('msg_old', 'user.created', 'user_2', 'dead', $1)",
        encode_user(put_value(event, value)).decode(),
    )
    done = run_here("events", "replay", "msg_old", good, **environment)
    assert (done.returncode, done.stdout) == (0, "applied: 2\n")
    assert await world.get_user("user_2")
    shown = run_here("events", "show", "msg_old", **environment)
    assert json.loads(shown.stdout)["id"] == "msg_old"


def test_a_payload_is_parsed_from_any_depth_of_the_stack() -> None:
    """The limit does not depend on the caller: a value at the limit is read deep in the stack as well."""
    text = "[" * (MAX_DEPTH - 10) + "]" * (MAX_DEPTH - 10)
    payload = encode_user(put_value(make_event("user.created", "user_1"), text)).decode()
    row = {"id": "msg_1", "type": "user.created", "instance_id": None, "clerk_id": "user_1", "user_id": None}
    row["payload"] = payload

    def parse_at(depth: int) -> bool:
        return parse_at(depth - 1) if depth else event_from_row(row).error is None

    assert parse_at(300)


@pytest.mark.parametrize(
    "content",
    [
        b'{"a": "\\\\u0000", "b": [1.50, 1e308, -0, 1e-999], "c": "\\ud83d\\ude00 \xf0\x9f\x98\x80"}',
        b'{"n": ' + b"1" * MAX_DIGITS + b"}",
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
        b'{"a": "[[[[\\"}}", "b" : {}}',
        b"",
        b'{"a": "\x00',
        b"]]",
        b'{"a": "\\x"}',
        b"1.2.3",
    ],
)
def test_other_content_keeps_its_bytes(content: bytes) -> None:
    assert repair_json(content) == (content, ())


def test_content_that_is_repaired_is_parsed_once_more() -> None:
    assert parse_tolerantly(msgspec.json.decode, rb'{"a": {"b\u0000": "\u0000"}}') == ({"a": {"b": ""}}, ("a",))
    assert parse_tolerantly(msgspec.json.decode, b'{"a": "\xed\xa0\x80"}') == ({"a": "\ufffd"}, ("a",))


async def test_a_large_body_of_a_login_is_not_repaired(serve: Serve, clerk: ClerkStub) -> None:
    """The repair of 1 MiB takes seconds, in which the service would serve no other request."""
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:

        async def post_metadata(text: str) -> httpx2.Response:
            body = '{"user_id": "user_1", "profile": {"public_metadata": {"plan": VALUE}}}'.replace("VALUE", text)
            assert len(body) > MAX_REPAIRED_BYTES
            return await world.client.post("/sync", headers=make_bearer_header(API_TOKEN), content=body)

        filler = "x" * MAX_REPAIRED_BYTES
        for text in (
            rf'"{filler}\u0000"',
            f'["{filler}", {"[" * MAX_DEPTH + "]" * MAX_DEPTH}]',
            f'["{filler}", 1e999]',
        ):
            assert (await post_metadata(text)).status_code == 400
        flat = json.dumps([[]] * MAX_REPAIRED_BYTES)
        assert (await post_metadata(flat)).status_code == 200


def test_the_work_of_a_repair_does_not_depend_on_the_depth_of_a_value() -> None:
    def count_opcodes(depth: int, number: int) -> int:
        values = ",".join([r'"\ud800"'] * number)
        text = '{"a":' * depth + f"[{values}]" + "}" * depth
        counts = Counter[str]()

        def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
            if not frame.f_code.co_filename.endswith("json_repair.py"):
                return None
            frame.f_trace_opcodes = True
            counts[event] += 1
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            repair_json(text.encode())
        finally:
            sys.settrace(before)
        return counts["opcode"]

    of_99 = {depth: count_opcodes(depth, 100) - count_opcodes(depth, 1) for depth in (4, 400)}
    assert of_99[4] == of_99[400]


def test_a_long_key_is_read_once_for_all_values_below_it() -> None:
    key, number = "k" * 1000, 100
    values = ",".join([r'"\ud800"'] * number)
    text = f'{{"{key}":[{values}]}}'
    counts = Counter[str]()

    def count(frame: FrameType, event: str, function: Any) -> None:
        if frame.f_code is json.loads.__code__ and event == "call":
            counts["characters"] += len(frame.f_locals["s"])
        counts["replacements"] += event == "c_call" and function.__name__ == "sub"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        assert repair_json(text.encode())[1] == (key,)
    finally:
        sys.setprofile(before)
    assert counts["characters"] <= len(text)
    assert counts["replacements"] == number + 1


def test_a_text_without_an_end_is_searched_once() -> None:
    assert [found[0] for found in _TOKEN.finditer(r'"\"\"\"')] == [r'"\"\"\"']
