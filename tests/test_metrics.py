"""GET /metrics: the families, their meaning, and their independence of the database."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx2
import pytest
from starlette.responses import Response

import sync_service
from sync_service.clerk.observed_client import ObservedClient, classify_status
from sync_service.dsn import parse_dsn
from sync_service.postgres.pool import MAX_CONNECTIONS, RELEASE_TIMEOUT
from sync_service.settings import Settings
from sync_service.store.figures import FIGURES, read_figures
from sync_service.web.metrics import database_figures
from sync_service.web.metrics.families import OUTCOMES
from tests.clerk_stub import ClerkStub, make_bearer_header
from tests.conftest import Serve
from tests.scrape import read_documented_families, read_families, scrape
from tests.sync_requests import build_settings, post_sync, post_sync_as_backend, read_outcome
from tests.world import SECRET, T1, T2, World, count_lock_waiters, make_event, run_world, wait_until

PACKAGE = Path(sync_service.__file__).parent

OPS_TOKEN = "SECRET_SENTINEL_of_the_operators"

FIXED_LABELS = {
    "sync_service_events_waiting": {"failed", "dead"},
    "sync_service_ready": {"database", "schema", "mapping"},
    "sync_service_reconcile_drift_users": {"missing", "stale", "differing", "deleted"},
    "sync_service_deliveries_waiting": {"pending", "dead"},
}
ADD_EVENT = """
insert into clerk_sync.events (id, type, status, payload, received_at, next_attempt_at, finished_at)
values (
    $1, 'user.updated', $2, '{}', $3,
    case when $2 = 'failed' then now() + interval '1 hour' end, case when $2 = 'applied' then now() end
)
"""
ADD_RUN = """
insert into clerk_sync.reconciles (mode, started_at, finished_at, missing, stale, differing, deleted, error)
values ('full', now(), $1, $2, $3, $4, $5, $6)
"""


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each scrape query the database."""
    monkeypatch.setattr(database_figures, "MAX_AGE", 0)


async def test_every_documented_series_exists_before_the_first_event(serve: Serve, clerk: ClerkStub) -> None:
    """The families, types and labels are those of the documentation, and each fixed label value has a series."""
    async with serve(clerk_jwks_url=f"{clerk.url}/.well-known/jwks.json") as world:
        await wait_until(lambda: clerk.jwks_calls)
        families = read_families((await world.client.get("/metrics")).text)
    found = {}
    for family in families:
        labels = {name for sample in family.samples for name in sample.labels} - {"le"}
        assert len(labels) <= 1, family.name
        if not family.name.startswith("process_"):
            found[family.name] = (family.type, next(iter(labels), ""))
        if family.name in FIXED_LABELS:
            assert {next(iter(s.labels.values())) for s in family.samples} == FIXED_LABELS[family.name]
    assert found == read_documented_families()
    assert {
        "process_cpu_seconds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
    } <= {family.name for family in families}


def test_each_refusal_code_has_a_series() -> None:
    source = (PACKAGE / "request_errors.py").read_text() + (PACKAGE / "web" / "problems.py").read_text()
    # No family counts the requests for the change feed.
    codes = set(re.findall(r'(?:\bcode = |^ +)"(\w+)"', source, re.MULTILINE)) - {"not_recorded"}
    assert {"bad_token", "internal_server_error", "clerk_unavailable"} <= codes
    assert codes <= {outcome for outcomes in OUTCOMES.values() for outcome in outcomes}


async def test_no_label_takes_its_value_from_a_request(world: World) -> None:
    before = await scrape(world)
    await world.deliver_ok(make_event("strange.type", "user_1"))
    await world.deliver(b"{}", "msg_strange_id")
    await world.client.get("/users/user_strange")
    await world.client.get("/strange?path=1")
    assert (await scrape(world)).keys() == before.keys()


