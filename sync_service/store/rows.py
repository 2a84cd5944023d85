"""The row of a snapshot, and the reasons for which its table refuses it."""

import asyncpg
import msgspec
import structlog

from sync_service.clerk.change import Snapshot
from sync_service.errors import ChangeRejected
from sync_service.mapping.obstacles import find_refusing_rules, list_session_defaults
from sync_service.mapping.queries import Queries
from sync_service.mapping.table import Row
from sync_service.store.access import BoundConnection

log = structlog.get_logger()

# The SQLSTATE of clerk_sync.raise_row_not_written(), and the reason for operators.
NOT_WRITTEN_SQLSTATE = "CS001"
ROW_NOT_WRITTEN = "row_not_written"
# feature_not_supported: ON CONFLICT, or WITH, on a table with a rule.
RULE_SQLSTATE = "0A000"


def row_for(queries: Queries, snapshot: Snapshot) -> Row:
    """Return the row that shows this snapshot, in the form that the columns take."""
    row, truncated = queries.bound.build_row(snapshot)
    if truncated:
        log.warning("value_truncated", table=queries.bound.mapping.name, columns=truncated)
    return row


def raise_if_not_written(bound: BoundConnection, error: asyncpg.PostgresError) -> None:
    """Raise `ChangeRejected` if a trigger or a rule of the app prevented the row, or kept it.

    PostgreSQL does not name the rule, but refuses the statement because of it.
    """
    mapping, table = bound.queries.bound.mapping, bound.queries.bound.table
    rules = find_refusing_rules(mapping, table) if error.sqlstate == RULE_SQLSTATE else []
    if rules or error.sqlstate == NOT_WRITTEN_SQLSTATE:
        rejection = ChangeRejected(ROW_NOT_WRITTEN, sqlstate=NOT_WRITTEN_SQLSTATE, table=table.name)
        rejection.constraint = next(iter(rules), None)
        raise rejection from error


async def find_rejected_column(bound: BoundConnection, snapshot: Snapshot) -> str | None:
    """Return a column whose type, or whose default, rejects its value in the row of this snapshot, or None."""
    row = msgspec.json.encode(row_for(bound.queries, snapshot)).decode()
    types = bound.queries.bound.column_types
    columns = [name for name, column in types.items() if column.type not in {"text", "json", "jsonb"}]
    while columns:
        # Bisection: four round trips for thirteen columns.
        half = columns[: (len(columns) + 1) // 2]
        try:
            await bound.connection.fetchval(bound.queries.read_columns(half), row)
        except (asyncpg.DataError, asyncpg.CheckViolationError):
            if len(half) == 1:
                return half[0]
            columns = half
        else:
            columns = columns[len(half) :]
    defaults = list_session_defaults(bound.queries.bound.mapping, bound.queries.bound.table)
    return defaults[0].name if defaults else None
