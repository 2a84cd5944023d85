"""Parse the body of a webhook into an event (pure).

https://clerk.com/docs/guides/development/webhooks/overview ; the formats are from Clerk's OpenAPI file for webhooks.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from sync_service.clerk.change import Change, Deletion, Snapshot
from sync_service.clerk.entities import ENTITIES, ENTITY_BY_TYPE, SESSION, USER, Entity
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.objects import (
    REQUEST_FIELD,
    build_change,
    find_user_id,
    get_user,
    name_unreadable,
    read_carried_user,
    read_id,
    redact,
)
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId
from sync_service.clerk.user import REDACTED_FIELDS
from sync_service.request_errors import BadPayload

# A session contains its whole user as `data.user`, so each sign-in brings the row of the user up to date. In older
# events the user is null or absent. Without a table for sessions, only this type is applied, and only its user.
SESSION_CREATED = "session.created"

# The types whose stored payload is a user.
USER_SNAPSHOT_TYPES = (*USER.snapshots, SESSION_CREATED)

# The types that an operator can replay.
HANDLED_TYPES = tuple(ENTITY_BY_TYPE)

# Clerk's dashboard sends its example events from this instance, correctly signed, perhaps before any real event. The
# service must not pin it as its own instance.
EXAMPLE_INSTANCE = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"

# The entities that have a table, each with the fields that are not stored.
Redactions: TypeAlias = Mapping[str, Iterable[str]]
ONLY_USERS: Redactions = {USER.name: REDACTED_FIELDS}

_EventType: TypeAlias = Annotated[str, Meta(pattern=r"^[\w.:-]{1,128}$")]


class _Envelope(Struct, frozen=True):
    # `timestamp` is not read: it is seconds in some of Clerk's documents, milliseconds in others, absent in old events.
    type: str
    data: Any = None
    instance_id: ClerkId | None = None
    event_attributes: Raw = Raw(b"null")


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
    elif envelope.type == SESSION_CREATED and (fields := get_user(envelope.data)):
        return _read_object(message, USER, fields, redactions)
    return Event(*message)


def _read_object(
    message: tuple[str, str, str | None], entity: Entity, fields: dict[str, Any], redactions: Redactions
) -> Event:
    payload = msgspec.json.encode(redact(entity, fields, redactions[entity.name])).decode()
    change, error = None, None
    try:
        change = build_change(message[1], entity, fields)
    except UNREADABLE_JSON:
        error = name_unreadable(entity)
    return Event(
        *message,
        clerk_id=change.clerk_id if change else read_id(fields),
        change=change,
        error=error,
        payload=payload,
        entity=entity.name,
        user_id=find_user_id(entity, fields) if entity.parents else None,
        carried_user=read_carried_user(fields) if entity is SESSION else None,
    )


def make_deletion(entity: str, clerk_id: str, message_id: str | None = None) -> Event:
    """Return the event that deletes an object, as Clerk's event does."""
    return Event(message_id, ENTITIES[entity].deletion, clerk_id=clerk_id, change=Deletion(clerk_id), entity=entity)


def _describe_error(error: Exception) -> str:
    # msgspec's message for a wrong type contains the field and the types, never a value.
    if isinstance(error, msgspec.ValidationError):
        return f"The body is JSON, but not an event of Clerk: {error}."
    if isinstance(error, RecursionError):
        return "The body is nested too deeply."
    return "The body is not JSON in UTF-8."


_envelope_decoder = msgspec.json.Decoder(_Envelope)
