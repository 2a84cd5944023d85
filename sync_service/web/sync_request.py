"""The body and the parameters of POST /sync → a user, a profile."""

import time
from typing import Any

import msgspec
from msgspec import Raw, Struct, field
from starlette.requests import Request

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.json_repair import has_nul, is_deep, parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON, ClerkId
from sync_service.clerk.user import User
from sync_service.request_errors import BadRequest
from sync_service.web.body import decode_body
from sync_service.web.carry_over import CarryOverJson

# The repair of a larger body would take seconds, and a user of the app may send one.
MAX_REPAIRED_BYTES = 128 * 1024


class SyncRequest(Struct):
    """The user, with the service token. `profile` has Clerk's fields; it creates a missing row only.

    `carry_over` is data from before sign-up, which is written for the user.
    """

    user_id: ClerkId | None = None
    profile: dict[str, Any] | None = None
    carry_over: CarryOverJson = field(default_factory=Raw)


def parse_body(content: bytes) -> tuple[SyncRequest, tuple[str, ...]]:
    """Return the body, and the fields with a replaced value. Raises `BadRequest`.

    A key of the caller is no field: it may be personal, and the fields are logged.
    """
    if len(content) > MAX_REPAIRED_BYTES:
        if has_nul(content) or is_deep(content):
            raise BadRequest("A body of more than 128 KiB must not contain NUL or more than 500 levels of nesting.")
        return decode_body(_decoder, content), ()
    try:
        body, replaced = parse_tolerantly(_decoder.decode, content)
    except UNREADABLE_JSON:
        return decode_body(_decoder, content), ()  # raises the error for the caller
    return body, tuple(name for name in replaced if name in _FIELD_NAMES)


def parse_refresh(request: Request) -> bool:
    """Return the parameter `refresh`. Raises `BadRequest`."""
    text = request.query_params.get("refresh", "false").lower()
    if text not in {"true", "false", "1", "0", ""}:
        raise BadRequest("The parameter refresh must be true or false.")
    return text in {"true", "1"}


def parse_single_id(user_ids: set[str]) -> str:
    """Return the ID of the one user that the backend names. Raises `BadRequest`."""
    if len(user_ids) != 1:
        raise BadRequest("The app's backend must name one user: user_id in the body, or the header X-Clerk-User-Id.")
    try:
        return msgspec.convert(user_ids.pop(), ClerkId)
    except msgspec.ValidationError:
        raise BadRequest("user_id is not a Clerk ID.") from None


def parse_profile(clerk_id: str, profile: dict[str, Any] | None) -> Snapshot | None:
    """Return the app's profile as a snapshot of Clerk's user, older than any version from Clerk.

    Raises `BadRequest`.
    """
    if profile is None:
        return None
    if profile.get("id", clerk_id) != clerk_id:
        raise BadRequest("The profile belongs to another user.")
    updated_at = profile.get("updated_at") or int(time.time() * 1000)
    data = profile | {"id": clerk_id, "updated_at": updated_at}
    try:
        return Snapshot(msgspec.convert(data, User), Version(0, b""), data)
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadRequest(f"The profile does not consist of Clerk's fields: {error}.") from None


_FIELD_NAMES = frozenset(SyncRequest.__struct_fields__ + User.__struct_fields__)

_decoder = msgspec.json.Decoder(SyncRequest)
