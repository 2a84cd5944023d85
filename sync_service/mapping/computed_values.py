"""Values that are computed from an object of Clerk, and the properties of sources by their names (pure)."""

from collections.abc import Callable, Mapping
from typing import Any

from sync_service.clerk.entities import SESSION, USER
from sync_service.clerk.resource import Resource, Session
from sync_service.clerk.user import User

WHOLE_USER = "$"

# The source with rules of its own: uniqueness, release, linking (mapping/email_policy.py).
PRIMARY_EMAIL = "primary_email"

# Sources whose value Clerk gives to one user only. Two users have one value only until the next event of one of them.
EXCLUSIVE_SOURCES = (PRIMARY_EMAIL, "primary_phone", "username", "external_id")


def _get_email(user: User) -> str | None:
    email = user.primary_email_address
    return (email.email_address or None) if email else None


def _get_local_part(user: User) -> str | None:
    return (_get_email(user) or "").partition("@")[0] or None


def _is_email_verified(user: User) -> bool:
    email = user.primary_email_address
    return bool(email and email.verification and email.verification.status == "verified")


def _get_phone(user: User) -> str | None:
    phone = user.primary_phone_number
    return (phone.phone_number or None) if phone else None


def _join_names(user: User) -> str | None:
    return " ".join(name for name in (user.first_name, user.last_name) if name) or None


def _to_int(number: float | None) -> int | None:
    return None if number is None else int(number)


# `or None`: older events have "" instead of null. A unique column accepts null for several users, but "" only for one.
COMPUTED: Mapping[str, Callable[[User], Any]] = {
    "primary_email": _get_email,
    "primary_email_verified": _is_email_verified,
    "primary_phone": _get_phone,
    "full_name": _join_names,
    "email_local_part": _get_local_part,
    "id": lambda user: user.id,
    "username": lambda user: user.username or None,
    "first_name": lambda user: user.first_name or None,
    "last_name": lambda user: user.last_name or None,
    "image_url": lambda user: user.image_url or None,
    "external_id": lambda user: user.external_id or None,
    "banned": lambda user: bool(user.banned),
    "locked": lambda user: bool(user.locked),
    "public_metadata": lambda user: user.public_metadata or {},
    "last_sign_in_at": lambda user: _to_int(user.last_sign_in_at),
    "created_at": lambda user: _to_int(user.created_at),
    "updated_at": lambda user: _to_int(user.updated_at),
}

_OF_RESOURCES: Mapping[str, Callable[[Resource], Any]] = {
    "id": lambda resource: resource.id,
    "created_at": lambda resource: _to_int(resource.created_at),
    "updated_at": lambda resource: _to_int(resource.updated_at),
}

_OF_SESSIONS: Mapping[str, Callable[[Session], Any]] = {
    "id": lambda session: session.id,
    "created_at": lambda session: _to_int(session.created_at),
    "updated_at": lambda session: _to_int(session.not_before_creation(session.updated_at)),
    "last_active_at": lambda session: _to_int(session.not_before_creation(session.last_active_at)),
    "expire_at": lambda session: _to_int(session.not_before_creation(session.expire_at)),
    "abandon_at": lambda session: _to_int(session.not_before_creation(session.abandon_at)),
    "ended_at": lambda session: _to_int(session.ended_at),
}

_BY_ENTITY: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {USER.name: COMPUTED, SESSION.name: _OF_SESSIONS}


def get_computed(entity: str) -> Mapping[str, Callable[[Any], Any]]:
    """Return the computed values of an entity, by name."""
    return _BY_ENTITY.get(entity, _OF_RESOURCES)


# The app's own keys of the parents, by the parent. The service finds them in the tables of the parents.
PARENT_KEYS: Mapping[str, str] = {"user": "user.key", "organization": "organization.key"}

# Sources that always have a value, so that a NOT NULL column needs no `when_null` for them.
_ALWAYS = frozenset({"id", "created_at", "updated_at", WHOLE_USER, *PARENT_KEYS.values()})
NEVER_NULL_SOURCES: Mapping[str, frozenset[str]] = {
    "user": _ALWAYS | {"primary_email_verified", "banned", "locked", "public_metadata"},
    "session": _ALWAYS | {"user_id", "client_id", "status", "last_active_at", "expire_at", "abandon_at"},
    "organization": _ALWAYS | {"name", "public_metadata"},
    "membership": _ALWAYS | {"role", "public_metadata", "organization.id", "public_user_data.user_id"},
}

# Sources that do not identify a person. Their columns keep their values when a row is anonymized.
IMPERSONAL_FIELDS = frozenset(
    {
        "id",
        "primary_email_verified",
        "banned",
        "locked",
        "created_at",
        "updated_at",
        "last_sign_in_at",
        "last_active_at",
        "status",
        "expire_at",
        "abandon_at",
        "ended_at",
        "role",
        *PARENT_KEYS,
    }
)
