"""Kills of the service, of PostgreSQL and of the app's endpoint while changes are posted: no change is lost."""

import asyncio
import contextlib
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from tests.faults.conftest import RunUnderFault
from tests.faults.fault_run import KILLS, FaultRun
from tests.faults.receiver import ReceiverProcess
from tests.faults.test_kills import in_parts
from tests.feed.test_notifications import make_due

# Two processes share the queue in `make faults`.
SERVICES = 1 + (KILLS > 2)

# The committed changes of the table, as PostgreSQL itself sees them.
WATCH = """
create table seen (number bigint generated always as identity, clerk_id text);
create function see() returns trigger language plpgsql as
$$ begin
    if new is distinct from old then insert into seen (clerk_id) values (coalesce(new.id, old.id)); end if;
    return null;
end $$;
create trigger see after insert or update or delete on users for each row execute function see();
"""


@in_parts
async def test_each_committed_change_is_posted_in_order_in_spite_of_kills(
    run_under_fault: RunUnderFault, tmp_path: Path, kills: int
) -> None:
    """Each change of the table is accepted at least once with its ID, and no other change; each user's are in order."""
    async with (
        run_under_fault("notifications: kill -9", ends_services=True, start=False, services=SERVICES) as run,
        run_receiver(tmp_path) as receiver,
    ):
        async with run.engine.connect(run.database) as db:
            await db.execute(WATCH)
        for service in run.services:
            service.environ |= receiver.environ
            service.start()
        for service in run.services:
            await service.wait_until_ready()
        run.start_load()
        for turn in range(kills + 1):
            await run.wait(0.3, 0.8)
            await kill_one(run, receiver, turn)
            run.count_injected()
        await run.finish_load()
        await run.check_data()
        async with run.engine.connect(run.database) as db:
            await drain(db)
            await check_deliveries(db, receiver)


async def kill_one(run: FaultRun, receiver: ReceiverProcess, turn: int) -> None:
    """Kill the service, the endpoint or PostgreSQL in turn, and start it again after a moment."""
    match turn % 3:
        case 0:
            service = run.rng.choice(run.services)
            await service.stop(signal.SIGKILL)
            await run.wait(0, 0.3)
            service.start()
            await service.wait_until_ready()
        case 1:
            receiver.kill()
            await run.wait(0, 0.5)
            receiver.start()
        case _:
            await asyncio.to_thread(run.engine.kill)
            await run.wait(0, 0.5)
            await asyncio.to_thread(run.engine.start)


async def drain(db: asyncpg.Connection) -> None:
    """Wait until all changes are delivered. The time of pauses and leases passes at once."""
    while await db.fetchval("select exists (select from clerk_sync.changes where delivery <> 'delivered')"):
        await make_due(db)
        await asyncio.sleep(0.3)


async def check_deliveries(db: asyncpg.Connection, receiver: ReceiverProcess) -> None:
    """Compare the accepted changes with the recorded ones, and these with the changes of the table."""
    expected: defaultdict[str, list[str]] = defaultdict(list)
    for row in await db.fetch(
        "select clerk_id, transaction_id::text || '-' || id as id from clerk_sync.changes order by changes.id"
    ):
        expected[row["clerk_id"]].append(f"chg_{row['id']}")
    changed = Counter(row["clerk_id"] for row in await db.fetch("select clerk_id from seen"))
    assert {user: len(ids) for user, ids in expected.items()} == changed
    found: defaultdict[str, list[str]] = defaultdict(list)
    for message in receiver.read():
        if message["id"] not in found[message["clerk_id"]]:
            found[message["clerk_id"]].append(message["id"])
    assert found == expected
    assert len(receiver.read()) > len(changed)


@contextlib.asynccontextmanager
async def run_receiver(folder: Path) -> AsyncIterator[ReceiverProcess]:
    receiver = ReceiverProcess(folder)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.kill()
