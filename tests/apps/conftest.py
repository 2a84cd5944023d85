"""A database as the owner of an application has it, with the service's schema beside the application's."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sync_service.dev.embedded import EmbeddedServer
from sync_service.dsn import parse_dsn
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.migrate import migrate
from sync_service.settings import Settings
from tests.apps.shapes import Shape
from tests.conftest import cache_catalog
from tests.world import SECRET


@contextlib.asynccontextmanager
async def open_connection(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """Connect, to look or to work."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def shape() -> Shape | None:
    """The application, which modules name; with none of them, nothing is there but the service's schema."""
    return None


@pytest.fixture(scope="session")
def templates(engine: EmbeddedServer) -> dict[str, str]:
    """The databases of `template`, by the application's name."""
    return {}


@pytest.fixture
async def template(engine: EmbeddedServer, templates: dict[str, str], shape: Shape | None) -> str:
    """The name of a database of the application, to be cloned."""
    name = shape.name if shape else "bare"
    if name not in templates:
        templates[name] = await _create_template(engine, f"template_{name}".replace("-", "_"), shape)
    return templates[name]


async def _create_template(engine: EmbeddedServer, name: str, shape: Shape | None) -> str:
    async with open_connection(engine.dsn()) as admin:
        await admin.execute(f"create database {name} template template0")
    async with open_connection(engine.dsn(name)) as connection:
        if shape and shape.found:
            await connection.execute(shape.sql("found.sql"))
        await migrate(connection)
        if shape:
            await create_table(connection, shape.mapping)
            for sql in filter(None, (shape.sql("schema.sql"), shape.sql("data.sql"))):
                await connection.execute(sql)
    await cache_catalog(engine.dsn(name))
    return name


@pytest.fixture
def settings(database: str, shape: Shape | None) -> Settings:
    mapping = shape.mapping if shape else DEFAULT
    return Settings(database=parse_dsn(database), clerk_webhook_signing_secrets=(SECRET,), mapping=mapping)
