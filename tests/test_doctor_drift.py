"""`doctor` on a table that a restore has changed, and on the last reconcile."""

import asyncpg

from tests.findings import run_doctor
from tests.world import World, make_event


async def test_rows_that_a_restore_has_lost_are_reported_with_the_command(
    world: World, db: asyncpg.Connection, database: str
) -> None:
    """A deleted user has no row, and that is right."""
    for n in range(3):
        await world.deliver_ok(make_event("user.created", f"user_{n}"))
    await world.deliver_ok(make_event("user.deleted", "user_0"))
    found = await run_doctor(database)
    assert not found.all("missing_rows")
    assert not found.all("last_reconcile")
    await db.execute("truncate users")
    await db.execute(
        "insert into clerk_sync.reconciles (mode, finished_at, missing, failed) values ('full', now(), 7, 1)"
    )
    found = await run_doctor(database)
    finding = found.one("missing_rows")
    assert (finding.kind, finding.data) == ("warning", {"rows": 2})
    assert finding.run[-1] == "sync-service reconcile --from-inbox"
    last = found.one("last_reconcile")
    assert last.kind == "warning"
    assert (last.data["missing"], last.data["failed"]) == (7, 1)
    for clerk_id in ("user_1", "user_2"):
        await world.deliver_ok(make_event("user.created", clerk_id))
