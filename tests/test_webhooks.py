"""POST /webhooks/clerk: who gets in, what is refused, that nothing harms the process (SCENARIOS B, E7, L5, L7, H1)."""

import asyncio
import gzip
import json
import socket
import time
from typing import Any

import asyncpg
import httpx2
import pytest

from sync_service.clerk.events import EXAMPLE_INSTANCE
from sync_service.web import webhooks
from sync_service.web.body import MAX_BODY_BYTES
from sync_service.web.health import Readiness
from tests.conftest import Output, Serve
from tests.world import (
    INSTANCE,
    OLDER_SECRET,
    PII_SENTINEL,
    SECRET,
    T1,
    T2,
    World,
    as_bytes,
    email,
    event,
    message,
    signed,
    until,
    with_email,
)

CREATED = as_bytes(event("user.created", "user_1"))


def code(answer: httpx2.Response) -> str:
    """Return the code of a problem, having looked at the rest of it."""
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert problem["status"] == answer.status_code
    for told in ("clerk_sync", "select", "insert", "users", SECRET):
        assert told not in answer.text
    return str(problem["code"])


async def test_the_bytes_are_taken_as_they_are(world: World) -> None:
    r"""B1: \u0026, 1.0, blanks at the end, four-byte characters, signed as they stand."""
    body = as_bytes(event("user.created", "user_1", first_name="NAME", public_metadata={"n": 0}))
    body = body.replace(b'"NAME"', b'"Zo\\u00eb \\u0026 \\u003cb\\u003e \xf0\x9f\x99\x82 \\ud83d\\ude00"')
    body = body.replace(b'{"n": 0}', b'{ "n" : 1.0 }').replace(b'"timestamp"', b'\n\t "timestamp"') + b"  \n"
    assert await world.outcome(body) == "applied"
    row = await world.user("user_1")
    assert row
    assert row["first_name"] == "Zoë & <b> 🙂 😀"
    assert row["public_metadata"] == {"n": 1.0}


async def test_what_is_not_genuine_is_refused_and_leaves_nothing(world: World) -> None:
    """B2."""
    flipped = CREATED.replace(b"user_1", b"user_2")
    for body, headers in (
        (flipped, signed(CREATED, "msg_a")),
        (CREATED, signed(CREATED, "msg_a", secret=OLDER_SECRET)),
        (CREATED, signed(CREATED, "msg_a") | {"svix-id": "msg_b"}),
    ):
        answer = await world.post(body, headers)
        assert (answer.status_code, code(answer)) == (400, "bad_signature")
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 0
    assert await world.users() == []


async def test_headers_missing_and_headers_in_other_spellings(world: World) -> None:
    """B3."""
    good = signed(CREATED, "msg_1")
    for name in good:
        answer = await world.post(CREATED, {k: v for k, v in good.items() if k != name} | {"svix-x": "1"})
        assert (answer.status_code, code(answer)) == (400, "missing_headers")
    assert (await world.post(CREATED, {"svix-id": "msg_1"} | good)).status_code == 200
    upper = {name.upper(): value for name, value in signed(CREATED, "msg_2").items()}
    assert (await world.client.post("/webhooks/clerk", content=CREATED, headers=upper)).status_code == 200
    unbranded = {name.replace("svix", "webhook"): value for name, value in signed(CREATED, "msg_3").items()}
    assert (await world.post(CREATED, unbranded)).status_code == 200


@pytest.mark.parametrize("signature", ["garbage", "v1", "v1,", "v2,abc", "x" * 10_000])
async def test_a_signature_that_is_none_is_a_400(world: World, signature: str) -> None:
    """B4."""
    answer = await world.post(CREATED, signed(CREATED, "msg_1") | {"svix-signature": signature})
    assert (answer.status_code, code(answer)) == (400, "bad_signature")


async def test_rotation_needs_no_pause(serve: Serve) -> None:
    """B5: with both secrets the older one is as good; once it is removed, it is not."""
    async with serve(clerk_webhook_signing_secrets=(SECRET, OLDER_SECRET)) as world:
        good = signed(CREATED, "msg_1")
        assert (await world.post(CREATED, good | {"svix-signature": f"v1,BAD {good['svix-signature']}"})).is_success
        assert (await world.deliver(CREATED, secret=OLDER_SECRET)).is_success
    async with serve() as world:
        assert (await world.deliver(CREATED, secret=OLDER_SECRET)).status_code == 400


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(-360, "bad_timestamp"), (360, "bad_timestamp"), ("abc", "bad_timestamp"), ("", "missing_headers"), (-240, None)],
)
async def test_the_attempt_s_time_is_looked_at(world: World, timestamp: int | str, expected: str | None) -> None:
    """B6."""
    if isinstance(timestamp, int):
        answer = await world.deliver(CREATED, at=time.time() + timestamp)
    else:
        answer = await world.post(CREATED, signed(CREATED, "msg_1") | {"svix-timestamp": timestamp})
    if expected:
        assert (answer.status_code, code(answer)) == (400, expected)
    else:
        assert answer.is_success


