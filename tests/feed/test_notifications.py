"""SYNC_NOTIFY_URL: each change is posted, in order for one user, signed, repeated until it is accepted."""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import asyncpg
import pytest
from starlette.responses import RedirectResponse, Response, StreamingResponse

from sync_service.errors import SettingsError
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.pool import Connection
from sync_service.settings import read_settings
from sync_service.store.deliveries import Notification, replay_dead_deliveries
from sync_service.store.feed import START, FeedEntry
from sync_service.sync import notifier
from sync_service.sync.notification import PAUSES, Reply, judge, parse_retry_after
from sync_service.sync.notifier import Notifier, create_client, limit_pause
from tests.conftest import Serve
from tests.feed.conftest import OpenApplier, make
from tests.feed.receiver import NOTIFY_SECRET, OLDER_NOTIFY_SECRET, Receiver, run_receiver
from tests.world import PII_SENTINEL, T1, T2, T3, make_email_fields, make_event, wait_until

MAPPING = replace(DEFAULT, records_changes=True, notifies=True)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with run_receiver() as running:
        yield running


async def make_due(db: Connection) -> None:
    """End pauses and leases, and begin to count attempts again.

    Rows that a process has locked are left, so that no deadlock follows.
    """
    await db.execute(
        "update clerk_sync.changes set next_attempt_at = now(), attempts = 0"
        " where delivery = 'pending' and id = any(array("
        " select id from clerk_sync.changes where delivery = 'pending' order by id for update skip locked))"
    )


class Process:
    """One process that applies and notifies."""

    def __init__(self, open_applier: OpenApplier, receiver: Receiver) -> None:
        self._open = open_applier
        self._receiver = receiver

    async def __aenter__(self) -> Self:
        self.applier = await self._open(MAPPING)
        self.client = create_client(self._receiver.url)
        self.outcomes: list[str] = []
        self.notifier = Notifier(
            self.applier.store, self.client, self._receiver.url, (NOTIFY_SECRET,), self.outcomes.append
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()


async def test_each_change_is_posted_soon_with_the_row(serve: Serve, receiver: Receiver) -> None:
    """The body has the row as it is now. A deletion has the ID and the key only."""
    async with serve(mapping=MAPPING, **receiver.settings) as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1, **make_email_fields("a")))
        [created] = await receiver.wait_for(1)
        row = created["data"].pop("row")
        assert row == await world.get_user("user_1")
        assert created["type"] == "user.created"
        assert (created["data"]["clerk_id"], created["data"]["key"]) == ("user_1", "user_1")
        await world.deliver_ok(make_event("user.deleted", "user_1", T2))
        deleted = (await receiver.wait_for(2))[1]
        assert deleted["type"] == "user.deleted"
        assert deleted["data"] == {"clerk_id": "user_1", "key": "user_1", "columns": [], "row": None}
        feed = await world.db.fetch("select transaction_id::text || '-' || id from clerk_sync.changes order by id")
        assert receiver.ids == [f"chg_{record[0]}" for record in feed]
        waiting = "select delivery from clerk_sync.changes"
        await wait_until(lambda: _is_all(world.db, waiting, "delivered"))
        text = (await world.client.get("/metrics")).text
        assert 'sync_service_deliveries_total{outcome="delivered"} 2.0' in text


async def _is_all(db: asyncpg.Connection, sql: str, value: str) -> bool:
    return {row[0] for row in await db.fetch(sql)} == {value}


