"""POST /webhooks/clerk: accepted and refused requests, limits, and errors that reveal no internals."""

import asyncio
import gzip
import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from sync_service.clerk.events import EXAMPLE_INSTANCE
from sync_service.dev.embedded import EmbeddedServer
from sync_service.web import webhooks
from sync_service.web.body import MAX_BODY_BYTES
from sync_service.web.health import Readiness
from sync_service.web.limits import TimeLimits
from tests.conftest import Output, Serve
from tests.problems import read_problem_code
from tests.world import (
    INSTANCE,
    OLDER_SECRET,
    PII_SENTINEL,
    SECRET,
    T2,
    World,
    count_lock_waiters,
    encode_body,
    make_email,
    make_email_fields,
    make_event,
    make_message_id,
    sign_event,
    wait_until,
)

CREATED = encode_body(make_event("user.created", "user_1"))


async def test_the_signed_bytes_are_parsed_unchanged(world: World) -> None:
    r"""A signed body with \u0026, 1.0, trailing blanks and four-byte characters is accepted as it is (B1)."""
    body = encode_body(make_event("user.created", "user_1", first_name="NAME", public_metadata={"n": 0}))
    body = body.replace(b'"NAME"', b'"Zo\\u00eb \\u0026 \\u003cb\\u003e \xf0\x9f\x99\x82 \\ud83d\\ude00"')
    body = body.replace(b'{"n": 0}', b'{ "n" : 1.0 }').replace(b'"timestamp"', b'\n\t "timestamp"') + b"  \n"
    assert await world.deliver_ok(body) == "applied"
    row = await world.get_user("user_1")
    assert row
    assert row["first_name"] == "Zoë & <b> 🙂 😀"
    assert row["public_metadata"] == {"n": 1.0}


async def test_an_invalid_signature_is_refused_and_not_stored(world: World) -> None:
    """A flipped byte, a wrong secret or another message's ID is refused with 400 (B2)."""
    flipped = CREATED.replace(b"user_1", b"user_2")
    for body, headers in (
        (flipped, sign_event(CREATED, "msg_a")),
        (CREATED, sign_event(CREATED, "msg_a", secret=OLDER_SECRET)),
        (CREATED, sign_event(CREATED, "msg_a") | {"svix-id": "msg_b"}),
    ):
        response = await world.post(body, headers)
        assert (response.status_code, read_problem_code(response)) == (400, "bad_signature")
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 0
    assert await world.get_users() == []


async def test_missing_headers_and_other_spellings(world: World) -> None:
    """Each missing header is a 400; upper case and `webhook-*` names are accepted (B3)."""
    good = sign_event(CREATED, "msg_1")
    for name in good:
        response = await world.post(CREATED, {k: v for k, v in good.items() if k != name} | {"svix-x": "1"})
        assert (response.status_code, read_problem_code(response)) == (400, "missing_headers")
    assert (await world.post(CREATED, {"svix-id": "msg_1"} | good)).status_code == 200
    upper = {name.upper(): value for name, value in sign_event(CREATED, "msg_2").items()}
    assert (await world.client.post("/webhooks/clerk", content=CREATED, headers=upper)).status_code == 200
    unbranded = {name.replace("svix", "webhook"): value for name, value in sign_event(CREATED, "msg_3").items()}
    assert (await world.post(CREATED, unbranded)).status_code == 200


@pytest.mark.parametrize("signature", ["garbage", "v1", "v1,", "v2,abc", "x" * 10_000])
async def test_a_malformed_signature_is_a_400(world: World, signature: str) -> None:
    """A malformed, unsupported or very long signature is a 400, never a 5xx (B4)."""
    response = await world.post(CREATED, sign_event(CREATED, "msg_1") | {"svix-signature": signature})
    assert (response.status_code, read_problem_code(response)) == (400, "bad_signature")