NOT_EVENTS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "no type": b'{"data": {}}',
    "cut short": CREATED[:-20],
    "lone surrogate": as_bytes(event("user.created", "user_1", first_name="X")).replace(b'"X"', b'"\\ud800"'),
    "nul": as_bytes(event("user.created", "user_1", first_name="a\0b")),
    "nul in metadata": as_bytes(event("user.created", "user_1", public_metadata={"a\0": 1})),
    "deep": as_bytes(event("user.created", "user_1")).replace(
        b'"created_at"', b'"x": ' + b"[" * 50_000 + b"]" * 50_000 + b', "created_at"'
    ),
    "a number beyond any": as_bytes(event("user.created", "user_1", x=0)).replace(b'"x": 0', b'"x": 1e999999'),
}


@pytest.mark.parametrize("name", NOT_EVENTS)
async def test_what_is_no_event_is_a_400_though_it_is_signed(world: World, output: Output, name: str) -> None:
    """B7: nothing is stored, the reason is in the log without the content, and the next event is as welcome as ever."""
    answer = await world.deliver(NOT_EVENTS[name])
    assert (answer.status_code, code(answer)) == (400, "bad_payload")
    assert [line["code"] for line in output.log("webhook_refused")] == ["bad_payload"]
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 0
    assert await world.outcome(CREATED) == "applied"


async def test_bytes_that_are_no_text_are_a_400(world: World) -> None:
    """B7."""
    for body in (b"\xff\xfe\x00", CREATED.replace(b"Ada", b"\xff\xff"), gzip.compress(CREATED)):
        answer = await world.post(body, signed(CREATED, "msg_1"))
        assert (answer.status_code, code(answer)) == (400, "bad_payload")


@pytest.mark.parametrize(
    "wrong",
    [
        {"email_addresses": "none"},
        {"email_addresses": [5]},
        {"email_addresses": [{"id": 5}]},
        {"first_name": 5},
        {"banned": "yes"},
        {"updated_at": None},
        {"updated_at": "yesterday"},
        {"updated_at": 2**70},
        {"created_at": -1},
        {"public_metadata": []},
        {"id": 5},
        {"id": ""},
    ],
    ids=str,
)
async def test_a_user_that_cannot_be_read_is_stored_and_told(world: World, wrong: dict[str, Any]) -> None:
    """The contract's 202: it is an event of Clerk's, so it is not lost, and the operators see it."""
    body = event("user.updated", "user_1")
    body["data"] |= wrong
    message_id = message()
    answer = await world.deliver(body, message_id)
    assert (answer.status_code, answer.json()) == (202, {"outcome": "parked", "reason": "unreadable_user"})
    filed = await world.event(message_id)
    assert filed
    assert (filed["status"], filed["reason"], filed["attempts"]) == ("failed", "unreadable_user", 1)
    assert json.loads(filed["payload"])
    assert await world.users() == []
    assert await world.outcome(CREATED) == "applied"


async def test_a_body_over_a_megabyte_is_a_413_however_it_is_sent(world: World) -> None:
    """B7."""
    large = b"x" * (10 * 1024 * 1024)
    answer = await world.post(large, signed(b"", "msg_1"))
    assert (answer.status_code, code(answer)) == (413, "body_too_large")

    async def chunks() -> Any:
        for _ in range(160):
            yield b"x" * 65536

    answer = await world.client.post("/webhooks/clerk", content=chunks(), headers=signed(b"", "msg_1"))
    assert (answer.status_code, code(answer)) == (413, "body_too_large")
    assert await world.outcome(CREATED) == "applied"


async def test_a_body_just_within_the_limit_is_taken(world: World) -> None:
    filler = "x" * (MAX_BODY_BYTES - len(as_bytes(event("user.created", "user_1", public_metadata={"k": ""}))))
    body = as_bytes(event("user.created", "user_1", public_metadata={"k": filler}))
    assert len(body) == MAX_BODY_BYTES
    assert await world.outcome(body) == "applied"
    assert (await world.deliver(body + b" ")).status_code == 413


async def test_a_chunked_body_is_taken(world: World) -> None:
    async def chunks() -> Any:
        for byte in CREATED:
            yield bytes([byte])

    answer = await world.client.post("/webhooks/clerk", content=chunks(), headers=signed(CREATED, "msg_1"))
    assert answer.json() == {"outcome": "applied"}