async def test_latency_and_batches_are_measured(world: World) -> None:
    """Refused webhooks have a latency too; each event is in one batch."""
    await asyncio.gather(*(world.deliver_ok(make_event("user.created", f"user_{n}")) for n in range(9)))
    await world.deliver_ok(make_event("user.deleted", "user_1"))
    assert (await world.post(b"{}", {})).status_code == 400
    assert (await world.client.post("/sync")).status_code == 401
    series = await scrape(world)
    assert series["sync_service_webhook_duration_seconds_count"] == 11
    assert 0 < series["sync_service_webhook_duration_seconds_sum"] < 600
    assert series["sync_service_batch_size_sum"] == 10
    assert 2 <= series["sync_service_batch_size_count"] <= 10
    assert series["sync_service_login_duration_seconds_count"] == 1
    for name in ("webhook", "login"):
        assert {f'sync_service_{name}_duration_seconds_bucket{{le="{le}"}}' for le in ("5.0", "10.0")} <= series.keys()


async def test_times_backlog_and_drift_come_from_the_database(
    serve: Serve, db: asyncpg.Connection, no_cache: None
) -> None:
    """They survive a restart: a service that has received no event has the figures, too."""
    now = datetime.now(UTC)
    async with serve() as world:
        series = await scrape(world)
        assert series["sync_service_last_accepted_webhook_timestamp_seconds"] == 0
        assert series["sync_service_oldest_waiting_seconds"] == 0
        assert series["sync_service_reconcile_last_success_timestamp_seconds"] == 0
        for n, (status, minutes) in enumerate([("failed", 5), ("failed", 20), ("dead", 90), ("applied", 1)]):
            await db.execute(ADD_EVENT, f"msg_{n}", status, now - timedelta(minutes=minutes))
        for counts in ((now - timedelta(hours=2), 9, 0, 0, 0, None), (now - timedelta(hours=1), 1, 2, 3, 4, "429")):
            await db.execute(ADD_RUN, *counts)
        await db.execute(ADD_RUN, now, 0, 0, 0, 0, "auth")  # it failed before it could compare
        await db.execute(ADD_RUN, None, 7, 7, 7, 7, None)  # it runs
        await db.execute(ADD_RUN, now, 8, 8, 8, 8, None)
        await db.execute("update clerk_sync.reconciles set dry_run = true where missing = 8")
        series = await scrape(world)
    assert series["sync_service_last_accepted_webhook_timestamp_seconds"] == pytest.approx(now.timestamp() - 60)
    assert series['sync_service_events_waiting{status="failed"}'] == 2
    assert series['sync_service_events_waiting{status="dead"}'] == 1
    assert series["sync_service_oldest_waiting_seconds"] == pytest.approx(1200, abs=60)
    assert series["sync_service_reconcile_last_success_timestamp_seconds"] == pytest.approx(now.timestamp() - 7200)
    drift = [series[f'sync_service_reconcile_drift_users{{kind="{kind}"}}'] for kind in ("missing", "stale")]
    assert drift == [1, 2]


@pytest.mark.every_postgres
async def test_the_figures_need_no_scan_of_the_inbox(db: asyncpg.Connection) -> None:
    await db.execute("""
        insert into clerk_sync.events (id, type, status, payload, finished_at)
        select
            'msg_' || n, 'user.updated', case when n % 5000 = 0 then 'dead' else 'applied' end, '{}',
            case when n % 5000 > 0 then now() end
        from generate_series(1, 20000) as n
    """)
    await db.execute("vacuum analyze clerk_sync.events")
    assert (await read_figures(db)).dead == 4
    plan = "\n".join(row[0] for row in await db.fetch(f"explain {FIGURES}"))
    assert "Seq Scan on events" not in plan


