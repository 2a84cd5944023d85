"""A row of the inbox → the event again (pure)."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sync_service.clerk.change import Change, Deletion
from sync_service.clerk.entities import ENTITY_BY_TYPE, SESSION, USER, Entity
from sync_service.clerk.events import Event
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.objects import name_unreadable, parse_change
from sync_service.clerk.resource import UNREADABLE_JSON


class _WithKind(Struct, frozen=True):
    object: Any = None


def event_from_row(row: Mapping[str, Any]) -> Event:
    """Return the event of an inbox row (`id`, `type`, `instance_id`, `clerk_id`, `user_id`, `payload`).

    The payload is parsed again, so an event that an older release could not read may have no `error` now.
    """
    payload, error = row["payload"], None
    change: Change | None = None
    entity = _find_stored_entity(row)
    if entity and row["type"] == entity.deletion and row["clerk_id"]:
        change = Deletion(row["clerk_id"])
    elif entity:
        try:
            change = parse_change(row["type"], (payload or "").encode(), entity)
        except UNREADABLE_JSON:
            error = name_unreadable(entity)
    message = row["id"], row["type"], row["instance_id"], row["clerk_id"]
    return Event(*message, change, error, payload, (), entity.name if entity else USER.name, row["user_id"])


def _find_stored_entity(row: Mapping[str, Any]) -> Entity | None:
    """Return the entity of an inbox row. Without a table for sessions, the payload of a session is its user."""
    entity = ENTITY_BY_TYPE.get(row["type"])
    if entity is not SESSION or row["type"] == SESSION.deletion:
        return entity
    if row["payload"] is None:
        return SESSION if row["user_id"] else None
    try:
        stored = parse_tolerantly(_kind_decoder.decode, row["payload"].encode())[0]
    except UNREADABLE_JSON:
        return USER
    return SESSION if stored.object == SESSION.name else USER


_kind_decoder = msgspec.json.Decoder(_WithKind)
