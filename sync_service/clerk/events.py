"""Bytes in, an event out: the body of a webhook, read once, into values.

Clerk's page: https://clerk.com/docs/guides/development/webhooks/overview ; the shapes: its OpenAPI file for webhooks.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from sync_service.clerk.values import WITHHELD, Change, ClerkId, Deletion, Snapshot, User, Version
from sync_service.errors import BadPayload

SAVED = frozenset({"user.created", "user.updated"})
DELETED = "user.deleted"
# Carries the whole user as `data.user`, so that a login heals the row; the session itself is not kept. In older events
# the user is null or absent: then there is nothing to apply.
SIGNED_IN = "session.created"

# What is applied, and so may be applied once more.
HANDLED = (*sorted(SAVED), SIGNED_IN, DELETED)

# The instance in the examples of Clerk's documentation, which its dashboard's "Send Example" posts, properly signed,
# before any real event. An installation must not take it for its own.
EXAMPLE_INSTANCE = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"

UNREADABLE = "unreadable_user"


class _Envelope(Struct, frozen=True):
    # No `timestamp`: it is seconds in some of Clerk's documents, milliseconds in others, absent in old events.
    type: Annotated[str, Meta(pattern=r"^[\w.:-]{1,128}$")]
    data: Raw = Raw()
    instance_id: ClerkId | None = None


class _Named(Struct, frozen=True):
    id: ClerkId


class _Session(Struct, frozen=True):
    user: Raw = Raw()


class Event(Struct, frozen=True):
    """One message of Svix, whatever the number of its deliveries.

    `id` is None where no message brought the change: it is applied, and nothing is filed. `change` is None when there
    is nothing to apply: the type is not handled, or `fault` says why the user in it cannot be read. `payload` is
    Clerk's user as JSON text, less what is withheld.
    """

    id: str | None
    type: str
    instance_id: str | None = None
    clerk_id: str | None = None
    change: Change | None = None
    fault: str | None = None
    payload: str | None = None


def read_event(message_id: str, body: bytes, withheld: Iterable[str] = WITHHELD) -> Event:
    """Read the body of a verified webhook; `withheld` fields do not get into its payload.

    Raises `BadPayload` for what is not an event at all. An event about a user who cannot be read is an event: it
    comes back with its `fault`.
    """
    try:
        envelope = _envelope.decode(body)
        told = _told(envelope)
        if told is None:
            return Event(message_id, envelope.type, envelope.instance_id)
        # Shallow: the values stay the bytes that Clerk sent.
        data = _shallow.decode(told)
        for secret in withheld:
            data.pop(secret, None)
        payload = msgspec.json.encode(data).decode()
    except _UNREADABLE as error:
        raise BadPayload(_why(error)) from None
    message = message_id, envelope.type, envelope.instance_id
    try:
        change = read_change(envelope.type, told)
    except _UNREADABLE:
        return Event(*message, clerk_id=_id_in(told), fault=UNREADABLE, payload=payload)
    return Event(*message, clerk_id=change.clerk_id, change=change, payload=payload)


def _told(envelope: _Envelope) -> Raw | None:
    """Return what an event says of a user, if it is of a type that is handled and says anything."""
    if envelope.type != SIGNED_IN:
        return envelope.data if envelope.type in HANDLED else None
    try:
        user = _session.decode(envelope.data).user
        _named.decode(user)
    except _UNREADABLE:
        return None
    return user


def read_change(event_type: str, data: bytes | Raw) -> Change:
    """Read what an event of a handled type says of its user; `data` is the user.

    Raises `msgspec.MsgspecError`, `UnicodeDecodeError` or `RecursionError` when it cannot be read.
    """
    if event_type == DELETED:
        return Deletion(_named.decode(data).id)
    user = _user.decode(data)
    return Snapshot(user, Version.of(user), bytes(data))


def event_of_inbox(row: Mapping[str, Any]) -> Event:
    """Return an event as the inbox kept it (`id`, `type`, `instance_id`, `clerk_id`, `payload`), read anew.

    What this code can read and an older one could not has no fault any more.
    """
    kept, fault = row["payload"], None
    change: Change | None = None
    if row["type"] == DELETED and row["clerk_id"]:
        change = Deletion(row["clerk_id"])
    elif row["type"] in HANDLED and (kept is not None or row["type"] != SIGNED_IN):
        try:
            change = read_change(row["type"], (kept or "").encode())
        except _UNREADABLE:
            fault = UNREADABLE
    return Event(row["id"], row["type"], row["instance_id"], row["clerk_id"], change, fault, kept)


def _id_in(data: Raw) -> str | None:
    try:
        return _named.decode(data).id
    except _UNREADABLE:
        return None


def _why(error: Exception) -> str:
    # msgspec's sentence for a wrong type names the field and the types, never a value.
    if isinstance(error, msgspec.ValidationError):
        return f"The body is JSON, but not an event of Clerk: {error}."
    if isinstance(error, RecursionError):
        return "The body is nested too deeply."
    return "The body is not JSON in UTF-8."


_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_envelope = msgspec.json.Decoder(_Envelope)
_shallow = msgspec.json.Decoder(dict[str, Raw])
_session = msgspec.json.Decoder(_Session)
_named = msgspec.json.Decoder(_Named)
_user = msgspec.json.Decoder(User)
