"""Users and events that are stored before a measurement, in the tables of the service and of the usual handlers."""

import asyncio
import json
import random
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import asyncpg

from tests.benchmarks.bodies import make_body, make_id
from tests.benchmarks.references import HANDLERS

BATCH = 50_000
YEAR_MS = 365 * 24 * 3_600_000
# Shorter than the retention of payloads.
EVENT_AGE_MS = 24 * 3_600_000

_T = TypeVar("_T")


def make_users(number: int) -> list[str]:
    """Return IDs of users who signed up within the last year, in the order of time."""
    first, step = time.time_ns() // 1_000_000 - YEAR_MS, YEAR_MS / number
    return [make_id("user_", first + int(n * step)) for n in range(number)]


def store(dsn: str, users: Sequence[str], events: int) -> None:
    """Store the users, and events that updated random ones of them."""
    asyncio.run(_store(dsn, users, events))


async def _store(dsn: str, users: Sequence[str], events: int) -> None:
    connection = await asyncpg.connect(dsn)
    tables = ["public.users", *(f"{name}_users" for name in HANDLERS)]
    # Emails are in random order, so their index is much faster to build at the end.
    for table in tables:
        await connection.execute(f"alter table {table} drop constraint {table.removeprefix('public.')}_email_key")
    for batch in _split(users):
        await connection.execute(_INSERT_USERS, batch)
    template = json.loads(make_body("user.updated", users[0], time.time_ns() // 1_000_000))
    first, step = time.time_ns() // 1_000_000 - EVENT_AGE_MS, EVENT_AGE_MS / max(events, 1)
    for numbers in _split(range(events)):
        ids = [make_id("msg_", first + int(n * step)) for n in numbers]
        times = [(first + n * step) / 1000 for n in numbers]
        columns = ids, random.choices(users, k=len(ids)), times
        await connection.execute(_INSERT_EVENTS, *columns, json.dumps(template["data"]))
        for name in HANDLERS:
            await connection.execute(_INSERT_USUAL_EVENTS.format(name=name), *columns, json.dumps(template))
    for table in tables[1:]:
        await connection.execute(f"insert into {table} select * from public.users")
    await connection.execute("set maintenance_work_mem = '1GB'")
    for table in tables:
        await connection.execute(f"alter table {table} add unique (email)")
    await connection.execute("vacuum analyze")
    await connection.execute("checkpoint")
    await connection.close()


def _split(items: Sequence[_T]) -> Iterator[list[_T]]:
    for first in range(0, len(items), BATCH):
        yield list(items[first : first + BATCH])


# The values are those of the sample events, so that an update changes only times.
_INSERT_USERS = """
with saved as (
    insert into public.users (id, email, email_verified, first_name, last_name, image_url, banned, locked,
        public_metadata, created_at, updated_at)
    select id, reverse(substr(id, 6)) || '@example.com', true, 'Ada', 'Example',
        'https://img.example.com/' || substr(id, 6), false, false, '{}', now(), now()
    from unnest($1::text[]) as id
)
insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by, confirmed_at)
select id, 1, decode(md5(id), 'hex'), 'webhook', now() from unnest($1::text[]) as id
"""

_INSERT_EVENTS = """
insert into clerk_sync.events (id, type, clerk_id, status, attempts, payload, received_at, finished_at)
select id, 'user.updated', clerk_id, 'applied', 1, $4::jsonb || jsonb_build_object('id', clerk_id),
    to_timestamp(at), to_timestamp(at)
from unnest($1::text[], $2::text[], $3::float8[]) as event (id, clerk_id, at)
"""

_INSERT_USUAL_EVENTS = """
insert into {name}_events (id, type, payload, received_at)
select id, 'user.updated', jsonb_set($4::jsonb, '{{data,id}}', to_jsonb(clerk_id)), to_timestamp(at)
from unnest($1::text[], $2::text[], $3::float8[]) as event (id, clerk_id, at)
"""
