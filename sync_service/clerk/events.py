"""Parse the body of a webhook into an event (pure).

https://clerk.com/docs/guides/development/webhooks/overview ; the formats are from Clerk's OpenAPI file for webhooks.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from sync_service.clerk.change import Change, Deletion, Snapshot, Version
from sync_service.clerk.entities import ENTITIES, ENTITY_BY_TYPE, SESSION, USER, Entity
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId, Resource, Session
from sync_service.clerk.user import REDACTED_FIELDS, User
from sync_service.errors import BadPayload

# A session contains its whole user as `data.user`, so each sign-in brings the row of the user up to date. In older
# events the user is null or absent. Without a table for sessions, only this type is applied, and only its user.
SESSION_CREATED = "session.created"

# The types whose stored payload is a user.
USER_SNAPSHOT_TYPES = (*USER.snapshots, SESSION_CREATED)
UNREADABLE_USER = "unreadable_user"

# The types that an operator can replay.
HANDLED_TYPES = tuple(ENTITY_BY_TYPE)

# Clerk's dashboard sends its example events from this instance, correctly signed, perhaps before any real event. The
# service must not pin it as its own instance.
EXAMPLE_INSTANCE = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"

# The client's address and user agent, which stand beside the object in the event.
REQUEST_FIELD = "event_attributes"

# The entities that have a table, each with the fields that are not stored.
Redactions: TypeAlias = Mapping[str, Iterable[str]]
ONLY_USERS: Redactions = {USER.name: REDACTED_FIELDS}

_RESOURCES: Mapping[str, type[Resource]] = {USER.name: User, SESSION.name: Session}

_EventType: TypeAlias = Annotated[str, Meta(pattern=r"^[\w.:-]{1,128}$")]


class _Envelope(Struct, frozen=True):
    # `timestamp` is not read: it is seconds in some of Clerk's documents, milliseconds in others, absent in old events.
    type: str
    data: Any = None
    instance_id: ClerkId | None = None
    event_attributes: Raw = Raw(b"null")


class _WithId(Struct, frozen=True):
    id: ClerkId


class _WithKind(Struct, frozen=True):
    object: Any = None


class Event(Struct, frozen=True):
    """One message of Svix. All deliveries of a message are the same event.

    `id` is None if the change did not come by webhook; such a change is applied without a row in the inbox. `change`
    is None if the type is not handled, or if the object cannot be read; then `error` is the reason. `payload` is
    Clerk's object as JSON text, without the redacted fields. `replaced` are the fields with a value that could not be
    kept. `entity` is the kind of the object. `user_id` is the user to whom another object belongs. `carried_user` is
    the user that a session contains.
    """

    id: str | None
    type: str
    instance_id: str | None = None
    clerk_id: str | None = None
    change: Change | None = None
    error: str | None = None
    payload: str | None = None
    replaced: tuple[str, ...] = ()
    entity: str = USER.name
    user_id: str | None = None
    carried_user: Snapshot | None = None


def parse_event(message_id: str, body: bytes, redactions: Redactions = ONLY_USERS) -> Event:
    """Return the event in the body of a verified webhook, without the redacted fields of its payload.

    `redactions` names the entities that have a table; events of others are not handled. Raises `BadPayload` if the
    body is not an event. An event with an unreadable object is returned with its `error`.
    """
    try:
        event, replaced = parse_tolerantly(lambda content: _parse_event(message_id, content, redactions), body)
    except UNREADABLE_JSON as error:
        raise BadPayload(_describe_error(error)) from None
    return msgspec.structs.replace(event, replaced=replaced) if replaced else event


def _parse_event(message_id: str, body: bytes, redactions: Redactions) -> Event:
    # One decoder reads all values, once. So a value that cannot be kept affects this event only, and no batch.
    envelope = _envelope_decoder.decode(body)
    entity = ENTITY_BY_TYPE.get(envelope.type)
    message = message_id, envelope.type, envelope.instance_id
    if entity is None:
        msgspec.convert(envelope.type, _EventType)
    elif entity.name in redactions:
        fields = envelope.data
        if not isinstance(fields, dict):
            raise msgspec.ValidationError("Expected `object` - at `$.data`")
        if entity is SESSION:
            fields |= {REQUEST_FIELD: msgspec.json.decode(envelope.event_attributes)}
        return _read_object(message, entity, fields, redactions)
    elif envelope.type == SESSION_CREATED and (fields := _get_user(envelope.data)):
        return _read_object(message, USER, fields, redactions)
    return Event(*message)


def _read_object(
    message: tuple[str, str, str | None], entity: Entity, fields: dict[str, Any], redactions: Redactions
) -> Event:
    payload = msgspec.json.encode(_redact(entity, fields, redactions[entity.name])).decode()
    change, error = None, None
    try:
        change = _build_change(message[1], entity, fields)
    except UNREADABLE_JSON:
        error = name_unreadable(entity)
    return Event(
        *message,
        clerk_id=change.clerk_id if change else _read_id(fields),
        change=change,
        error=error,
        payload=payload,
        entity=entity.name,
        user_id=_find_user_id(entity, fields) if entity.parents else None,
        carried_user=_read_carried(fields) if entity is SESSION else None,
    )


def name_unreadable(entity: Entity) -> str:
    """Return the reason of an event whose object cannot be read."""
    return f"unreadable_{entity.name}"


def _redact(entity: Entity, fields: dict[str, Any], redacted: Iterable[str]) -> dict[str, Any]:
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


def _find_user_id(entity: Entity, fields: Mapping[str, Any]) -> str | None:
    paths = (parent.path for parent in entity.parents if parent.entity == USER.name)
    return next((find_parent_id(fields, path) for path in paths), None)


def _get_user(data: Any) -> dict[str, Any] | None:
    user = data.get("user") if isinstance(data, dict) else None
    return user if isinstance(user, dict) and _read_id(user) else None


def _read_carried(fields: Mapping[str, Any]) -> Snapshot | None:
    user = _get_user(fields)
    try:
        return _build_snapshot(USER, user) if user else None
    except UNREADABLE_JSON:
        return None


def parse_change(event_type: str, data: bytes, entity: Entity = USER) -> Change:
    """Return the change that an event of a handled type makes; `data` is the JSON of its object.

    Raises one of `UNREADABLE_JSON` if the object cannot be read.
    """

    def parse(content: bytes) -> Change:
        return _build_change(event_type, entity, _fields_decoder.decode(content))

    return parse_tolerantly(parse, data)[0]


def _build_change(event_type: str, entity: Entity, fields: Mapping[str, Any]) -> Change:
    if event_type == entity.deletion:
        return Deletion(msgspec.convert(fields, _WithId).id)
    return _build_snapshot(entity, fields)


def _build_snapshot(entity: Entity, fields: Mapping[str, Any]) -> Snapshot:
    resource = msgspec.convert(fields, _RESOURCES.get(entity.name, Resource))
    if entity is SESSION:
        fields = {name: value for name, value in fields.items() if name != "user"}
    return Snapshot(resource, Version.from_webhook(resource), fields)


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


def make_deletion(entity: str, clerk_id: str, message_id: str | None = None) -> Event:
    """Return the event that deletes an object, as Clerk's event does."""
    return Event(message_id, ENTITIES[entity].deletion, clerk_id=clerk_id, change=Deletion(clerk_id), entity=entity)


def _read_id(fields: Mapping[str, Any]) -> str | None:
    try:
        return msgspec.convert(fields, _WithId).id
    except UNREADABLE_JSON:
        return None


def _describe_error(error: Exception) -> str:
    # msgspec's message for a wrong type contains the field and the types, never a value.
    if isinstance(error, msgspec.ValidationError):
        return f"The body is JSON, but not an event of Clerk: {error}."
    if isinstance(error, RecursionError):
        return "The body is nested too deeply."
    return "The body is not JSON in UTF-8."


_envelope_decoder = msgspec.json.Decoder(_Envelope)
_kind_decoder = msgspec.json.Decoder(_WithKind)
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