async def test_secrets_can_be_rotated_without_a_pause(serve: Serve) -> None:
    """With both secrets the older one is accepted; once it is removed, it is refused (B5)."""
    async with serve(clerk_webhook_signing_secrets=(SECRET, OLDER_SECRET)) as world:
        good = sign_event(CREATED, "msg_1")
        assert (await world.post(CREATED, good | {"svix-signature": f"v1,BAD {good['svix-signature']}"})).is_success
        assert (await world.deliver(CREATED, secret=OLDER_SECRET)).is_success
    async with serve() as world:
        assert (await world.deliver(CREATED, secret=OLDER_SECRET)).status_code == 400


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [(-360, "bad_timestamp"), (360, "bad_timestamp"), ("abc", "bad_timestamp"), ("", "missing_headers"), (-240, None)],
)
async def test_the_timestamp_must_be_within_five_minutes(
    world: World, timestamp: int | str, expected: str | None
) -> None:
    """A timestamp six minutes off, not a number or empty is a 400; four minutes are accepted (B6)."""
    if isinstance(timestamp, int):
        response = await world.deliver(CREATED, at=time.time() + timestamp)
    else:
        response = await world.post(CREATED, sign_event(CREATED, "msg_1") | {"svix-timestamp": timestamp})
    if expected:
        assert (response.status_code, read_problem_code(response)) == (400, expected)
    else:
        assert response.is_success


NOT_EVENTS = {
    "empty": b"",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "no type": b'{"data": {}}',
    "cut short": CREATED[:-20],
    "cut short in a list": CREATED[:-20] + b"[" * 1000,
}


@pytest.mark.parametrize("name", NOT_EVENTS)
async def test_a_signed_body_that_is_no_event_is_a_400(world: World, output: Output, name: str) -> None:
    """No event is stored, the log has the reason without the content, and the next event is accepted (B7)."""
    response = await world.deliver(NOT_EVENTS[name])
    assert (response.status_code, read_problem_code(response)) == (400, "bad_payload")
    assert [line["code"] for line in output.log("webhook_refused")] == ["bad_payload"]
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 0
    assert await world.deliver_ok(CREATED) == "applied"


async def test_a_body_that_is_not_utf_8_is_a_400(world: World) -> None:
    """Bytes that are not UTF-8, and a compressed body, are a 400 (B7)."""
    for body in (b"\xff\xfe\x00", CREATED.replace(b"Ada", b"\xff\xff"), gzip.compress(CREATED)):
        response = await world.post(body, sign_event(CREATED, "msg_1"))
        assert (response.status_code, read_problem_code(response)) == (400, "bad_payload")


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
async def test_an_unreadable_user_is_stored_and_parked(world: World, wrong: dict[str, Any]) -> None:
    """A signed event with an unreadable user is stored with 202, so it is not lost and operators see it."""
    body = make_event("user.updated", "user_1")
    body["data"] |= wrong
    message_id = make_message_id()
    response = await world.deliver(body, message_id)
    assert (response.status_code, response.json()) == (202, {"outcome": "parked", "reason": "unreadable_user"})
    stored = await world.get_event(message_id)
    assert stored
    assert (stored["status"], stored["reason"], stored["attempts"]) == ("failed", "unreadable_user", 1)
    assert json.loads(stored["payload"])
    assert await world.get_users() == []
    assert await world.deliver_ok(CREATED) == "applied"


async def test_a_body_over_a_megabyte_is_a_413(world: World) -> None:
    """A body of 10 MB is a 413, with a Content-Length or in chunks (B7)."""
    large = b"x" * (10 * 1024 * 1024)
    response = await world.post(large, sign_event(b"", "msg_1"))
    assert (response.status_code, read_problem_code(response)) == (413, "body_too_large")

    async def chunks() -> Any:
        for _ in range(160):
            yield b"x" * 65536

    response = await world.client.post("/webhooks/clerk", content=chunks(), headers=sign_event(b"", "msg_1"))
    assert (response.status_code, read_problem_code(response)) == (413, "body_too_large")
    assert await world.deliver_ok(CREATED) == "applied"


