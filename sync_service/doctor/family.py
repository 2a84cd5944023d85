"""Checks of the tables of sessions, organizations and memberships beside those of every mapped table (pure)."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from msgspec import Struct

from sync_service.clerk.entities import SESSION
from sync_service.doctor.counts import Counter
from sync_service.doctor.findings import Finding, format_number_of
from sync_service.doctor.inbox import format_duration
from sync_service.doctor.index_fixes import create_index
from sync_service.mapping.binding import find_key
from sync_service.mapping.child_queries import find_parent_column
from sync_service.mapping.computed_values import PARENT_KEYS
from sync_service.mapping.introspection import Table
from sync_service.mapping.obstacles import MAX_UNINDEXED_BYTES
from sync_service.mapping.table import TableMapping
from sync_service.sync.outcome import WAITING_FOR

_INTEGERS = frozenset({"int2", "int4", "int8"})
_TEXTS = frozenset({"text", "varchar", "bpchar"})


class FamilyCounts(Struct, frozen=True):
    """The events of one entity: whether one has arrived, and those that wait for a parent for more than an hour.

    `oldest_seconds` is the age of the oldest one that waits. `reasons` name the kinds of the missing parents.
    """

    has_events: bool = True
    waiting: int = 0
    oldest_seconds: float = 0
    reasons: tuple[str, ...] = ()


async def count_family(counter: Counter, mapping: TableMapping) -> FamilyCounts:
    """Return the counts. Raises errors of asyncpg, also without the schema clerk_sync."""
    types = [*mapping.kind.snapshots, mapping.kind.deletion]
    return msgspec.convert(await counter.fetch_row(_COUNTS_SQL, types), FamilyCounts)


def check_family(
    mapping: TableMapping, table: Table, parents: Mapping[str, tuple[TableMapping, Table]], counts: FamilyCounts
) -> Iterator[Finding]:
    """Yield the problems between a table and those of its parents, and those of its events."""
    yield from _check_parent_columns(mapping, table, parents)
    yield from _check_key_types(mapping, table, parents)
    yield from _check_retention(mapping)
    yield from _check_events(mapping, counts)


def _check_parent_columns(
    mapping: TableMapping, table: Table, parents: Mapping[str, tuple[TableMapping, Table]]
) -> Iterator[Finding]:
    for parent in mapping.kind.parents:
        if parent.entity not in parents:
            continue
        found = find_parent_column(mapping, parent)
        if found is None:
            sources = f"{PARENT_KEYS[parent.entity]} or {'.'.join(parent.path)}"
            yield Finding(
                code="no_parent_column",
                kind="warning",
                what=f"{mapping.name}: no column is filled from {sources}",
                why=f"When Clerk deletes the {parent.entity}, only the foreign keys of your app delete these rows.",
                do=(f"map a column to {sources} under [{mapping.kind.section}.columns] in sync.toml",),
                data={"table": mapping.name, "parent": parent.entity},
            )
        elif table.bytes > MAX_UNINDEXED_BYTES and not _has_index(table, found[0]):
            yield Finding(
                code="parent_column_without_index",
                kind="warning",
                what=f"{mapping.name}.{found[0]}: has no index",
                why=f"The deletion of each {parent.entity} searches the whole table for its rows.",
                run=(create_index(table.schema, table.name, [found[0]]),),
                data={"table": mapping.name, "column": found[0]},
            )


def _has_index(table: Table, column: str) -> bool:
    return any(index.valid and not index.predicate and index.keys[:1] == (column,) for index in table.indexes)


def _check_key_types(
    mapping: TableMapping, table: Table, parents: Mapping[str, tuple[TableMapping, Table]]
) -> Iterator[Finding]:
    """Yield the columns whose type cannot hold the keys of the parents."""
    sources = {PARENT_KEYS[entity]: parent for entity, parent in parents.items() if entity in PARENT_KEYS}
    for name, field in mapping.columns.items():
        column = table.column(name)
        parent = sources.get(field.only_source or "")
        if column is None or parent is None:
            continue
        key = find_key(*parent)
        own = parent[1].column(key)
        if own and not _can_hold(column.base, own.base):
            yield Finding(
                code="parent_key_type",
                kind="wrong",
                what=f"{mapping.name}.{name}: is {column.type}, but {parent[0].name}.{key} is {own.type}",
                why=f"PostgreSQL refuses the key, so every {mapping.entity} is parked.",
                do=(f"give {name} the type {own.type}, or map it to Clerk's ID of the {parent[0].entity}",),
                data={"table": mapping.name, "column": name},
            )


def _can_hold(column: str, key: str) -> bool:
    groups: Sequence[frozenset[str]] = (_INTEGERS, _TEXTS)
    return column == key or column in _TEXTS or any({column, key} <= group for group in groups)


def _check_retention(mapping: TableMapping) -> Iterator[Finding]:
    sources = {field.only_source for field in mapping.columns.values()}
    if mapping.entity == SESSION.name and mapping.keep and not sources & {"ended_at", "expire_at"}:
        yield Finding(
            code="keep_without_end",
            kind="note",
            what=f"{mapping.name}: no column is filled from ended_at or expire_at",
            why="`keep` then counts from the last change of a session, also if it is still active.",
            do=("map a column to expire_at under [sessions.columns] in sync.toml",),
            data={"table": mapping.name},
        )


def _check_events(mapping: TableMapping, counts: FamilyCounts) -> Iterator[Finding]:
    section, types = mapping.kind.section, ", ".join(mapping.kind.snapshots)
    if not counts.has_events:
        yield Finding(
            code="no_events_of_section",
            kind="note",
            what=f"[{section}]: no event has arrived yet",
            why="Clerk sends only the events to which the endpoint is subscribed.",
            do=(f"in Clerk's dashboard, subscribe the endpoint to {types} and the deletion, where Clerk has one",),
            data={"section": section},
        )
    if counts.waiting:
        parents = [reason.removeprefix(WAITING_FOR) for reason in counts.reasons]
        yield Finding(
            code="events_wait_for_parent",
            kind="warning",
            what=f"{format_number_of(counts.waiting, 'event')} of [{section}] wait for more than an hour for their"
            f" {' or '.join(parents)}; the oldest one has waited for {format_duration(counts.oldest_seconds)}",
            why=f"The {' or the '.join(parents)} has no row. Its event was lost, or its own row was refused.",
            run=("sync-service reconcile", "sync-service events list --status failed"),
            data={
                "section": section,
                "events": counts.waiting,
                "parents": parents,
                "oldest_seconds": round(counts.oldest_seconds),
            },
        )


_COUNTS_SQL = """
select
    exists (select from clerk_sync.events where type = any($1)) as has_events,
    count(*) as waiting,
    coalesce(extract(epoch from now() - min(received_at))::float8, 0) as oldest_seconds,
    coalesce(array_agg(distinct reason), '{}') as reasons
from clerk_sync.events
where type = any($1) and waiting_for is not null and status = 'failed' and received_at < now() - interval '1 hour'
"""
