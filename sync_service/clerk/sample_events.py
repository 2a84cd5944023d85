"""Sample events in Clerk's format, for the `send` command, experiments and tests (pure)."""

from typing import Any

from sync_service.clerk.entities import ENTITY_BY_TYPE, MEMBERSHIP, ORGANIZATION, SESSION, USER
from sync_service.clerk.related_samples import (
    build_sample_membership,
    build_sample_organization,
    build_sample_session,
)
from sync_service.clerk.samples import build_sample_user, derive_creation_time

_OPEN_STATES = {"session.created": "active", "session.pending": "pending"}


def build_sample_event(event_type: str, user_id: str, *, milliseconds: int, number: int = 0) -> dict[str, Any]:
    """Return the body of an event of `event_type` about `user_id`, as it happened at `milliseconds` since 1970.

    An object of another kind is the one that belongs to this user. `number` selects the first name. The event has no
    `instance_id`, like older events of Clerk, so an experiment never pins an instance.
    """
    return {
        "data": _build_data(event_type, user_id, milliseconds, number),
        "event_attributes": {"http_request": {"client_ip": "192.0.2.1", "user_agent": "sync-service"}},
        "object": "event",
        "timestamp": milliseconds,
        "type": event_type,
    }


def _build_data(event_type: str, user_id: str, milliseconds: int, number: int) -> dict[str, Any]:
    data = _build_object(event_type, user_id, milliseconds, number)
    # Clerk sends a whole membership with its deletion, and of other objects only the ID.
    if event_type.endswith(".deleted") and ENTITY_BY_TYPE.get(event_type) is not MEMBERSHIP:
        return {"deleted": True, "id": data["id"], "object": data["object"]}
    return data


def _build_object(event_type: str, user_id: str, milliseconds: int, number: int) -> dict[str, Any]:
    entity = ENTITY_BY_TYPE.get(event_type)
    if entity is USER:
        created_at = min(derive_creation_time(user_id), milliseconds)
        return build_sample_user(user_id, milliseconds=milliseconds, number=number, created_at=created_at)
    if entity is SESSION:
        status = _OPEN_STATES.get(event_type, event_type.rpartition(".")[2])
        return build_sample_session(user_id, status=status, milliseconds=milliseconds, number=number)
    if entity is ORGANIZATION:
        return build_sample_organization(user_id, milliseconds=milliseconds)
    if entity is MEMBERSHIP:
        return build_sample_membership(user_id, milliseconds=milliseconds, number=number)
    return {"id": user_id, "object": event_type.partition(".")[0]}
