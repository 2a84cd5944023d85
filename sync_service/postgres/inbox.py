"""The statements that apply and file events: each once, each for many rows."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files

import asyncpg
import msgspec

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion, Snapshot
from sync_service.errors import DatabaseFault
from sync_service.mapping import Row, TableMapping

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

# The first pause before another attempt; each one after it is three times as long, up to an hour.
FIRST_PAUSE = timedelta(seconds=5)


class Statements:
    """The SQL of one mapping."""

    def __init__(self, mapping: TableMapping) -> None:
        """Write the mapping's names into the templates."""
        self.mapping = mapping
        columns = [quoted(mapping.clerk_id), *map(quoted, mapping.columns)]
        self._names = {
            "table": f"{quoted(mapping.schema)}.{quoted(mapping.table)}",
            "clerk_id": quoted(mapping.clerk_id),
            "key": quoted(mapping.key or mapping.clerk_id),
            "email": quoted(mapping.email or ""),
            "columns": ", ".join(columns),
            "values": ", ".join(f"r.{column}" for column in columns),
            "updates": ", ".join(f"{column} = excluded.{column}" for column in columns[1:]),
        }
        self.apply = self.of("changes.sql")
        self.delete = self.of("deletion.sql")
        self.park = self.of("park.sql")
        self.row = self.of("row.sql")
        self.look = self.of("look.sql")
        self.resolve = self.of("resolve.sql")
        self.save_again = self.of("save_again.sql")
        self.holder = self.of("address_holder.sql")
        self.release = self.of("address_release.sql")
        self.give_back = self.of("address_give_back.sql")

    def of(self, name: str) -> str:
        """Return a file of this package with the mapping's names in it."""
        return files(__package__).joinpath(name).read_text(encoding="utf-8").format(**self._names)


async def apply_changes(
    connection: Connection,
    statements: Statements,
    events: Sequence[Event],
    *,
    source: str,
    patience_ms: int,
    row: Row | None = None,
) -> list[asyncpg.Record]:
    """Join, save and file; return `status` and `same_instant` of each, in their order. One statement.

    `row` stands in for the mapped row where there is one event. Rows of deleted users go by `delete_rows`.
    """
    columns = zip(*(_values(statements.mapping, event, row) for event in events), strict=True)
    return await connection.fetch(statements.apply, *map(list, columns), source, str(patience_ms))


async def delete_rows(
    connection: Connection, statements: Statements, clerk_ids: Sequence[str], *, seconds: float
) -> None:
    """Delete the rows, the app's foreign keys cascading, and forget what the inbox holds of these people."""
    await connection.execute(statements.delete, sorted(clerk_ids), timeout=seconds)


async def park(
    connection: Connection,
    statements: Statements,
    event: Event,
    fault: DatabaseFault,
    *,
    source: str,
    max_attempts: int,
    pause: timedelta = FIRST_PAUSE,
) -> str | None:
    """File an event that cannot be applied; return `failed` or `dead`, or None if it succeeded meanwhile."""
    kind = "deletion" if isinstance(event.change, Deletion) else "other"
    status: str | None = await connection.fetchval(
        statements.park,
        event.id,
        event.type,
        event.instance_id,
        event.clerk_id,
        kind,
        event.payload,
        fault.reason,
        fault.table,
        fault.column,
        source,
        max_attempts,
        pause,
        fault.constraint,
    )
    return status


async def want_refetch(connection: Connection, clerk_ids: Sequence[str]) -> None:
    """Note that two contents of one instant were told of these users."""
    await connection.execute(
        "update clerk_sync.identities set refetch_wanted = true where clerk_id = any($1) and deleted_at is null",
        sorted(clerk_ids),
    )


async def pin_instance(pool: asyncpg.Pool, instance_id: str) -> str:
    """Return the Clerk instance whose events are taken: the one pinned, else from now on this one."""
    async with pool.acquire() as connection:
        pinned = await connection.fetchval(
            "insert into clerk_sync.instance (id) values ($1) on conflict (only_one) do nothing returning id",
            instance_id,
        )
        return str(pinned or await connection.fetchval("select id from clerk_sync.instance"))


def quoted(identifier: str) -> str:
    """Quote a name of the mapping: the only way by which one gets into SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _values(mapping: TableMapping, event: Event, row: Row | None) -> tuple[object, ...]:
    """Return `event` in the order of changes.sql's parameters."""
    kind, version, tie, user_row, payload = "none", None, None, None, None
    match event.change:
        case Snapshot(user=user, version=of):
            kind, version, tie, payload = "snapshot", of.updated_at, of.tie, event.payload
            user_row = msgspec.json.encode(mapping.row(user) if row is None else row).decode()
        case Deletion():
            kind = "deletion"
    return event.id, event.type, event.instance_id, event.clerk_id, kind, version, tie, payload, user_row
