"""What is known of one user, for a person to read."""

from typing import Any

import msgspec

from sync_service.postgres.pool import Connection
from sync_service.postgres.statements import Statements

_IDENTITY = """
select version, deleted_at, kept_at, created_by, first_seen_at, changed_at
from clerk_sync.identities where clerk_id = $1
"""

_HISTORY = """
select id, type, status, reason, attempts, received_at, next_attempt_at, finished_at
from clerk_sync.events where clerk_id = $1 order by received_at desc, id limit 50
"""


async def user_history(connection: Connection, statements: Statements, clerk_id: str) -> dict[str, Any]:
    """Return `{"clerk_id", "row", "identity", "events"}`: the app's row, the version or tombstone, 50 events.

    The newest come first. `row` and `identity` are None where there is none. Raises what asyncpg raises.
    """
    row = await connection.fetchval(statements.row, clerk_id)
    identity = await connection.fetchrow(_IDENTITY, clerk_id)
    return {
        "clerk_id": clerk_id,
        "row": msgspec.json.decode(row) if row else None,
        "identity": dict(identity) if identity else None,
        "events": [dict(event) for event in await connection.fetch(_HISTORY, clerk_id)],
    }
