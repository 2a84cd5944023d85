"""The work that one event costs PostgreSQL by kind: WAL records and bytes, disk bytes, CPU of both sides (fsync on).

The events go through the applier without HTTP, in batches of the size that a busy service reaches. The pages that they
change were changed before since the last checkpoint, so few full pages are in the log.
"""

import asyncio
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from sync_service.clerk.events import SESSION_CREATED, Event, parse_event
from sync_service.dev.embedded import EmbeddedServer, run_embedded_postgres
from sync_service.dsn import parse_dsn
from sync_service.mapping.creation import create_table
from sync_service.mapping.presets import DEFAULT
from sync_service.mapping.table import TableMapping
from sync_service.postgres.migrate import migrate
from sync_service.postgres.pool import open_database
from sync_service.store.access import Store
from sync_service.sync.apply import Applier
from tests.benchmarks.bodies import make_body, make_id
from tests.benchmarks.usage import measure_cpu_seconds

USERS = int(os.environ.get("BENCH_USERS", "10000"))
EVENTS = int(os.environ.get("BENCH_EVENTS", "10000"))
BATCH = 16

# Of these columns a sign-in changes none.
_TIMES = {"updated_at", "last_sign_in_at"}
UNCHANGED = replace(DEFAULT, columns={name: one for name, one in DEFAULT.columns.items() if name not in _TIMES})

TABLES = ("clerk_sync.events", "clerk_sync.identities", "public.users")


@dataclass(frozen=True)
class Kind:
    """One kind of event, and the mapping that applies it."""

    name: str
    type: str
    mapping: TableMapping = DEFAULT
    is_new: bool = False


KINDS = (
    Kind("user.created", "user.created", is_new=True),
    Kind("user.updated, a column changes", "user.updated"),
    Kind("user.updated, no column changes", "user.updated", UNCHANGED),
    Kind("session.created, a column changes", "session.created"),
)


def measure() -> None:
    """Print a line for each kind, and the bytes of each index of the inbox for an event."""
    with tempfile.TemporaryDirectory() as name, run_embedded_postgres(Path(name) / "postgres") as server:
        asyncio.run(_measure_all(server))


async def _measure_all(server: EmbeddedServer) -> None:
    connection = await asyncpg.connect(server.dsn())
    await migrate(connection)
    await create_table(connection, DEFAULT)
    users = [make_id("user_", next(_times)) for _ in range(USERS)]
    await _apply(server, DEFAULT, [_make_event("user.created", user) for user in users])
    print(f"  {USERS:,} users, {EVENTS:,} events of each kind in batches of {BATCH}; all figures are for one event")
    print(f"  {'':34} {'WAL':>7} {'':>7} {'full':>5} {'inbox':>6} {'identi-':>7} {'users':>6} {'CPU':>7} {'CPU PG':>7}")
    print(f"  {'':34} {'records':>7} {'bytes':>7} {'pages':>5} {'bytes':>6} {'ties':>7} {'':6} {'µs':>7} {'µs':>7}")
    for kind in KINDS:
        await connection.execute("vacuum analyze")
        await connection.execute("checkpoint")
        await _apply(server, kind.mapping, _make_events(kind, users))
        before = await _read_usage(connection, server)
        took = await _apply(server, kind.mapping, _make_events(kind, users))
        after = await _read_usage(connection, server)
        used = [(b - a) / EVENTS for a, b in zip(before, after, strict=True)]
        print(f"  {kind.name:34} {used[0]:7.1f} {used[1]:7,.0f} {used[2]:5.2f} {used[3]:6,.0f} {used[4]:7,.0f}", end="")
        print(f" {used[5]:6,.0f} {took / EVENTS * 1e6:7.1f} {used[6] * 1e6:7.1f}")
    await _print_inbox(connection)
    await connection.close()


def _make_events(kind: Kind, users: Sequence[str]) -> list[Event]:
    changed = random.sample(users, k=EVENTS)
    return [_make_event(kind.type, make_id("user_", next(_times)) if kind.is_new else user) for user in changed]


def _make_event(event_type: str, user: str) -> Event:
    is_session = event_type == SESSION_CREATED
    body = make_body("user.updated" if is_session else event_type, user, next(_times))
    if is_session:
        found = json.loads(body)
        data = {
            "object": "session",
            "id": f"sess_{user[5:]}",
            "status": "active",
            "user_id": user,
            "user": found["data"],
        }
        body = json.dumps(found | {"type": event_type, "data": data}).encode()
    return parse_event(make_id("msg_", next(_times)), body)


async def _apply(server: EmbeddedServer, mapping: TableMapping, events: Sequence[Event]) -> float:
    """Apply the events, and return the CPU seconds of this process."""
    database = await open_database(parse_dsn(server.dsn()))
    applier = Applier(Store(database, mapping))
    began = time.process_time()
    for first in range(0, len(events), BATCH):
        outcomes = await applier.apply_batch(events[first : first + BATCH])
        assert {outcome and outcome.outcome for outcome in outcomes} == {"applied"}, outcomes
    took = time.process_time() - began
    await database.aclose()  # the backends report their statistics when they end
    return took


async def _read_usage(connection: asyncpg.Connection, server: EmbeddedServer) -> list[float]:
    await asyncio.sleep(0.5)
    record = await connection.fetchrow("select wal_records, wal_bytes, wal_fpi from pg_stat_wal")
    sizes = [await connection.fetchval("select pg_total_relation_size($1::regclass)", name) for name in TABLES]
    return [*map(float, record or ()), *sizes, measure_cpu_seconds(server.pid)]


async def _print_inbox(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(_INBOX)
    parts = ", ".join(f"{row['name']} {row['bytes']:,.0f}" for row in rows)
    print(f"  bytes of the inbox for an event: {parts}")


# Each change is newer than the one before.
_times = itertools.count(time.time_ns() // 1_000_000)

_INBOX = """
with counted as (select count(*) as events from clerk_sync.events)
select relname as name, pg_relation_size(oid)::float8 / events as bytes
from pg_class, counted
where oid = 'clerk_sync.events'::regclass
    or oid in (select indexrelid from pg_index where indrelid = 'clerk_sync.events'::regclass)
order by 2 desc
"""
