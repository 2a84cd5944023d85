"""The lock that a connection waits for, and the session that holds it."""

from dataclasses import dataclass

from sync_service.postgres.pool import Connection


@dataclass(frozen=True, slots=True)
class LockWait:
    """The name of a locked table, None for another object, and the session that holds the lock."""

    table: str | None
    is_advisory: bool
    holder_pid: int
    holder_state: str | None
    holder_application: str


async def read_lock_wait(connection: Connection, pid: int) -> LockWait | None:
    """Return the lock that the server process `pid` waits for, or None. Raises the errors of asyncpg."""
    row = await connection.fetchrow(_WAIT, pid)
    return LockWait(*row) if row else None


# The server process that holds the lock may be another user's; PostgreSQL then shows neither state nor application.
_WAIT = """
select waiting.relation::regclass::text, waiting.locktype = 'advisory', blocker.pid, session.state,
    coalesce(session.application_name, '')
from pg_locks as waiting
cross join lateral unnest(pg_blocking_pids(waiting.pid)) as blocker (pid)
left join pg_stat_activity as session on session.pid = blocker.pid
where waiting.pid = $1 and not waiting.granted
limit 1
"""
