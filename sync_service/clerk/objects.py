"""The JSON of an object in an event → the change that the event makes, the JSON to store, the IDs in it (pure)."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from sync_service.clerk.change import Change, Deletion, Snapshot, Version
from sync_service.clerk.entities import SESSION, USER, Entity
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId, Resource, Session
from sync_service.clerk.user import REDACTED_FIELDS, User

# The client's address and user agent, which stand beside the object in the event.
REQUEST_FIELD = "event_attributes"

_RESOURCES: Mapping[str, type[Resource]] = {USER.name: User, SESSION.name: Session}


class _WithId(Struct, frozen=True):
    id: ClerkId


def parse_change(event_type: str, data: bytes, entity: Entity = USER) -> Change:
    """Return the change that an event of a handled type makes; `data` is the JSON of its object.

    Raises one of `UNREADABLE_JSON` if the object cannot be read.
    """

    def parse(content: bytes) -> Change:
        return build_change(event_type, entity, _fields_decoder.decode(content))

    return parse_tolerantly(parse, data)[0]


def build_change(event_type: str, entity: Entity, fields: Mapping[str, Any]) -> Change:
    """Return the change that an event of a handled type makes. Raises one of `UNREADABLE_JSON`."""
    if event_type == entity.deletion:
        return Deletion(msgspec.convert(fields, _WithId).id)
    return _build_snapshot(entity, fields)


def _build_snapshot(entity: Entity, fields: Mapping[str, Any]) -> Snapshot:
    resource = msgspec.convert(fields, _RESOURCES.get(entity.name, Resource))
    if entity is SESSION:
        fields = {name: value for name, value in fields.items() if name != "user"}
    return Snapshot(resource, Version.from_webhook(resource), fields)


def redact(entity: Entity, fields: dict[str, Any], redacted: Iterable[str]) -> dict[str, Any]:
    """Return the fields to store. The user of a session has a row, or an event, of its own."""
    kept = dict(fields)
    for name in redacted:
        kept.pop(name, None)
    if entity is SESSION:
        # A stored session is told from the stored user of a session by this field.
        kept["object"] = SESSION.name
        kept.pop("user", None)
    if entity.parents:
        for parent in {parent.path[0] for parent in entity.parents}:
            if isinstance(inner := kept.get(parent), dict):
                kept[parent] = {name: value for name, value in inner.items() if name not in REDACTED_FIELDS}
    return kept


def find_parent_id(data: Mapping[str, Any], path: Iterable[str]) -> str | None:
    """Return the ID of a parent in the JSON of its child, or None."""
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    try:
        return msgspec.convert(value, ClerkId)
    except msgspec.ValidationError:
        return None


def find_user_id(entity: Entity, fields: Mapping[str, Any]) -> str | None:
    """Return the ID of the user to whom the object belongs, or None."""
    paths = (parent.path for parent in entity.parents if parent.entity == USER.name)
    return next((find_parent_id(fields, path) for path in paths), None)


def get_user(data: Any) -> dict[str, Any] | None:
    """Return the JSON of the user in that of a session, or None."""
    user = data.get("user") if isinstance(data, dict) else None
    return user if isinstance(user, dict) and read_id(user) else None


def read_carried_user(fields: Mapping[str, Any]) -> Snapshot | None:
    """Return the user in the JSON of a session, or None."""
    user = get_user(fields)
    try:
        return _build_snapshot(USER, user) if user else None
    except UNREADABLE_JSON:
        return None


def name_unreadable(entity: Entity) -> str:
    """Return the reason of an event whose object cannot be read."""
    return f"unreadable_{entity.name}"


def read_id(fields: Mapping[str, Any]) -> str | None:
    """Return the ID of the object, or None if it has none that can be read."""
    try:
        return msgspec.convert(fields, _WithId).id
    except UNREADABLE_JSON:
        return None


_fields_decoder = msgspec.json.Decoder(dict[str, Any])
