"""/healthz, /readyz and /metrics; a start without a reachable database."""

from pathlib import Path

import asyncpg
import pytest

from sync_service.dsn import parse_dsn
from sync_service.settings import Settings
from tests.conftest import Output
from tests.world import SECRET, World, make_event, run_world, wait_until


async def test_a_healthy_service_responds_with_200(world: World) -> None:
    for path in ("/healthz", "/readyz", "/healthz/", "/metrics"):
        assert (await world.client.get(path)).status_code == 200


async def test_anonymous_callers_learn_no_secret_and_no_user_count(world: World) -> None:
    """The three routes reveal neither the settings nor how many users exist (L8)."""
    for number in range(37):
        await world.deliver_ok(make_event("user.created", f"user_{number}"))
    for path in ("/healthz", "/readyz", "/metrics"):
        text = (await world.client.get(path)).text
        for internal in ("whsec", "CLERK", "SECRET", "secret", "user_"):
            assert internal not in text
    assert "gauge" not in (await world.client.get("/readyz")).text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("delete from clerk_sync.migrations", "behind"),
        ("insert into clerk_sync.migrations (version, name, checksum) values (99, 'x_requires_0099', 'x')", "ahead"),
    ],
)
async def test_a_schema_behind_or_ahead_is_not_ready_and_logged(
    settings: Settings, db: asyncpg.Connection, output: Output, change: str, word: str
) -> None:
    await db.execute(change)
    async with run_world(settings, db) as world:
        response = await world.client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "not ready", "reason": "schema"})
        assert (await world.client.get("/healthz")).status_code == 200
        await wait_until(lambda: output.log("not_ready"))
        assert word in output.log("not_ready")[0]["detail"]


async def test_without_a_schema_an_event_is_a_503_and_stays_with_the_sender(
    empty_database: str, db: asyncpg.Connection
) -> None:
    settings = Settings(database=parse_dsn(empty_database), clerk_webhook_signing_secrets=(SECRET,))
    async with run_world(settings, db) as world:
        assert (await world.client.get("/readyz")).json()["reason"] == "schema"
        response = await world.deliver(make_event("user.created", "user_1"))
        assert response.status_code == 503
        assert response.headers["retry-after"]


async def test_the_service_starts_without_a_reachable_database(
    tmp_path: Path, db: asyncpg.Connection, output: Output
) -> None:
    unreachable = Settings(
        database=parse_dsn(f"postgresql://postgres@/x?host={tmp_path}"), clerk_webhook_signing_secrets=(SECRET,)
    )
    async with run_world(unreachable, db) as world:
        response = await world.client.get("/readyz")
        assert (response.status_code, response.json()["reason"]) == (503, "database")
        assert (await world.client.get("/healthz")).status_code == 200
        assert (await world.deliver(make_event("user.created", "user_1"))).status_code == 503
        assert output.log("not_ready")[0]["reason"] == "database"


async def test_ignored_dsn_parameters_are_logged(settings: Settings, db: asyncpg.Connection, output: Output) -> None:
    assert settings.database
    dsn = parse_dsn(settings.database.url + "&channel_binding=require&connect_timeout=10")
    async with run_world(settings, db, database=dsn) as world:
        assert (await world.client.get("/readyz")).status_code == 200
    [line] = output.log("dsn_parameters_ignored")
    assert line["parameters"] == ["channel_binding", "connect_timeout"]
