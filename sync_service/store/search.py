"""Events, users and other objects by a text that an operator knows: an ID or an email."""

from typing import Literal

from sync_service.mapping.queries import LookupQueries
from sync_service.postgres.pool import Connection
from sync_service.store.event_filter import Filter
from sync_service.store.events import get_event, list_events
from sync_service.store.user_history import find_users_by_email, get_user_history

Kind = Literal["events", "users", "objects"]


async def find_by_text(connection: Connection, lookups: LookupQueries, text: str) -> list[tuple[Kind, str]]:
    """Return the kind and the ID of each event, user or other object. Raises the errors of asyncpg."""
    if "@" in text:
        return [("users", clerk_id) for clerk_id in await find_users_by_email(connection, lookups, text)]
    if await get_event(connection, text):
        return [("events", text)]
    if (await get_user_history(connection, lookups, text)).is_known:
        return [("users", text)]
    return [("objects", text)] if await list_events(connection, Filter(clerk_id=text), 1) else []
