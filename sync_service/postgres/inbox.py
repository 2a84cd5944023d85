"""The statements over events, identities and the app's table: each once, each for many rows."""

from collections.abc import Sequence
from importlib.resources import files

import asyncpg
import msgspec

from sync_service.clerk.events import Event
from sync_service.clerk.values import Deletion, Snapshot
from sync_service.mapping import TableMapping

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class Statements:
    """The SQL of one mapping."""

    def __init__(self, mapping: TableMapping) -> None:
        """Write the mapping's names into the templates."""
        self.mapping = mapping
        table = f"{quoted(mapping.schema)}.{quoted(mapping.table)}"
        columns = [quoted(mapping.clerk_id), *map(quoted, mapping.columns)]
        names = {
            "table": table,
            "clerk_id": quoted(mapping.clerk_id),
            "columns": ", ".join(columns),
            "values": ", ".join(f"r.{column}" for column in columns),
            "updates": ", ".join(f"{column} = excluded.{column}" for column in columns[1:]),
        }
        self.apply = _sql("changes.sql").format(**names)
        self.delete = _sql("deletion.sql").format(**names)
        self.row = "select to_jsonb(app) from {table} as app where {clerk_id} = $1".format(**names)  # noqa: S608  quoted


async def apply_together(
    pool: asyncpg.Pool, statements: Statements, events: Sequence[Event], *, source: str
) -> list[str]:
    """Apply and file all of them in one transaction; return each one's status, or `duplicate`, in their order.

    Raises what asyncpg raises, and then nothing has changed.
    """
    arguments = [*_columns(statements.mapping, events), source]
    deleted = [event.clerk_id for event in events if isinstance(event.change, Deletion) and not event.fault]
    async with pool.acquire() as connection:
        if not deleted:
            # A statement is a transaction of its own; BEGIN and COMMIT would be two more round trips.
            rows = await connection.fetch(statements.apply, *arguments)
        else:
            async with connection.transaction():
                rows = await connection.fetch(statements.apply, *arguments)
                await connection.execute(statements.delete, sorted(filter(None, deleted)))
    return [row["status"] for row in rows]


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


def _columns(mapping: TableMapping, events: Sequence[Event]) -> list[list[object]]:
    return [list(column) for column in zip(*(_values(mapping, event) for event in events), strict=True)]


def _values(mapping: TableMapping, event: Event) -> tuple[object, ...]:
    """Return `event` in the order of changes.sql's parameters."""
    kind, version, tie, row = "none", None, None, None
    match event.change:
        case Snapshot(user=user, version=of):
            kind, version, tie = "snapshot", of.updated_at, of.tie
            row = msgspec.json.encode(mapping.row(user)).decode()
        case Deletion():
            kind = "deletion"
    return (
        event.id,
        event.type,
        event.instance_id,
        event.clerk_id,
        event.fault,
        kind,
        version,
        tie,
        event.payload,
        row,
    )


def _sql(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