async def test_a_body_that_does_not_come_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meanwhile others are served."""
    monkeypatch.setattr("sync_service.web.body.BODY_TIMEOUT", 0.3)
    host, port = world.client.base_url.host, world.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    assert await world.outcome(CREATED) == "applied"
    assert b"408" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_a_caller_that_leaves_does_no_harm(world: World) -> None:
    host, port = world.client.base_url.host, world.client.base_url.port
    for _ in range(20):
        with socket.create_connection((host, port)) as left:
            left.sendall(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert await world.outcome(CREATED) == "applied"


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        (
            b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nsvix-id: \xff\xfe\r\nsvix-timestamp: \xff\r\n"
            b"svix-signature: \xff\r\ncontent-length: 2\r\n\r\n{}"
        ),
        b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 200_000 + b"\r\ncontent-length: 0\r\n\r\n",
        b"POST /%00%ff/../webhooks HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_junk_on_the_wire_is_a_4xx_or_a_closed_line(world: World, junk: bytes) -> None:
    host, port = world.client.base_url.host, world.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(junk)
    await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 5)
    assert line == b"" or line.split()[1].startswith(b"4")
    writer.close()
    assert await world.outcome(CREATED) == "applied"


async def test_the_route_answers_at_once_and_needs_no_other_credentials(world: World) -> None:
    """B10."""
    assert (await world.post(CREATED, signed(CREATED, "msg_1"), "/webhooks/clerk/")).status_code == 200
    assert (await world.post(CREATED, signed(CREATED, "msg_2"), "/webhooks/clerk")).status_code == 200
    for path in ("/webhooks/clerk", "/webhooks/clerk/"):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = await world.client.request(method, path)
            assert (answer.status_code, code(answer)) == (405, "method_not_allowed")
            assert answer.headers["allow"] == "POST"
        assert (await world.client.head(path)).status_code == 405
    answer = await world.client.get("/nowhere")
    assert (answer.status_code, code(answer)) == (404, "not_found")


async def test_a_proxy_that_rewrites_the_body_is_told_apart(world: World, output: Output) -> None:
    """B11: in the answer, in the log with a hint, and in the metric."""
    rewritten = json.dumps(json.loads(CREATED), indent=1).encode()
    assert code(await world.post(rewritten, signed(CREATED, "msg_1"))) == "bad_signature"
    assert code(await world.post(CREATED, {})) == "missing_headers"
    assert code(await world.deliver(CREATED, at=0)) == "bad_timestamp"
    refused = {line["code"]: line for line in output.log("webhook_refused")}
    assert set(refused) == {"bad_signature", "missing_headers", "bad_timestamp"}
    assert "proxy" in refused["bad_signature"]["hint"]
    assert "CLERK_WEBHOOK_SIGNING_SECRET" in refused["bad_signature"]["hint"]
    metrics = (await world.client.get("/metrics")).text
    for outcome in refused:
        assert f'sync_service_webhooks_total{{outcome="{outcome}"}} 1.0' in metrics


async def _none(db: asyncpg.Connection, count: str) -> bool:
    return bool(await db.fetchval(count) == 0)


async def test_a_thousand_unsigned_posts_use_no_connection_of_the_database(
    serve: Serve, db: asyncpg.Connection
) -> None:
    """L5."""
    async with serve() as world:
        ours = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        await asyncio.sleep(0.1)  # the look at the schema's version, at the start
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        await until(lambda: _none(db, ours))
        answers = await asyncio.gather(*(world.post(CREATED, {"svix-id": f"m{n}"}) for n in range(1000)))
        assert {answer.status_code for answer in answers} == {400}
        assert await db.fetchval(ours) == 0
        assert await world.outcome(CREATED) == "applied"


async def test_no_failing_path_tells_a_table_a_statement_or_a_secret(
    world: World, output: Output, db: asyncpg.Connection
) -> None:
    """L7: the database's own message quotes the row; neither the answer nor the log may."""
    await db.execute("alter table users add constraint refuses check (first_name = '')")
    answer = await world.deliver(event("user.created", "user_1", **with_email("x")))
    assert answer.json() == {"outcome": "parked", "reason": "check_violation"}
    await db.execute("alter table clerk_sync.events rename to elsewhere")
    answer = await world.deliver(CREATED)
    assert (answer.status_code, code(answer)) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    await db.execute("alter table clerk_sync.elsewhere rename to events")
    lines = output.log("database_error")
    assert lines[0]["reason"] == "undefined_table"
    assert lines[0]["exception"] == "Unavailable"
    assert PII_SENTINEL not in output.said
    await db.execute("alter table users drop constraint refuses")
    await db.execute("truncate clerk_sync.events")
    world.accepted.clear()


