"""Checks of the table against the bookkeeping, and of the last reconcile (pure, except for the counts)."""

from collections.abc import Iterator

from msgspec import Struct

from sync_service.doctor.counts import Counter
from sync_service.doctor.findings import Finding, format_count
from sync_service.doctor.inbox import format_duration
from sync_service.doctor.older_rows import count_older_rows
from sync_service.mapping.introspection import Table
from sync_service.mapping.table import TableMapping
from sync_service.postgres.sql import quote_ident, quote_table
from sync_service.store.reconciles import RUN_COUNTS


class DriftCounts(Struct, frozen=True):
    """The state of the table; None means not counted.

    `missing_rows` are users that the service has written and that have no row, `older_rows` are rows with an older
    content than it has written. The other fields are the last reconcile's; `age` is in seconds since its start, None
    without one.
    """

    missing_rows: int | None = None
    older_rows: int | None = None
    age: float | None = None
    missing: int = 0
    stale: int = 0
    differing: int = 0
    deleted: int = 0
    repaired: int = 0
    refused: int = 0
    failed: int = 0
    error: str | None = None


async def count_drift(counter: Counter, mapping: TableMapping, table: Table) -> DriftCounts:
    """Return the counts. Raises errors of asyncpg, also without the schema clerk_sync."""
    names = {"table": quote_table(table.schema, table.name), "clerk_id": quote_ident(mapping.id_column)}
    names["entity"] = mapping.entity
    found = await counter.fetch_row(_LAST_RUN_SQL)
    if table.column(mapping.id_column):
        found |= await counter.fetch_row(_MISSING_ROWS_SQL.format(**names))
        found["older_rows"] = await count_older_rows(counter, mapping, table)
    return DriftCounts(**found)


def check_drift(mapping: TableMapping, counts: DriftCounts, *, has_secret_key: bool) -> Iterator[Finding]:
    """Yield the findings about rows that are missing or older than the bookkeeping, and about the last reconcile."""
    options = "" if has_secret_key else " --from-inbox"
    run = (f"sync-service reconcile{options} --dry-run", f"sync-service reconcile{options}")
    if counts.missing_rows:
        yield Finding(
            code="missing_rows",
            kind="warning",
            what=f"{mapping.name}: {format_count(counts.missing_rows)} users that sync-service has written have no row",
            why="The table was restored from a backup or truncated, or the app has deleted the rows. A webhook or a"
            " login writes only the row of its own user again.",
            run=run,
            data={"rows": counts.missing_rows},
        )
    if counts.older_rows:
        yield Finding(
            code="older_rows",
            kind="warning",
            what=f"{mapping.name}: {format_count(counts.older_rows)} rows are older than sync-service has written them",
            why="The table was restored from a backup without the schema clerk_sync, or the app has changed columns of"
            " Clerk. A webhook or a login writes only the row of its own user again.",
            run=run,
            data={"rows": counts.older_rows},
        )
    if counts.age is not None:
        yield _report_last_run(counts, counts.age)


def _report_last_run(counts: DriftCounts, age: float) -> Finding:
    data = {kind: getattr(counts, kind) for kind in RUN_COUNTS}
    has_work_left = bool(counts.error or counts.refused or counts.failed)
    found = ", ".join(f"{kind}: {format_count(number)}" for kind, number in data.items())
    return Finding(
        code="last_reconcile",
        kind="warning" if has_work_left else "note",
        what=f"last reconcile: {format_duration(age)} ago; {found}",
        why=counts.error or "The counts are differences between Clerk and the table, and their repairs.",
        run=("sync-service reconcile --dry-run",) if has_work_left else (),
        data=data | {"seconds": round(age), "error": counts.error},
    )


_MISSING_ROWS_SQL = """
select count(*) as missing_rows
from clerk_sync.identities as known
where known.deleted_at is null and known.entity = '{entity}'
    and not exists (select from {table} as app where app.{clerk_id}::text = known.clerk_id)
"""

_LAST_RUN_SQL = """
select
    extract(epoch from now() - started_at)::float8 as age,
    missing, stale, differing, deleted, repaired, refused, failed, error
from clerk_sync.reconciles
where finished_at is not null and not dry_run
order by id desc
limit 1
"""
