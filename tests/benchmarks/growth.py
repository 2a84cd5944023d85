"""The rate of updates with 10 thousand and 1 million users in the tables; BENCH_MAX_USERS adds a size, such as 5000000.

The service and the usual handler have as many users each, and update random ones from 64 clients, in turns (fsync on).
"""

import asyncio
import os
import random
import statistics
from typing import Any

import asyncpg

from tests.benchmarks.load import BUSY_CLIENTS, ROUNDS, WARM_UP_SECONDS, run_round
from tests.benchmarks.report import write_report
from tests.benchmarks.sender import Sender
from tests.benchmarks.targets import Targets, run_targets

SIZES = sorted({10_000, 1_000_000, int(os.environ.get("BENCH_MAX_USERS", "0"))} - {0})

MIN_OF_SMALLEST = 0.9

# Users that a round updates. Each of them is in a random place of the tables and of their indexes.
SAMPLE = 200_000


def measure() -> None:
    """Print a line for each size and target, with the ratio to the smallest size."""
    rows: list[dict[str, Any]] = []
    with run_targets() as found:
        senders = [Sender(found.usual), Sender(found.service)]
        users: list[str] = []
        print(f"  {'users':>9}  {'':21} {'1/s':>7} {'of (b)':>7} {'of 10 k':>7} {'WAL':>7} {'disk':>7}")
        for size in SIZES:
            users += [f"user_{os.urandom(14).hex()[:27]}" for _ in range(size - len(users))]
            asyncio.run(insert_users(found, users))
            for sender in senders:
                sender.users, sender.creates = random.sample(users, min(size, SAMPLE)), False
                sender.run_round(BUSY_CLIENTS, WARM_UP_SECONDS, found.postgres.pid)
            taken = [[run_round(sender, BUSY_CLIENTS, found) for sender in senders] for _ in range(ROUNDS)]
            rates = [statistics.median(pair[n].rate for pair in taken) for n in (0, 1)]
            ratio = statistics.median(service.rate / usual.rate for usual, service in taken)
            for n, sender in enumerate(senders):
                mine = [pair[n] for pair in taken]
                answered = sum(len(one.report.milliseconds) for one in mine)
                name = sender.target.name
                first = next((row["rate"] for row in rows if row["target"] == name), rates[n])
                row = {"users": size, "target": name, "rate": rates[n], "of_usual": ratio if n else 1.0}
                row |= {"of_smallest": rates[n] / first, "wal": sum(one.wal_bytes for one in mine) / answered}
                row |= {"disk": sum(one.disk_bytes for one in mine) / answered}
                rows.append(row)
                print(_LINE.format(**row))
    print(f"  target: at least {MIN_OF_SMALLEST} of the rate with {SIZES[0]:,} users, and 3 times (b)")
    names = [sender.target.name for sender in senders]
    lines = {name: [(row["users"], row["rate"]) for row in rows if row["target"] == name] for name in names}
    write_report("growth", rows, f"Updates per second by users, {BUSY_CLIENTS} clients", lines)


async def insert_users(found: Targets, users: list[str]) -> None:
    """Insert the users that are missing, as the webhooks of some time ago would have."""
    connection = await asyncpg.connect(found.postgres.dsn())
    for first in range(0, len(users), 50_000):
        await connection.execute(_INSERT_USERS, users[first : first + 50_000])
    await connection.execute(_INSERT_USUAL)
    await connection.execute("vacuum analyze")
    await connection.close()


_LINE = "  {users:9,}  {target:21} {rate:7,.0f} {of_usual:7.2f} {of_smallest:7.2f} {wal:7,.0f} {disk:7,.0f}"

_INSERT_USERS = """
with saved as (
    insert into public.users (id, email, email_verified, first_name, last_name, image_url, banned, locked,
        public_metadata, created_at, updated_at)
    select id, id || '@example.com', true, 'Ada', 'Example', 'https://img.example.com/' || id, false, false,
        '{}', now(), now()
    from unnest($1::text[]) as id
    on conflict do nothing
)
insert into clerk_sync.identities (clerk_id, version, tiebreak, created_by, confirmed_at)
select id, 1, '', 'webhook', now() from unnest($1::text[]) as id
on conflict do nothing
"""

_INSERT_USUAL = "insert into usual_users select * from public.users on conflict do nothing"
