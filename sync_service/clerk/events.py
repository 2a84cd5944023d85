"""Parse the body of a webhook into an event (pure).

https://clerk.com/docs/guides/development/webhooks/overview ; the formats are from Clerk's OpenAPI file for webhooks.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta, Struct

from sync_service.clerk.change import Change, Deletion, Snapshot, Version
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.user import REDACTED_FIELDS, UNREADABLE_JSON, ClerkId, User
from sync_service.errors import BadPayload

UPSERT_TYPES = frozenset({"user.created", "user.updated"})
USER_DELETED = "user.deleted"
# This event contains the whole user as `data.user`, so each sign-in brings the row up to date. The session itself is
# not stored. In older events the user is null or absent, and no change is applied.
SESSION_CREATED = "session.created"

# The types that are applied, and that an operator can replay.
SNAPSHOT_TYPES = (*sorted(UPSERT_TYPES), SESSION_CREATED)
HANDLED_TYPES = (*SNAPSHOT_TYPES, USER_DELETED)

# Clerk's dashboard sends its example events from this instance, correctly signed, perhaps before any real event. The
# service must not pin it as its own instance.
EXAMPLE_INSTANCE = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"

UNREADABLE_USER = "unreadable_user"


_EventType: TypeAlias = Annotated[str, Meta(pattern=r"^[\w.:-]{1,128}$")]


class _Envelope(Struct, frozen=True):
    # `timestamp` is not read: it is seconds in some of Clerk's documents, milliseconds in others, absent in old events.
    type: str
    data: Any = None
    instance_id: ClerkId | None = None


class _WithId(Struct, frozen=True):
    id: ClerkId


class Event(Struct, frozen=True):
    """One message of Svix. All deliveries of a message are the same event.

    `id` is None if the change did not come by webhook; such a change is applied without a row in the inbox. `change`
    is None if the type is not handled, or if the user cannot be read; then `error` is the reason. `payload` is Clerk's
    user as JSON text, without the redacted fields. `replaced` are the fields with a value that could not be kept.
    """

    id: str | None
    type: str
    instance_id: str | None = None
    clerk_id: str | None = None
    change: Change | None = None
    error: str | None = None
    payload: str | None = None
    replaced: tuple[str, ...] = ()


def parse_event(message_id: str, body: bytes, redacted: Iterable[str] = REDACTED_FIELDS) -> Event:
    """Return the event in the body of a verified webhook. Its payload does not contain the `redacted` fields.

    Raises `BadPayload` if the body is not an event. An event with an unreadable user is returned with its `error`.
    """
    try:
        event, replaced = parse_tolerantly(lambda content: _parse_event(message_id, content, redacted), body)
    except UNREADABLE_JSON as error:
        raise BadPayload(_describe_error(error)) from None
    return msgspec.structs.replace(event, replaced=replaced) if replaced else event


def _parse_event(message_id: str, body: bytes, redacted: Iterable[str]) -> Event:
    # One decoder reads all values, once. So a value that cannot be kept affects this event only, and no batch.
    envelope = _envelope_decoder.decode(body)
    fields = _extract_user(envelope)
    if fields is None:
        return Event(message_id, envelope.type, envelope.instance_id)
    kept = dict(fields)
    for name in redacted:
        kept.pop(name, None)
    payload = msgspec.json.encode(kept).decode()
    message = message_id, envelope.type, envelope.instance_id
    try:
        change = _build_change(envelope.type, fields)
    except UNREADABLE_JSON:
        return Event(*message, clerk_id=_read_id(fields), error=UNREADABLE_USER, payload=payload)
    return Event(*message, clerk_id=change.clerk_id, change=change, payload=payload)


def _extract_user(envelope: _Envelope) -> dict[str, Any] | None:
    """Return the fields of the event's user; None if the type is not handled, or if the session has no user."""
    if envelope.type not in HANDLED_TYPES:
        msgspec.convert(envelope.type, _EventType)
        return None
    data = envelope.data if isinstance(envelope.data, dict) else None
    if envelope.type == SESSION_CREATED:
        user = data.get("user") if data else None
        return user if isinstance(user, dict) and _read_id(user) else None
    if data is None:
        raise msgspec.ValidationError("Expected `object` - at `$.data`")
    return data


def parse_change(event_type: str, data: bytes) -> Change:
    """Return the change that an event of a handled type makes; `data` is the JSON of its user.

    Raises one of `UNREADABLE_JSON` if the user cannot be read.
    """

    def parse(content: bytes) -> Change:
        return _build_change(event_type, _fields_decoder.decode(content))

    return parse_tolerantly(parse, data)[0]


def _build_change(event_type: str, fields: Mapping[str, Any]) -> Change:
    if event_type == USER_DELETED:
        return Deletion(msgspec.convert(fields, _WithId).id)
    user = msgspec.convert(fields, User)
    return Snapshot(user, Version.from_webhook(user), fields)


def event_from_row(row: Mapping[str, Any]) -> Event:
    """Return the event of an inbox row (`id`, `type`, `instance_id`, `clerk_id`, `payload`).

    The payload is parsed again, so an event that an older release could not read may have no `error` now.
    """
    payload, error = row["payload"], None
    change: Change | None = None
    if row["type"] == USER_DELETED and row["clerk_id"]:
        change = Deletion(row["clerk_id"])
    elif row["type"] in HANDLED_TYPES and (payload is not None or row["type"] != SESSION_CREATED):
        try:
            change = parse_change(row["type"], (payload or "").encode())
        except UNREADABLE_JSON:
            error = UNREADABLE_USER
    return Event(row["id"], row["type"], row["instance_id"], row["clerk_id"], change, error, payload)


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
_fields_decoder = msgspec.json.Decoder(dict[str, Any])