async def test_a_bug_is_a_500_that_says_nothing(world: World, output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    """L7: whatever it is that nobody foresaw, its message stays inside, and Svix keeps the event."""

    def bug(*_: object) -> None:
        raise RuntimeError(PII_SENTINEL)

    monkeypatch.setattr(webhooks, "read_event", bug)
    monkeypatch.setattr(Readiness, "endpoint", bug)
    answers = [await world.deliver(CREATED), await world.client.get("/readyz")]
    for answer, line, where in zip(answers, output.log("unhandled_exception"), ("webhooks.py", "app.py"), strict=True):
        assert (answer.status_code, code(answer)) == (500, "internal_server_error")
        assert line["request_id"] == answer.headers["x-request-id"]
        assert line["exception"] == "RuntimeError"
        assert where in line["at"][-2]
    assert 'webhooks_total{outcome="internal_server_error"} 1' in (await world.client.get("/metrics")).text


async def test_another_instance_is_refused(world: World, output: Output) -> None:
    """H1: the first event's instance is pinned, for all processes; an event without one is as usual."""
    assert await world.outcome(event("user.created", "user_1")) == "applied"
    assert await world.db.fetchval("select id from clerk_sync.instance") == INSTANCE
    answer = await world.deliver(event("user.created", "user_2") | {"instance_id": "ins_other"})
    assert (answer.status_code, code(answer)) == (403, "wrong_instance")
    assert await world.user("user_2") is None
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 1
    without = event("user.created", "user_3")
    del without["instance_id"]
    assert await world.outcome(without) == "applied"
    assert output.log("webhook_refused")[0]["code"] == "wrong_instance"


async def test_an_instance_that_is_set_is_the_only_one(serve: Serve, db: asyncpg.Connection) -> None:
    """H1."""
    async with serve(clerk_instance_id="ins_mine") as world:
        assert (await world.deliver(CREATED)).status_code == 403
        assert await world.outcome(event("user.created", "user_1") | {"instance_id": "ins_mine"}) == "applied"
        assert await db.fetchval("select count(*) from clerk_sync.instance") == 0


async def test_the_dashboard_s_example_is_taken_and_never_pinned(world: World) -> None:
    """Its instance is that of Clerk's documentation: pinned, it would lock the real events out."""
    assert await world.outcome(event("user.created", "user_1") | {"instance_id": EXAMPLE_INSTANCE}) == "applied"
    assert await world.outcome(event("user.created", "user_2")) == "applied"
    assert (await world.deliver(event("user.created", "user_3") | {"instance_id": EXAMPLE_INSTANCE})).status_code == 403
    world.accepted.clear()  # the example would be refused by now, as it should


async def test_every_line_of_a_request_has_its_ids(world: World, output: Output) -> None:
    answer = await world.post(CREATED, signed(CREATED, "msg_log") | {"x-request-id": "req-1"})
    assert answer.headers["x-request-id"] == "req-1"
    lines = [line for line in output.log() if line.get("request_id") == "req-1"]
    assert [line["event"] for line in lines] == ["webhook", "request"]
    assert {line["svix_id"] for line in lines} == {"msg_log"}
    assert lines[0]["outcome"] == "applied"
    assert lines[1]["route"] == "/webhooks/clerk"


async def test_an_id_that_is_none_of_ours_is_not_written_to_the_log(world: World, output: Output) -> None:
    for header in ("x-request-id", "svix-id"):
        await world.post(CREATED, {header: f"a {PII_SENTINEL}\t{{}}"})
    assert output.log("request")[0]["request_id"].isalnum()
    assert all("svix_id" not in line for line in output.log("request"))


async def test_private_metadata_is_stored_nowhere(world: World, db: asyncpg.Connection) -> None:
    """E7, and 100 kB of metadata is no matter."""
    body = event("user.created", "user_1", private_metadata={"k": "PRIVATE"}, unsafe_metadata={"k": "UNSAFE"})
    body["data"]["public_metadata"] = {"k": "x" * 100_000}
    body["data"]["email_addresses"] = [email("a") | {"verification": None}]
    assert await world.outcome(body) == "applied"
    tables = await db.fetch(
        "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
        " where schemaname in ('clerk_sync', 'public')"
    )
    assert len(tables) == 6
    for (table,) in tables:
        said = str(await db.fetchval(f"select jsonb_agg(to_jsonb(t)) from {table} t"))
        assert "PRIVATE" not in said
        assert "UNSAFE" not in said
    nothing: dict[str, str] | None
    for nothing in (None, {}):
        assert await world.outcome(
            event("user.updated", "user_1", T2, public_metadata=nothing, private_metadata=nothing)
        )


async def test_metrics_tell_when_the_last_event_was_stored(world: World) -> None:
    assert "last_accepted_webhook_timestamp_seconds 0.0" in (await world.client.get("/metrics")).text
    await world.outcome(event("user.created", "user_1", T1))
    text = (await world.client.get("/metrics")).text
    [line] = [line for line in text.splitlines() if line.startswith("sync_service_last_accepted_webhook")]
    assert time.time() - float(line.split()[1]) < 60