async def test_scrapes_share_one_query_and_its_result(
    serve: Serve, db: asyncpg.Connection, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result of less than 8 s is used again. Concurrent scrapes use one connection together."""
    async with serve() as world:
        await scrape(world)
        await db.execute(ADD_EVENT, "msg_1", "dead", datetime.now(UTC))
        assert (await scrape(world))['sync_service_events_waiting{status="dead"}'] == 0
        monkeypatch.setattr(database_figures, "MAX_AGE", 0)
        async with db.transaction():
            await db.execute("lock table clerk_sync.reconciles")
            scrapes = [asyncio.create_task(scrape(world)) for _ in range(5)]
            looking = await asyncpg.connect(database)
            await wait_until(lambda: count_lock_waiters(looking))
            assert await count_lock_waiters(looking) == 1
            await looking.close()
        for series in await asyncio.gather(*scrapes):
            assert series['sync_service_events_waiting{status="dead"}'] == 1


async def test_a_silent_database_delays_no_scrape_and_the_last_figures_stay(
    serve: Serve, db: asyncpg.Connection, no_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert database_figures.READ_TIMEOUT + RELEASE_TIMEOUT < database_figures.MAX_WAIT < 5
    await db.execute(ADD_EVENT, "msg_1", "dead", datetime.now(UTC))
    async with serve() as world:
        assert (await scrape(world))['sync_service_ready{check="database"}'] == 1
        monkeypatch.setattr(database_figures, "READ_TIMEOUT", 0.2)
        async with db.transaction():
            await db.execute("lock table clerk_sync.reconciles")
            series = await scrape(world)
        assert series['sync_service_ready{check="database"}'] == 0
        assert series['sync_service_events_waiting{status="dead"}'] == 1


async def test_the_metrics_need_no_database(tmp_path: Path, db: asyncpg.Connection) -> None:
    unreachable = parse_dsn(f"postgresql://postgres@/x?host={tmp_path}")
    settings = Settings(database=unreachable, clerk_webhook_signing_secrets=(SECRET,))
    async with run_world(settings, db) as world:
        series = await scrape(world)
    assert [series[f'sync_service_ready{{check="{check}"}}'] for check in ("database", "schema", "mapping")] == [
        0,
        0,
        0,
    ]
    assert series["sync_service_pool_connections_max"] == MAX_CONNECTIONS


@pytest.mark.parametrize(
    ("change", "ready"),
    [
        ("select", [1, 1, 1]),
        ("delete from clerk_sync.migrations", [1, 0, 0]),
        ("alter table users drop column email", [1, 1, 0]),
    ],
)
async def test_ready_names_the_check_that_fails(
    serve: Serve, db: asyncpg.Connection, change: str, ready: list[int]
) -> None:
    await db.execute(change)
    async with serve() as world:
        series = await scrape(world)
    assert [series[f'sync_service_ready{{check="{check}"}}'] for check in ("database", "schema", "mapping")] == ready


async def test_retries_and_replays_are_counted_by_outcome(serve: Serve, db: asyncpg.Connection) -> None:
    async with serve(sync_ops_token=OPS_TOKEN) as world:
        await world.deliver_ok(make_event("strange.type", "user_1"), "msg_ignored")
        response = await world.client.post("/ops/events/msg_ignored/replay", headers=make_bearer_header(OPS_TOKEN))
        assert response.json()["outcome"] == "ignored"
        assert (await scrape(world))['sync_service_retries_total{outcome="ignored"}'] == 1
        assert (await world.deliver(make_event("user.created", "user_1", banned="yes"))).status_code == 202
        await db.execute("update clerk_sync.events set next_attempt_at = now() where status = 'failed'")
        await world.deliver(make_event("user.created", "user_2", banned="yes"))  # wakes the background

        async def is_counted() -> bool:
            return (await scrape(world))['sync_service_retries_total{outcome="parked"}'] >= 1

        await wait_until(is_counted)


async def test_the_pool_shows_connections_in_use(serve: Serve, db: asyncpg.Connection) -> None:
    async with serve() as world:
        await world.deliver_ok(make_event("user.created", "user_1", T1))
        async with db.transaction():
            await db.execute("select from users for update")
            waiting = asyncio.create_task(world.deliver_ok(make_event("user.updated", "user_1", T2)))

            async def is_in_use() -> bool:
                return (await scrape(world))["sync_service_pool_connections_in_use"] >= 1

            await wait_until(is_in_use)
        await waiting


async def test_requests_to_clerk_are_counted_and_the_quota_shrinks(serve: Serve, clerk: ClerkStub) -> None:
    clerk.add_user("user_1")
    async with serve(**build_settings(clerk)) as world:
        quota = (await scrape(world))["sync_service_clerk_quota_remaining"]
        assert await read_outcome(post_sync(world)) == "created"
        assert (await post_sync(world, "user_2")).status_code == 404
        series = await scrape(world)
        assert series['sync_service_clerk_requests_total{outcome="ok"}'] == 1
        assert series['sync_service_clerk_requests_total{outcome="not_found"}'] == 1
        assert series["sync_service_clerk_quota_remaining"] == quota - 2
        assert series["sync_service_clerk_breaker_open"] == 0
        clerk.error_response = Response(status_code=429, headers={"Retry-After": "60"})
        assert (await post_sync(world, "user_3")).status_code == 503
        series = await scrape(world)
        assert series['sync_service_clerk_requests_total{outcome="rate_limited"}'] == 1
        assert series["sync_service_clerk_breaker_open"] == 1
        assert series["sync_service_clerk_quota_remaining"] == 0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (401, "auth_error"),
        (403, "auth_error"),
        (404, "not_found"),
        (422, "refused"),
        (502, "server_error"),
    ],
)
def test_each_status_of_clerk_is_an_outcome(status: int, outcome: str) -> None:
    assert classify_status(status) == outcome
    assert outcome in OUTCOMES["clerk_requests"]


async def test_requests_that_get_no_response_are_counted(clerk: ClerkStub) -> None:
    """Requests to other addresses, such as the key set of the frontend, are none of the Backend API."""
    outcomes: list[str] = []
    async with ObservedClient(clerk.url, outcomes.append) as client:
        with clerk.hold(), pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await client.get(f"{clerk.url}/v1/users/user_1")
    async with ObservedClient("http://127.0.0.1:1", outcomes.append) as client:
        with pytest.raises(httpx2.ConnectError):
            await client.get("http://127.0.0.1:1/v1/users/user_1")
        assert (await client.get(f"{clerk.url}/healthz")).status_code == 404
    assert outcomes == ["timeout", "network_error"]


async def test_the_age_of_the_key_set_has_no_sample_without_one(serve: Serve, clerk: ClerkStub) -> None:
    async with serve(**build_settings(clerk)) as world:  # with a configured key
        assert "sync_service_jwks_age_seconds" not in await scrape(world)
    keys = {"clerk_jwt_key": None, "clerk_jwks_url": f"{clerk.url}/.well-known/jwks.json"}
    async with serve(**build_settings(clerk, **keys)) as world:

        async def has_age() -> bool:
            return 0 <= (await scrape(world)).get("sync_service_jwks_age_seconds", -1) < 300

        await wait_until(has_age)


async def test_a_user_of_a_profile_counts_as_first_created_by_a_login(
    serve: Serve, db: asyncpg.Connection, clerk: ClerkStub
) -> None:
    """A known user whose row the app has removed does not count again."""
    async with serve(**build_settings(clerk, clerk_secret_key=None)) as world:
        for _ in range(2):
            response = await post_sync_as_backend(world, "user_1", profile={"first_name": "Ada"})
            assert await read_outcome(response) == "unverified"
            await db.execute("delete from users")
        assert (await scrape(world))["sync_service_missed_webhooks_total"] == 1


async def test_a_run_from_the_inbox_is_no_success_of_a_reconcile(db: asyncpg.Connection) -> None:
    """It compares nothing with Clerk, so the alert on missing runs must not wait for a further day."""
    insert = "insert into clerk_sync.reconciles (mode, finished_at, missing) values ($1, now(), $2)"
    await db.execute(insert, "inbox", 5)
    figures = await read_figures(db)
    assert (figures.last_reconcile_at, figures.missing) == (0, 0)
    await db.execute(insert, "full", 3)
    await db.execute(insert, "inbox", 5)
    figures = await read_figures(db)
    assert (figures.last_reconcile_at > 0, figures.missing) == (True, 3)
