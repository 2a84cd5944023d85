"""Responses of Clerk's Backend API → a user, a count, a pause (pure)."""

import re

import msgspec

from sync_service.clerk.change import Snapshot, Version
from sync_service.clerk.json_repair import parse_tolerantly
from sync_service.clerk.resource import UNREADABLE_JSON
from sync_service.clerk.user import decode_user
from sync_service.errors import ClerkUnavailable

# Seconds.
DEFAULT_RETRY_AFTER = 5
MAX_RETRY_AFTER = 300


def parse_user(body: bytes, clerk_id: str) -> tuple[Snapshot, tuple[str, ...]]:
    """Return the user, and the fields whose value was replaced. Raises `ClerkUnavailable` without this user."""
    try:
        (user, data), replaced = parse_tolerantly(decode_user, body)
    except UNREADABLE_JSON:
        raise ClerkUnavailable("unreadable_user") from None
    if user.id != clerk_id:
        raise ClerkUnavailable("response about another user")
    return Snapshot(user, Version.from_api(user), data), replaced


def is_user_not_found(body: bytes) -> bool:
    """Return whether the body of a 404 is Clerk's."""
    try:
        errors = _errors.decode(body).errors
    except UNREADABLE_JSON:
        return False
    return any(error.code == "resource_not_found" for error in errors)


def parse_count(body: bytes) -> int | None:
    """Return the number of users; None if the body has none."""
    try:
        return _count.decode(body).total_count
    except UNREADABLE_JSON:
        return None


def parse_retry_after(value: str) -> int:
    """Return the seconds in the header `Retry-After`, within limits."""
    if not re.fullmatch("[0-9]{1,9}", value):
        return DEFAULT_RETRY_AFTER
    return max(1, min(int(value), MAX_RETRY_AFTER))


class _Error(msgspec.Struct):
    code: str


class _Errors(msgspec.Struct):
    errors: list[_Error]


class _Count(msgspec.Struct):
    total_count: int


_errors = msgspec.json.Decoder(_Errors)
_count = msgspec.json.Decoder(_Count)
