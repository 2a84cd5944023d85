"""The runs of the reconcile: one at a time, with their reports and the place to continue from."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg
from msgspec import Struct

from sync_service.dsn import Dsn
from sync_service.postgres.errors import translate_errors
from sync_service.postgres.pool import Connection, Database, connect
from sync_service.postgres.sql import read_sql
from sync_service.store.audit import AuditEntry, add_entry
from sync_service.store.deletions import LIFT_LIMITS

# The key of an advisory lock, next to the one of the migrations.
LOCK_KEY = 25375_7963

# Clerk's clock and the database's may differ, and an update may appear late in the list.
WATERMARK_OVERLAP = timedelta(minutes=10)

RUN_RETENTION = timedelta(days=90)

# The findings and writes that each run counts: fields of its report, and columns of its row.
RUN_COUNTS = ("missing", "stale", "differing", "deleted", "repaired", "refused", "failed")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has begun. `checkpoint` is the place where an earlier one stopped, None for the start."""

    id: int
    checkpoint: int | None


class RunReport(Struct, frozen=True):
    """A run with its report, as far as it has come. `finished` is false for a run that ended early, by `error`."""

    id: int
    mode: str
    dry_run: bool
    started_at: datetime
    finished_at: datetime | None
    users: int
    missing: int
    stale: int
    differing: int
    deleted: int
    repaired: int
    refused: int
    failed: int
    columns: dict[str, int]
    error: str | None
    recent: bool
    finished: bool
    drift: int
    seconds: float | None


@contextlib.asynccontextmanager
async def open_run_connection(dsn: Dsn) -> AsyncIterator[asyncpg.Connection]:
    """Yield a connection for the lock of the runs, which none of the pool may hold so long. Raises `DatabaseError`."""
    with translate_errors():
        connection = await connect(dsn)
        try:
            yield connection
        finally:
            with contextlib.suppress(TimeoutError, asyncpg.PostgresError, OSError):
                await connection.close(timeout=5)


@contextlib.asynccontextmanager
async def hold_run_lock(connection: asyncpg.Connection) -> AsyncIterator[bool]:
    """Within the block, keep other processes from a run; yield False if another one has the lock.

    PostgreSQL releases it when the process ends, however it ends. The lock belongs to a transaction, because a pooler
    would give the lock of a session to others. An idle transaction without a snapshot does not delay vacuum.
    """
    async with connection.transaction():
        await connection.execute(LIFT_LIMITS)
        yield bool(await connection.fetchval("select pg_try_advisory_xact_lock($1)", LOCK_KEY))


async def read_clock(database: Database) -> datetime:
    """Return the time of the database."""
    async with database.acquire() as connection:
        now: datetime = await connection.fetchval("select now()")
    return now


async def find_watermark(database: Database) -> int | None:
    """Return the time, in milliseconds, since which no run has asked Clerk for changes; None before the first run."""
    async with database.acquire() as connection:
        started_at = await connection.fetchval(
            "select max(started_at) from clerk_sync.reconciles"
            " where finished_at is not null and error is null and not dry_run and mode <> 'inbox'"
        )
    return int((started_at - WATERMARK_OVERLAP).timestamp() * 1000) if started_at else None


async def read_run_ages(connection: Connection, mode: str) -> tuple[float | None, float | None]:
    """Return the seconds since the start of the last complete run and of the last run; None if there was none.

    A full run also compares the newest changes, so it counts for both modes.
    """
    record = await connection.fetchrow(_RUN_AGES, [mode, "full"])
    assert record is not None  # noqa: S101  an aggregate always returns one row
    return record["complete"], record["latest"]


async def begin_run(database: Database, mode: str, *, dry_run: bool = False, entry: AuditEntry | None = None) -> Run:
    """Record the start of a run, and its audit. The caller has the lock, so an unfinished run was interrupted."""
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(
            "delete from clerk_sync.reconciles where started_at < now() - $1::interval", RUN_RETENTION
        )
        await connection.execute(
            "update clerk_sync.reconciles set finished_at = now(), error = 'interrupted' where finished_at is null"
        )
        if entry:
            await add_entry(connection, entry)
        row = await connection.fetchrow(_BEGIN, mode, dry_run)
    assert row is not None  # noqa: S101  the statement inserts one row
    return Run(row["id"], row["checkpoint"])


async def save_run(database: Database, run: Run, counts: Mapping[str, Any], checkpoint: int | None) -> None:
    """Record the progress of a run."""
    async with database.acquire() as connection:
        await _save(connection, run, counts, checkpoint)


async def finish_run(
    database: Database, run: Run, counts: Mapping[str, Any], checkpoint: int | None, error: str | None
) -> None:
    """Record the end of a run. `checkpoint` is the place to continue from, None if all users were seen."""
    async with database.acquire() as connection, connection.transaction():
        await _save(connection, run, counts, checkpoint)
        await connection.execute(
            "update clerk_sync.reconciles set finished_at = now(), error = $2 where id = $1", run.id, error
        )


async def _save(connection: Connection, run: Run, counts: Mapping[str, Any], checkpoint: int | None) -> None:
    names = "pages", "users", *RUN_COUNTS
    columns = json.dumps(counts["columns"])
    await connection.execute(_SAVE, run.id, checkpoint, columns, *(counts[name] for name in names))


async def list_runs(connection: Connection, limit: int, run_id: int | None = None) -> list[RunReport]:
    """Return the newest runs, or the one with this ID."""
    return [_build_report(row) for row in await connection.fetch(_LIST, limit, run_id)]


def _build_report(row: asyncpg.Record) -> RunReport:
    fields = dict(row) | {"columns": json.loads(row["columns"])}
    ended_at = row["finished_at"]
    return RunReport(
        **fields,
        recent=row["mode"] == "recent",
        finished=ended_at is not None and row["error"] is None,
        drift=row["missing"] + row["stale"] + row["differing"] + row["deleted"],
        seconds=(ended_at - row["started_at"]).total_seconds() if ended_at else None,
    )


_LIST = read_sql(__package__, "list_runs.sql")

# A dry run continues no other run, and no other run continues it.
_BEGIN = """
insert into clerk_sync.reconciles (mode, dry_run, checkpoint)
select
    $1::text,
    $2::boolean,
    (
        select checkpoint from clerk_sync.reconciles
        where mode = $1 and not dry_run and not $2
        order by id desc
        limit 1
    )
returning id, checkpoint
"""

_SAVE = """
update clerk_sync.reconciles
set checkpoint = $2, columns = $3, pages = $4, users = $5, missing = $6, stale = $7, differing = $8, deleted = $9,
    repaired = $10, refused = $11, failed = $12
where id = $1
"""

_RUN_AGES = """
select
    extract(epoch from now() - max(started_at) filter (where finished_at is not null and error is null))::float
        as complete,
    extract(epoch from now() - max(started_at))::float as latest
from clerk_sync.reconciles
where mode = any($1) and not dry_run
"""