async def test_a_body_at_the_limit_is_accepted(world: World) -> None:
    filler = "x" * (MAX_BODY_BYTES - len(encode_body(make_event("user.created", "user_1", public_metadata={"k": ""}))))
    body = encode_body(make_event("user.created", "user_1", public_metadata={"k": filler}))
    assert len(body) == MAX_BODY_BYTES
    assert await world.deliver_ok(body) == "applied"
    assert (await world.deliver(body + b" ")).status_code == 413


async def test_a_chunked_body_is_accepted(world: World) -> None:
    async def chunks() -> Any:
        for byte in CREATED:
            yield bytes([byte])

    response = await world.client.post("/webhooks/clerk", content=chunks(), headers=sign_event(CREATED, "msg_1"))
    assert response.json() == {"outcome": "applied"}


async def test_a_body_that_does_not_arrive_is_a_408(serve: Serve) -> None:
    """Other requests are served while the service waits for the body."""
    async with serve(limits=TimeLimits(body=0.5)) as world:
        host, port = world.client.base_url.host, world.client.base_url.port
        reader, writer = await asyncio.open_connection(host, port)
        signed = "".join(f"{name}: {value}\r\n" for name, value in sign_event(b"{", "msg_1").items()).encode()
        writer.write(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n" + signed + b"\r\n{")
        await writer.drain()
        assert await world.deliver_ok(CREATED) == "applied"
        assert b"408" in await reader.readline()
        writer.close()
        await writer.wait_closed()


async def test_a_caller_that_disconnects_does_not_affect_others(world: World) -> None:
    host, port = world.client.base_url.host, world.client.base_url.port
    for _ in range(20):
        with socket.create_connection((host, port)) as left:
            left.sendall(b"POST /webhooks/clerk HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    assert await world.deliver_ok(CREATED) == "applied"


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
async def test_malformed_http_is_a_4xx_or_a_closed_connection(world: World, junk: bytes) -> None:
    host, port = world.client.base_url.host, world.client.base_url.port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(junk)
    await writer.drain()
    line = await asyncio.wait_for(reader.readline(), 5)
    assert line == b"" or line.split()[1].startswith(b"4")
    writer.close()
    assert await world.deliver_ok(CREATED) == "applied"


async def test_the_route_needs_no_redirect_and_no_other_credentials(world: World) -> None:
    """The path works with and without a trailing slash, and other methods are a 405 (B10)."""
    assert (await world.post(CREATED, sign_event(CREATED, "msg_1"), "/webhooks/clerk/")).status_code == 200
    assert (await world.post(CREATED, sign_event(CREATED, "msg_2"), "/webhooks/clerk")).status_code == 200
    for path in ("/webhooks/clerk", "/webhooks/clerk/"):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            response = await world.client.request(method, path)
            assert (response.status_code, read_problem_code(response)) == (405, "method_not_allowed")
            assert response.headers["allow"] == "POST"
        assert (await world.client.head(path)).status_code == 405
    response = await world.client.get("/nowhere")
    assert (response.status_code, read_problem_code(response)) == (404, "not_found")


async def test_a_rewritten_body_is_distinguished_from_other_errors(world: World, output: Output) -> None:
    """Response, log hint and metric distinguish a rewritten body from missing headers or a bad timestamp (B11)."""
    rewritten = json.dumps(json.loads(CREATED), indent=1).encode()
    assert read_problem_code(await world.post(rewritten, sign_event(CREATED, "msg_1"))) == "bad_signature"
    assert read_problem_code(await world.post(CREATED, {})) == "missing_headers"
    assert read_problem_code(await world.deliver(CREATED, at=0)) == "bad_timestamp"
    refused = {line["code"]: line for line in output.log("webhook_refused")}
    assert set(refused) == {"bad_signature", "missing_headers", "bad_timestamp"}
    assert "proxy" in refused["bad_signature"]["hint"]
    assert "CLERK_WEBHOOK_SIGNING_SECRET" in refused["bad_signature"]["hint"]
    metrics = (await world.client.get("/metrics")).text
    for outcome in refused:
        assert f'sync_service_webhooks_total{{outcome="{outcome}"}} 1.0' in metrics


@pytest.fixture
async def admin(engine: EmbeddedServer) -> AsyncIterator[asyncpg.Connection]:
    """A connection to another database of the server."""
    connection = await asyncpg.connect(engine.dsn())
    yield connection
    await connection.close()


async def test_unsigned_posts_need_no_database(serve: Serve, db: asyncpg.Connection, admin: asyncpg.Connection) -> None:
    """300 unsigned posts are refused with 400 while the database accepts no connection (L5)."""
    name = await db.fetchval("select current_database()")
    async with serve() as world:
        await admin.execute(f"alter database {name} allow_connections false")
        await db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        responses = await asyncio.gather(*(world.post(CREATED, {"svix-id": f"m{n}"}) for n in range(300)))
        assert {response.status_code for response in responses} == {400}
        assert not (await world.deliver(CREATED)).is_success
        await admin.execute(f"alter database {name} allow_connections true")
        assert await world.deliver_ok(CREATED) == "applied"


async def test_errors_reveal_no_table_no_sql_and_no_secret(
    world: World, output: Output, db: asyncpg.Connection
) -> None:
    """PostgreSQL's message quotes the row; neither the response nor the log contains it (L7)."""
    await db.execute("alter table users add constraint refuses check (first_name = '')")
    response = await world.deliver(make_event("user.created", "user_1", **make_email_fields("x")))
    assert response.json() == {"outcome": "parked", "reason": "check_violation"}
    await db.execute("alter table clerk_sync.events rename to elsewhere")
    response = await world.deliver(CREATED)
    assert (response.status_code, read_problem_code(response)) == (503, "unavailable")
    assert int(response.headers["retry-after"]) > 0
    await db.execute("alter table clerk_sync.elsewhere rename to events")
    lines = output.log("database_error")
    assert lines[0]["reason"] == "undefined_table"
    assert lines[0]["exception"] == "DatabaseUnavailable"
    assert PII_SENTINEL not in output.said
    await db.execute("alter table users drop constraint refuses")
    await db.execute("delete from clerk_sync.events")
    world.accepted.clear()


async def test_an_unexpected_exception_is_a_500_without_its_message(
    world: World, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception's message is neither in the response nor in the log, and Svix keeps the event (L7)."""

    def bug(*_: object) -> None:
        raise RuntimeError(PII_SENTINEL)

    monkeypatch.setattr(webhooks, "parse_event", bug)
    monkeypatch.setattr(Readiness, "endpoint", bug)
    responses = [await world.deliver(CREATED), await world.client.get("/readyz")]
    for response, line, where in zip(
        responses, output.log("unhandled_exception"), ("webhooks.py", "routes.py"), strict=True
    ):
        assert (response.status_code, read_problem_code(response)) == (500, "internal_server_error")
        assert line["request_id"] == response.headers["x-request-id"]
        assert line["exception"] == "RuntimeError"
        assert where in line["at"][-2]
    assert 'webhooks_total{outcome="internal_server_error"} 1' in (await world.client.get("/metrics")).text


async def test_an_event_of_another_instance_is_refused(world: World, output: Output) -> None:
    """The first event pins the instance for all processes; an event without an instance is accepted (H1)."""
    assert await world.deliver_ok(make_event("user.created", "user_1")) == "applied"
    assert await world.db.fetchval("select id from clerk_sync.instance") == INSTANCE
    response = await world.deliver(make_event("user.created", "user_2") | {"instance_id": "ins_other"})
    assert (response.status_code, read_problem_code(response)) == (403, "wrong_instance")
    assert await world.get_user("user_2") is None
    assert await world.db.fetchval("select count(*) from clerk_sync.events") == 1
    without = make_event("user.created", "user_3")
    del without["instance_id"]
    assert await world.deliver_ok(without) == "applied"
    assert output.log("webhook_refused")[0]["code"] == "wrong_instance"


async def test_one_of_many_first_events_pins_the_instance_for_all(world: World, database: str) -> None:
    """The others wait in this process, and their connections stay free."""
    watcher = await asyncpg.connect(database)
    async with world.db.transaction():
        await world.db.execute("lock table clerk_sync.instance")
        events = [asyncio.create_task(world.deliver(make_event("user.created", f"user_{n}"))) for n in range(20)]
        await wait_until(lambda: count_lock_waiters(watcher))
        await asyncio.gather(*(world.client.get("/readyz") for _ in range(20)))
        waiting = await count_lock_waiters(watcher)
    assert {response.status_code for response in await asyncio.gather(*events)} == {200}
    assert waiting == 1
    await watcher.close()


async def test_a_configured_instance_is_the_only_accepted_one(serve: Serve, db: asyncpg.Connection) -> None:
    """With CLERK_INSTANCE_ID only its events are accepted, and no instance is pinned (H1)."""
    async with serve(clerk_instance_id="ins_mine") as world:
        assert (await world.deliver(CREATED)).status_code == 403
        assert await world.deliver_ok(make_event("user.created", "user_1") | {"instance_id": "ins_mine"}) == "applied"
        assert await db.fetchval("select count(*) from clerk_sync.instance") == 0


async def test_the_dashboard_s_example_is_accepted_and_not_pinned(world: World) -> None:
    """The dashboard's example has the instance of Clerk's documentation; pinned, it would refuse all real events."""
    assert await world.deliver_ok(make_event("user.created", "user_1") | {"instance_id": EXAMPLE_INSTANCE}) == "applied"
    assert await world.deliver_ok(make_event("user.created", "user_2")) == "applied"
    assert (
        await world.deliver(make_event("user.created", "user_3") | {"instance_id": EXAMPLE_INSTANCE})
    ).status_code == 403
    world.accepted.clear()  # by now the example is refused, as it should be


async def test_every_line_of_a_request_has_its_ids(world: World, output: Output) -> None:
    response = await world.post(CREATED, sign_event(CREATED, "msg_log") | {"x-request-id": "req-1"})
    assert response.headers["x-request-id"] == "req-1"
    lines = [line for line in output.log() if line.get("request_id") == "req-1"]
    assert [line["event"] for line in lines] == ["webhook", "request"]
    assert {line["svix_id"] for line in lines} == {"msg_log"}
    assert lines[0]["outcome"] == "applied"
    assert lines[1]["route"] == "/webhooks/clerk"


async def test_an_invalid_id_is_not_written_to_the_log(world: World, output: Output) -> None:
    for header in ("x-request-id", "svix-id"):
        await world.post(CREATED, {header: f"a {PII_SENTINEL}\t{{}}"})
    assert output.log("request")[0]["request_id"].isalnum()
    assert all("svix_id" not in line for line in output.log("request"))


async def test_private_metadata_is_stored_nowhere(world: World, db: asyncpg.Connection) -> None:
    """No table contains private or unsafe metadata; 100 kB of public metadata are accepted (E7)."""
    body = make_event("user.created", "user_1", private_metadata={"k": "PRIVATE"}, unsafe_metadata={"k": "UNSAFE"})
    body["data"]["public_metadata"] = {"k": "x" * 100_000}
    body["data"]["email_addresses"] = [make_email("a") | {"verification": None}]
    assert await world.deliver_ok(body) == "applied"
    tables = await db.fetch(
        "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
        " where schemaname in ('clerk_sync', 'public')"
    )
    assert len(tables) >= 6
    for (table,) in tables:
        text = str(await db.fetchval(f"select jsonb_agg(to_jsonb(t)) from {table} t"))
        assert "PRIVATE" not in text
        assert "UNSAFE" not in text
    metadata: dict[str, str] | None
    for metadata in (None, {}):
        assert await world.deliver_ok(
            make_event("user.updated", "user_1", T2, public_metadata=metadata, private_metadata=metadata)
        )
