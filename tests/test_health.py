"""/healthz, /readyz, /metrics: what they say, and to strangers nothing more (L8); starting with the database away."""

from pathlib import Path

import asyncpg
import pytest

from sync_service.dsn import clean_dsn
from sync_service.settings import Settings
from tests.conftest import Output
from tests.world import SECRET, World, event, serving, until


async def test_a_service_that_is_well_says_so(world: World) -> None:
    for path in ("/healthz", "/readyz", "/healthz/", "/metrics"):
        assert (await world.client.get(path)).status_code == 200


async def test_strangers_learn_neither_secrets_nor_numbers_of_users(world: World) -> None:
    """L8."""
    for number in range(37):
        await world.outcome(event("user.created", f"user_{number}"))
    for path in ("/healthz", "/readyz", "/metrics"):
        text = (await world.client.get(path)).text
        for told in ("whsec", "CLERK", "SECRET", "secret", "user_"):
            assert told not in text
    assert "gauge" not in (await world.client.get("/readyz")).text


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("delete from clerk_sync.migrations", "behind"),
        ("update clerk_sync.migrations set version = 99 where version = 1", "ahead"),
    ],
)
async def test_a_schema_behind_or_ahead_is_said_and_not_ready(
    settings: Settings, db: asyncpg.Connection, output: Output, change: str, word: str
) -> None:
    await db.execute(change)
    async with serving(settings, db) as world:
        answer = await world.client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reason": "schema"})
        assert (await world.client.get("/healthz")).status_code == 200
        await until(lambda: output.log("not_ready"))
        assert word in output.log("not_ready")[0]["detail"]


async def test_a_database_never_migrated_keeps_events_with_the_sender(
    empty_database: str, db: asyncpg.Connection
) -> None:
    settings = Settings(database=clean_dsn(empty_database), clerk_webhook_signing_secrets=(SECRET,))
    async with serving(settings, db) as world:
        assert (await world.client.get("/readyz")).json()["reason"] == "schema"
        answer = await world.deliver(event("user.created", "user_1"))
        assert answer.status_code == 503
        assert answer.headers["retry-after"]


async def test_it_starts_with_the_database_away(tmp_path: Path, db: asyncpg.Connection, output: Output) -> None:
    away = Settings(
        database=clean_dsn(f"postgresql://postgres@/x?host={tmp_path}"), clerk_webhook_signing_secrets=(SECRET,)
    )
    async with serving(away, db) as world:
        answer = await world.client.get("/readyz")
        assert (answer.status_code, answer.json()["reason"]) == (503, "database")
        assert (await world.client.get("/healthz")).status_code == 200
        assert (await world.deliver(event("user.created", "user_1"))).status_code == 503
        assert output.log("not_ready")[0]["reason"] == "database"


async def test_keys_left_out_of_the_address_are_named(
    settings: Settings, db: asyncpg.Connection, output: Output
) -> None:
    assert settings.database
    dsn = clean_dsn(settings.database.url + "&channel_binding=require&connect_timeout=10")
    async with serving(settings, db, database=dsn) as world:
        assert (await world.client.get("/readyz")).status_code == 200
    [line] = output.log("dsn_parameters_ignored")
    assert line["parameters"] == ["channel_binding", "connect_timeout"]
