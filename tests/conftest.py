"""What every test may ask for: a real PostgreSQL, a database of its own, the service over real HTTP."""

import asyncio
import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import trustme

from sync_service.dev.binaries import find_all_binaries, read_major_version
from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from sync_service.dsn import parse_dsn
from sync_service.logs import configure_logging
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.postgres.migrate import migrate
from sync_service.settings import Settings
from tests.clerk_stub import ClerkStub, run_clerk_stub
from tests.world import PII_SENTINEL, SECRET, SECRETS, World, run_world

SHARED = Path(__file__).resolve().parents[2] / "shared" / "clerk"

ENGINES = {f"postgres{read_major_version(place)}": place for place in reversed(find_all_binaries())}

# The one that `dev` uses.
USUAL_ENGINE = list(ENGINES)[-1:]


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of workers for `-n auto`: two per CPU, because many tests wait."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(2 * cpus, 16)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fault suite first. Its tests take the longest, and at the end some workers would wait for another's."""
    items.sort(key=lambda item: "faults" not in item.path.parts)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_this_machine() -> None:
    for name in list(os.environ):
        if name.startswith(("CLERK_", "SYNC_", "LOG_")) or name in {"DATABASE_URL", "PORT", "HOST", "WEB_CONCURRENCY"}:
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _trust_one_certificate(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Have each HTTP client load one CA certificate: a whole bundle takes 40 ms, and no test leaves this machine."""
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    os.environ["SSL_CERT_FILE"] = str(file)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Clerk's own samples and vectors, where they lie beside the project."""
    if not SHARED.is_dir():
        if os.environ.get("REQUIRE_SHARED"):
            pytest.fail(f"{SHARED} must be there: these tests may not be skipped here")
        pytest.skip("Clerk's own samples are not beside the project")
    return SHARED


# --- what was said ------------------------------------------------------------------------------------------------


class Output:
    """All that a test and its processes wrote, kept so that nothing escapes the look for sentinels."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture
        self.said = ""

    def read(self) -> str:
        """Return what was written since the last look."""
        out, err = self._capture.readouterr()
        self.said += out + err
        return str(out + err)

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return all lines of the log so far, or those of one event."""
        self.read()
        lines = [json.loads(line) for line in self.said.splitlines() if line.startswith("{")]
        return [line for line in lines if event in {None, line.get("event")}]


@pytest.fixture(autouse=True)
def output(capfd: pytest.CaptureFixture[str]) -> Iterator[Output]:
    """Invariant I4, after every test: neither a person nor a secret in anything that was written."""
    # By its number: pytest puts other objects in the place of sys.stderr between a test's set-up and its call.
    with open(2, "w", buffering=1, closefd=False) as stream:
        configure_logging(level="debug", form="json", stream=stream)
        kept = Output(capfd)
        yield kept
        kept.read()
    logging.getLogger().handlers.clear()
    for sentinel in (PII_SENTINEL, *SECRETS):
        assert sentinel not in kept.said, f"{sentinel} was written to the log or the terminal"


# --- PostgreSQL ---------------------------------------------------------------------------------------------------


# A database is copied for each test, which takes five times as long on a disk. A container's may be too small.
MEMORY = Path("/dev/shm")


def find_memory_folder() -> Path | None:
    """Return a folder in memory for short-lived databases, where there is one; None is the usual place."""
    there = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    return MEMORY if there and shutil.disk_usage(MEMORY).free > 4 * 1024**3 else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with a database on one PostgreSQL, and with the mark `every_postgres` on each that is installed.

    The mark is for tests of SQL and its errors, which differ between versions. ALL_POSTGRES=1 marks all tests.
    """
    if "engine" in metafunc.fixturenames:
        is_marked = metafunc.definition.get_closest_marker("every_postgres") or os.environ.get("ALL_POSTGRES")
        metafunc.parametrize("engine", ENGINES if is_marked else USUAL_ENGINE, indirect=True, scope="session")


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest, anyio_backend: object) -> Iterator[EmbeddedServer]:
    """A server for the session.

    It asks for `anyio_backend` so that tests that are not coroutines may use the fixtures below that are.
    """
    quick = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
    with tempfile.TemporaryDirectory(prefix=request.param, dir=find_memory_folder()) as folder:
        data = Path(folder) / "data"
        with run_embedded_postgres(data, binaries=ENGINES[request.param], settings=quick) as server:
            yield server


@pytest.fixture(scope="session")
async def template(engine: EmbeddedServer) -> str:
    """The name of a database that is migrated, to be cloned."""
    connection = await asyncpg.connect(engine.dsn())
    await connection.execute("create database template_migrated")
    await connection.close()
    connection = await asyncpg.connect(engine.dsn("template_migrated"))
    await migrate(connection)
    await create_table(connection, DEFAULT)
    await connection.close()
    await cache_catalog(engine.dsn("template_migrated"))
    return "template_migrated"


async def cache_catalog(dsn: str) -> None:
    """Connect once, so that PostgreSQL caches the catalog in a file. Each copy of the database has that file, too."""
    await (await asyncpg.connect(dsn)).close()


Execute = Callable[[str], object]


@pytest.fixture(scope="session")
def execute_as_admin(engine: EmbeddedServer) -> Iterator[Execute]:
    """Return a function that executes a statement on one connection of the session, which has its own event loop."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(engine.dsn()))
        yield lambda statement: runner.run(connection.execute(statement))
        runner.run(connection.close())


_numbers = count()


def clone_database(execute_as_admin: Execute, engine: EmbeddedServer, template: str) -> Iterator[str]:
    """Yield the address of a copy of `template`, which is dropped afterwards."""
    name = f"test_{next(_numbers)}"
    execute_as_admin(f"create database {name} template {template} strategy file_copy")
    yield engine.dsn(name)
    execute_as_admin(f"drop database {name} with (force)")


@pytest.fixture
def database(execute_as_admin: Execute, engine: EmbeddedServer, template: str) -> Iterator[str]:
    """The address of a migrated database of the test's own."""
    yield from clone_database(execute_as_admin, engine, template)


@pytest.fixture
def empty_database(execute_as_admin: Execute, engine: EmbeddedServer) -> Iterator[str]:
    """The address of a database that nobody has migrated."""
    yield from clone_database(execute_as_admin, engine, "template0")


@pytest.fixture
async def db(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection beside the service, to look with."""
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


# --- the service --------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(database: str) -> Settings:
    return Settings(database=parse_dsn(database), clerk_webhook_signing_secrets=(SECRET,))


@pytest.fixture
async def clerk() -> AsyncIterator[ClerkStub]:
    """A stand-in for Clerk, running."""
    async with run_clerk_stub() as stub:
        yield stub


Serve = Callable[..., contextlib.AbstractAsyncContextManager[World]]


@pytest.fixture
def serve(settings: Settings, db: asyncpg.Connection) -> Serve:
    """Return a function that serves with some settings changed."""
    return lambda **changes: run_world(settings, db, **changes)


@pytest.fixture
async def world(serve: Serve) -> AsyncIterator[World]:
    """The service, running; the invariants are checked when the test is through."""
    async with serve() as running:
        yield running
        await running.check_invariants()