async def test_changes_of_a_command_are_posted_without_a_webhook(
    serve: Serve, receiver: Receiver, open_applier: OpenApplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process commits a change. The service, which has no work of its own, finds it at its next look."""
    monkeypatch.setattr(notifier, "POLL", 0.1)
    command = await open_applier(MAPPING)
    async with serve(mapping=MAPPING, **receiver.settings):
        for number in range(2):
            await command.apply([make("user.created", f"user_{number}", T1)])
            await receiver.wait_for(number + 1)


def test_a_database_may_sleep_after_an_hour_without_a_change() -> None:
    """Until then the service looks every two seconds, at last every 15 minutes."""
    assert [limit_pause(seconds) for seconds in (0, 3599, 3660, 86_400)] == [2, 2, 60, 900]


async def test_pending_notifications_of_a_deleted_user_have_no_data(
    open_applier: OpenApplier, receiver: Receiver
) -> None:
    """The user is deleted before the first notification is sent: all of them have the ID and the key only."""
    async with Process(open_applier, receiver) as process:
        await process.applier.apply([make("user.created", "user_1", T1, **make_email_fields("a"))])
        await process.applier.apply([make("user.updated", "user_1", T2)])
        await process.applier.apply([make("user.deleted", "user_1", T3)])
        await process.notifier.run_once()
        assert [message["type"] for message in receiver.accepted] == ["user.created", "user.updated", "user.deleted"]
        for message in receiver.accepted:
            assert message["data"] == {"clerk_id": "user_1", "key": "user_1", "columns": [], "row": None}
        assert PII_SENTINEL not in str(receiver.accepted)


async def test_a_secret_is_replaced_without_a_lost_notification(open_applier: OpenApplier, receiver: Receiver) -> None:
    """Each delivery has a signature of each secret."""
    receiver.secrets = (NOTIFY_SECRET, OLDER_NOTIFY_SECRET)
    async with Process(open_applier, receiver) as process:
        both = Notifier(process.applier.store, process.client, receiver.url, receiver.secrets)
        await process.applier.apply([make("user.created", "user_1", T1)])
        await both.run_once()
        assert len(receiver.accepted) == 1


GONE, ELSEWHERE = Response(status_code=410), RedirectResponse("http://127.0.0.1:1/elsewhere")


@pytest.mark.parametrize(("refusal", "reason"), [(GONE, "http_410"), (ELSEWHERE, "http_307")])
async def test_a_change_that_is_never_accepted_is_dead_after_eight_attempts_and_can_be_sent_again(
    open_applier: OpenApplier, receiver: Receiver, db: asyncpg.Connection, refusal: Response, reason: str
) -> None:
    """The later change of the user waits for it; then it is sent. The ID is the same in each attempt."""

    async def answer(message: dict[str, Any]) -> Response:
        return refusal if message["type"] == "user.created" else Response()

    receiver.answer = answer
    async with Process(open_applier, receiver) as process:
        await process.applier.apply([make("user.created", "user_1", T1)])
        await process.applier.apply([make("user.updated", "user_1", T2)])
        for number in range(7):
            await process.notifier.run_once()
            assert len(receiver.received) == number + 1
            [pause] = await db.fetch("select next_attempt_at - now() from clerk_sync.changes where attempts > 0")
            assert PAUSES[number] * 0.8 < pause[0] < PAUSES[number] * 1.2
            await db.execute("update clerk_sync.changes set next_attempt_at = now() where attempts > 0")
        await process.notifier.run_once()
        assert [message["type"] for message in receiver.accepted] == ["user.updated"]
        assert len(set(receiver.ids)) == 2
        assert tuple(
            *await db.fetch("select delivery, attempts, reason from clerk_sync.changes order by id limit 1")
        ) == (
            "dead",
            8,
            reason,
        )
        assert process.outcomes == ["failed"] * 7 + ["dead", "delivered"]
        receiver.answer = Receiver.answer
        assert await replay_dead_deliveries(db) == 1
        await process.notifier.run_once()
        assert [message["type"] for message in receiver.accepted] == ["user.updated", "user.created"]


async def test_slow_and_endless_answers_do_not_keep_other_users_waiting(
    open_applier: OpenApplier, receiver: Receiver, db: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that never comes is a timeout; one without an end is not read to its end."""
    monkeypatch.setattr(notifier, "TIMEOUT", 1.0)

    async def endless() -> AsyncIterator[bytes]:
        while not receiver.stopped.is_set():
            yield bytes(65_536)
            await asyncio.sleep(0.01)

    async def answer(message: dict[str, Any]) -> Response:
        if message["data"]["clerk_id"] == "user_silent":
            return await receiver.never_answer()
        if message["data"]["clerk_id"] == "user_endless":
            return StreamingResponse(endless())
        return Response()

    receiver.answer = answer
    async with Process(open_applier, receiver) as process:
        for user in ("user_silent", "user_endless", "user_1", "user_2"):
            await process.applier.apply([make("user.created", user, T1)])
        await process.notifier.run_once()
        rows = await db.fetch("select clerk_id, delivery, reason from clerk_sync.changes")
        assert {row["clerk_id"]: (row["delivery"], row["reason"]) for row in rows} == {
            "user_silent": ("pending", "timeout"),
            "user_endless": ("delivered", None),
            "user_1": ("delivered", None),
            "user_2": ("delivered", None),
        }


# The bytes of a false receiver, and the reason of the failure; None if the change counts as accepted.
FALSE_RESPONSES = {
    b"": "ServerDisconnectedError",
    b"hello\r\n\r\n": "ClientResponseError",
    b"HTTP/1.1 999999 OK\r\n\r\n": "ClientResponseError",
    b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort": None,
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 5\r\n\r\nplain": None,
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n": None,
    b"HTTP/1.1 204 No Content\r\nx: " + b"x" * 100_000 + b"\r\n\r\n": "ClientResponseError",
}


async def test_false_responses_are_failures_or_end_with_their_status(
    open_applier: OpenApplier, receiver: Receiver, db: asyncpg.Connection
) -> None:
    """The receiver closes the connection, or does not speak HTTP. After a 2xx its body does not matter."""
    written = iter(FALSE_RESPONSES)

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}}")
        writer.write(next(written))
        await writer.drain()
        writer.close()

    async with (
        await asyncio.start_server(respond, "127.0.0.1", 0) as server,
        Process(open_applier, receiver) as process,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        false = Notifier(process.applier.store, process.client, url, (NOTIFY_SECRET,))
        for number in range(len(FALSE_RESPONSES)):
            await process.applier.apply([make("user.created", f"user_{number}", T1)])
            await false.run_once()
        rows = await db.fetch("select delivery, reason from clerk_sync.changes order by id")
        assert [row["reason"] for row in rows] == [*FALSE_RESPONSES.values()]
        assert {(row["delivery"], row["reason"] is None) for row in rows} == {("pending", False), ("delivered", True)}


async def test_a_dead_endpoint_keeps_no_webhook_waiting(serve: Serve, receiver: Receiver) -> None:
    """More deliveries than may run at once never end; webhooks and logins are answered as before."""

    async def never_answer(_: dict[str, Any]) -> Response:
        return await receiver.never_answer()

    receiver.answer = never_answer
    async with serve(mapping=MAPPING, **receiver.settings) as world:
        for number in range(notifier.MAX_CONCURRENT + 10):
            await world.deliver_ok(make_event("user.created", f"user_{number}", T1))
        await wait_until(lambda: len(receiver.received) == notifier.MAX_CONCURRENT)
        began = asyncio.get_running_loop().time()
        for number in range(20):
            assert await world.deliver_ok(make_event("user.updated", f"user_{number}", T2)) == "applied"
        # A delivery waits for 15 s; one webhook that waited for it would exceed this time.
        assert asyncio.get_running_loop().time() - began < 10


async def test_each_committed_change_is_sent_in_order_in_spite_of_crashes(
    open_applier: OpenApplier, receiver: Receiver, db: asyncpg.Connection
) -> None:
    """Two processes send and are stopped at random moments, the receiver fails at random; no change is lost."""
    rng = random.Random(15)

    async def answer(_: dict[str, Any]) -> Response:
        await asyncio.sleep(rng.random() / 50)
        return Response(status_code=rng.choice([200, 200, 200, 500, 410, 302]))

    receiver.answer = answer
    async with Process(open_applier, receiver) as first, Process(open_applier, receiver) as second:

        async def apply() -> None:
            for version in range(60):
                user = f"user_{rng.randint(1, 6)}"
                await first.applier.apply([make("user.updated", user, T1 + version, first_name=f"Ada {version}")])
                if version % 3 == 0:
                    first.notifier.wake.set()

        async def send_and_crash(process: Process) -> None:
            for _ in range(8):
                run = asyncio.create_task(process.notifier.run_once())
                await asyncio.wait([run], timeout=rng.random() / 5)
                run.cancel()
                for task in [*process.notifier._tasks]:
                    task.cancel()
                await asyncio.gather(run, *process.notifier._tasks, return_exceptions=True)
                process.notifier._results.clear()  # a crash forgets them
                async with process.applier.store.database.acquire() as connection:
                    await make_due(connection)

        await asyncio.gather(apply(), send_and_crash(first), send_and_crash(second))
        receiver.answer = Receiver.answer
        while await db.fetchval("select exists (select from clerk_sync.changes where delivery = 'pending')"):
            await make_due(db)
            await first.notifier.run_once()
    await check_order(db, receiver)


async def check_order(db: asyncpg.Connection, receiver: Receiver) -> None:
    """Check that each user's changes were accepted in their order, and all of them."""
    expected: defaultdict[str, list[str]] = defaultdict(list)
    for entry in await db.fetch("select transaction_id::text as xid, * from clerk_sync.changes order by id"):
        assert entry["delivery"] == "delivered"
        expected[entry["clerk_id"]].append(f"chg_{entry['xid']}-{entry['id']}")
    found: defaultdict[str, list[str]] = defaultdict(list)
    for message in receiver.accepted:
        if message["id"] not in found[message["data"]["clerk_id"]]:
            found[message["data"]["clerk_id"]].append(message["id"])
    assert found == expected


def test_a_receiver_may_ask_for_a_longer_pause() -> None:
    """Retry-After is a number of seconds or a date; an unreadable one is ignored."""
    now = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
    assert parse_retry_after("120", now) == timedelta(seconds=120)
    assert parse_retry_after("Sat, 31 Jan 2026 12:01:00 GMT", now) == timedelta(seconds=60)
    assert parse_retry_after("99999999999", now) == timedelta(hours=24)
    for text in (None, "", "soon", "-5", "Sat, 31 Jan 2026 11:00:00 GMT", "Sat, 31 Jan 2026 12:01:00 -0000"):
        assert parse_retry_after(text, now) == timedelta()
    notification = Notification(FeedEntry(START, "user.updated", "user_1", None, [], now), 0, None, is_deleted=False)
    assert judge(notification, Reply(503, "120"), now).pause == timedelta(seconds=120)
    assert judge(notification, Reply(503, "1"), now).pause != timedelta(seconds=1)


def test_a_url_without_a_secret_is_a_wrong_setting() -> None:
    """The message names the variable that is missing."""
    environ = {"SYNC_NOTIFY_URL": "https://app.example.com/changes/"}
    with pytest.raises(SettingsError, match="SYNC_NOTIFY_SECRET: not set"):
        read_settings(environ)
    settings = read_settings(environ | {"SYNC_NOTIFY_SECRET": f"{NOTIFY_SECRET}, {OLDER_NOTIFY_SECRET}"})
    assert settings.sync_notify_url == "https://app.example.com/changes/"
    assert len(settings.sync_notify_secret) == 2
    assert settings.mapping.records_changes
    assert settings.mapping.notifies
